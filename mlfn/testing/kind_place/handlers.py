"""What the suite submits.

Each case has a copy of this file as a user's own module, so that the functions travel as a user's do. `shared` is the
folder that both sides see: a handler writes there what it does, and waits for what a case puts there.
"""

from __future__ import annotations

import base64
import datetime
import enum
import gc
import hashlib
import os
import re
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlfn

_LONGEST = 600.0


class OutOfStockError(Exception):
    """An exception of the user's own, with an attribute."""

    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.left = left


@dataclass(frozen=True)
class Point:
    """A value of the user's own class."""

    x: int
    label: str = "here"


class Color(enum.Enum):
    """A member of it is itself on both sides."""

    RED = 1


def note(shared: str, what: str, ctx: mlfn.Context) -> None:
    """Append one line to the notes, in one write, so that no line is ever torn."""
    line = f"{what} {ctx.run_id} {ctx.attempt} {ctx.rank} {os.getpid()}\n"
    descriptor = os.open(Path(shared, "notes"), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def wait_for(shared: str, name: str) -> None:
    """Wait until a file is there; raise once the case is over."""
    until = time.monotonic() + _LONGEST
    while not Path(shared, name).exists():
        if time.monotonic() > until or Path(shared, "over").exists():
            raise RuntimeError(f"the case ended before {name!r} was there")
        time.sleep(0.01)


@mlfn.function
def echo(value: Any) -> Any:
    """Return what it is given."""
    return value


@mlfn.function
@mlfn.handler(outputs=["total", "where"])
def measure(table: Path, point: Point, day: datetime.date, unit: Literal["m", "cm"] = "m") -> tuple[int, Point]:
    """Take a file, an object and a date by their annotations, and return two named outputs."""
    total = sum(int(line) for line in table.read_text().split())
    return total + day.year, Point(point.x + 1, unit)


@mlfn.function
def sell(item: str) -> None:
    """Fail two frames deep."""
    _take_from_stock(item)


def _take_from_stock(item: str) -> None:
    raise OutOfStockError(item, 0)


@mlfn.function
def double(n: int) -> int:
    """Return twice its parameter."""
    return 2 * n


@mlfn.function
def write_report(ctx: mlfn.Context) -> str:
    """Keep a file as an artifact, and return a text that is no small value."""
    path = Path("report.txt")
    path.write_text("written by the run\n")
    ctx.log_artifact("report", path)
    return "x" * 200_000


@mlfn.function
def large(size: int) -> bytes:
    """Return as many bytes as asked for."""
    return b"x" * size


@mlfn.function
def injected(ctx: mlfn.Context, n: int) -> tuple[str, int]:
    """Say which type the injected parameter has."""
    return type(ctx).__name__, n


@mlfn.function
def log_steps(count: int, ctx: mlfn.Context) -> None:
    """Log two series, one of them without steps, and one of a child."""
    with ctx.child() as child:
        for step in range(count):
            ctx.log_metric("loss", step / 8, step=step)
            ctx.log_metric("rate", -step)
            child.log_metric("loss", step)


@mlfn.function
def staged(shared: str, ctx: mlfn.Context) -> int:
    """Do one of three steps, wait for the sign to go on, do the others."""
    note(shared, "start", ctx)
    for step in ctx.progress(range(3)):
        print(f"step {step}", flush=True)  # noqa: T201 - the log is what a case reads
        ctx.log_metric("loss", step / 8, step=step)
        if step == 1:
            wait_for(shared, "go")
    note(shared, "end", ctx)
    return 7


@mlfn.function
def brief(shared: str, ctx: mlfn.Context) -> int:
    """Do the three steps at once."""
    note(shared, "start", ctx)
    for step in range(3):
        print(f"step {step}")  # noqa: T201 - the log is what a case reads
        ctx.log_metric("loss", step / 8, step=step)
    note(shared, "end", ctx)
    return 7


@mlfn.function
def chatter(shared: str, name: str, other: str) -> None:
    """Print many lines while another run does."""
    for line in range(200):
        print(f"{name} {line}", flush=True)  # noqa: T201 - the log is what a case reads
        if line == 50:
            Path(shared, name).touch()
            wait_for(shared, other)


@mlfn.function
def print_rank(ctx: mlfn.Context) -> None:
    """Print which rank it is."""
    print(f"rank {ctx.rank}", flush=True)  # noqa: T201 - the log is what a case reads


@mlfn.function
def endless(shared: str, ctx: mlfn.Context) -> None:
    """Run until it is ended."""
    note(shared, "start", ctx)
    try:
        wait_for(shared, "never")
    finally:
        note(shared, "finally", ctx)


@mlfn.function
def stubborn(shared: str, ctx: mlfn.Context) -> None:
    """Ignore SIGTERM, and show that it is alive."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(shared, "start", ctx)
    while not Path(shared, "over").exists():
        note(shared, "beat", ctx)
        time.sleep(0.02)


@mlfn.function
def limited(shared: str, seconds: float, ctx: mlfn.Context) -> None:
    """Run for some seconds, which is more than its time limit."""
    until = time.monotonic() + seconds
    note(shared, "start", ctx)
    try:
        while time.monotonic() < until and not Path(shared, "over").exists():
            time.sleep(0.01)
        note(shared, "end", ctx)
    finally:
        note(shared, "finally", ctx)


@mlfn.function
def leave() -> None:
    """Exit behind Python's back."""
    os._exit(3)


@mlfn.function
def kill_itself() -> None:
    """End by a signal."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(_LONGEST)


@mlfn.function
def hungry() -> int:
    """Take memory without end."""
    kept = []
    while True:
        kept.append(bytearray(1 << 24))


@mlfn.function
def second_time(shared: str, ctx: mlfn.Context) -> int:
    """Fail at the first attempt."""
    note(shared, "start", ctx)
    if ctx.attempt == 1:
        raise ConnectionError("at the first attempt")
    return ctx.attempt


@mlfn.function
def stays_at_first(shared: str, ctx: mlfn.Context) -> int:
    """Run until it is ended at the first attempt, and return at the next one."""
    note(shared, "start", ctx)
    if ctx.attempt == 1:
        wait_for(shared, "never")
    return ctx.attempt


@mlfn.function
def fail_in_rank(shared: str, rank: int, ctx: mlfn.Context) -> None:
    """Fail in one rank, while the others wait."""
    note(shared, "start", ctx)
    while ctx.rank == rank and Path(shared, "notes").read_text().count("start ") < ctx.size:
        time.sleep(0.01)
    if ctx.rank == rank:
        raise OutOfStockError(f"rank {rank}", rank)
    wait_for(shared, "never")


@mlfn.function
def score(x: int, shared: str, ctx: mlfn.Context) -> int:
    """Return a number; one below zero fails, and one above 99 waits for the sign to go on."""
    note(shared, f"start:{x}", ctx)
    if x > 99:
        wait_for(shared, "go")
    if x < 0:
        raise ValueError(f"{x} is below zero")
    ctx.log_metric("score", x)
    note(shared, f"end:{x}", ctx)
    return x


@mlfn.function
def report_once(x: int, ctx: mlfn.Context) -> int:
    """Report what no pruner lets pass where `x` is 0, and go on if nothing stops it."""
    ctx.log_metric("score", float("nan") if x == 0 else x, step=0)
    return x


@mlfn.function
def use_secret(name: str, digest: str, shared: str, ctx: mlfn.Context) -> list[str]:
    """Print a secret, wait, and return where this process has the key with this digest."""
    print("the secret is", ctx.secret(name), flush=True)  # noqa: T201 - the log is what a case reads
    note(shared, "start", ctx)
    wait_for(shared, "go")
    return [where for where, texts in _own_texts().items() if any(_holds_key(text, digest) for text in texts)]


@mlfn.function
def raise_secret(name: str, ctx: mlfn.Context) -> None:
    """Fail with a secret in the message."""
    raise ValueError(f"refused: {ctx.secret(name)}")


def _own_texts() -> dict[str, list[Any]]:
    """Return all texts and bytes of this process by where it has them, as far as Python can reach them."""
    environ, command = Path("/proc/self/environ"), Path("/proc/self/cmdline")
    return {
        "environment": [*os.environ.values(), environ.read_bytes() if environ.exists() else b""],
        "command line": [*sys.argv, command.read_bytes() if command.exists() else b""],
        "memory": _texts_in_memory(),
    }


def _texts_in_memory() -> list[Any]:
    found: list[Any] = []
    pending: list[Any] = [*gc.get_objects(), *(frame.f_locals for frame, _ in traceback.walk_stack(None))]
    while pending:
        for item in gc.get_referents(pending.pop()):
            if issubclass(type(item), (str, bytes, bytearray)):  # `isinstance` asks a dead weak proxy for its class
                found.append(item)
            elif not gc.is_tracked(item):  # a dict of texts alone is not among the objects
                pending.append(item)
    return found


def _holds_key(text: Any, digest: str) -> bool:
    """Say whether a text is or contains the key, as its bytes, in hexadecimal or in base64."""
    if len(text) == 32 and not isinstance(text, str) and hashlib.sha256(text).hexdigest() == digest:
        return True
    read = text if isinstance(text, str) else text.decode("latin-1")
    keys = [
        *(bytes.fromhex(found) for found in re.findall(r"[0-9a-fA-F]{64}", read)),
        *(base64.b64decode(found, "-_") for found in re.findall(r"[\w-]{43}=", read, re.ASCII)),
        *(base64.b64decode(found) for found in re.findall(r"[A-Za-z0-9+/]{43}=", read)),
    ]
    return any(hashlib.sha256(key).hexdigest() == digest for key in keys)
