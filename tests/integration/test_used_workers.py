"""A worker that is used again: each run finds what the first one found, whatever the runs before it have done."""

from __future__ import annotations

import decimal
import locale
import logging
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import mlfn


def leave_folder() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def folder() -> str:
    return os.getcwd()


def leave_environment() -> None:
    os.environ["LEFT"] = "behind"
    os.environ["TZ"] = "Asia/Tokyo"
    del os.environ["HOME"]


def environment() -> dict[str, str]:
    return dict(os.environ)


def leave_streams() -> None:
    import io

    sys.stdout = sys.stderr = io.StringIO()


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.detach()  # type: ignore[union-attr]
    sys.stdin = None  # type: ignore[assignment]


def streams() -> list[Any]:
    print("on stdout")
    print("on stderr", file=sys.stderr)
    return [sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors, sys.stdin.read()]


def leave_path() -> None:
    sys.path.insert(0, "/not/there")
    sys.argv = ["left", "behind"]


def path() -> list[Any]:
    return [list(sys.path), sys.argv]


def leave_signals() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.alarm(1)


def signals() -> list[str]:
    return [
        *(repr(type(signal.getsignal(number))) for number in (signal.SIGUSR1, signal.SIGTERM)),
        repr(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        str(signal.alarm(0)),
    ]


def leave_warnings() -> None:
    warnings.simplefilter("ignore")
    logging.captureWarnings(True)


def warned() -> int:
    warnings.simplefilter("default", UserWarning, append=True)
    warnings.warn("once a place", UserWarning, stacklevel=1)
    return len(warnings.filters)


def leave_logging() -> None:
    logging.basicConfig(level=logging.DEBUG, format="left behind %(message)s")
    logging.getLogger("train").setLevel(logging.ERROR)
    logging.getLogger("train").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("mlfn.run").handlers.clear()
    logging.disable(logging.CRITICAL)


def logs() -> list[Any]:
    logging.getLogger("train").warning("a line of train")
    mlfn.context().logger.info("a line of the run")
    loggers = [logging.getLogger(name) for name in ("", "train", "mlfn.run")]
    return [[logger.level, len(logger.handlers)] for logger in loggers]


def leave_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C")


def localised() -> str:
    return locale.setlocale(locale.LC_ALL)


def leave_umask() -> None:
    os.umask(0o777)


def umask() -> int:
    found = os.umask(0o77)
    os.umask(found)
    return found


def leave_contexts() -> None:
    decimal.getcontext().prec = 3
    socket.setdefaulttimeout(3)
    sys.setrecursionlimit(3000)
    np.seterr(all="raise")


def contexts() -> list[Any]:
    return [decimal.getcontext().prec, socket.getdefaulttimeout(), sys.getrecursionlimit(), np.geterr()]


def leave_hooks() -> None:
    sys.unraisablehook = sys.breakpointhook = threading.excepthook = print  # type: ignore[assignment]
    sys.setswitchinterval(0.5)
    signal.signal(signal.SIGPROF, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 100)


def hooks() -> list[Any]:
    found = (sys.unraisablehook, sys.breakpointhook, threading.excepthook)
    return [*(hook is print for hook in found), sys.getswitchinterval(), signal.getitimer(signal.ITIMER_PROF)[0]]


def leave_limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (90, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def leave_temporary_folder() -> None:
    tempfile.tempdir = "/not/there"


def temporary_folder() -> str:
    return tempfile.gettempdir()


CHANGES: list[tuple[Callable[[], None], Callable[[], Any]]] = [
    (leave_folder, folder),
    (leave_environment, environment),
    (leave_streams, streams),
    (close_streams, streams),
    (leave_path, path),
    (leave_signals, signals),
    (leave_warnings, warned),
    (leave_logging, logs),
    (leave_locale, localised),
    (leave_umask, umask),
    (leave_contexts, contexts),
    (leave_hooks, hooks),
    (leave_limits, limits),
    (leave_temporary_folder, temporary_folder),
]


@mlfn.function
def look(leave: Callable[[], None] | None, see: Callable[[], Any]) -> tuple[int, Any]:
    found = see()
    if leave is not None:
        leave()
    return os.getpid(), found


def shown(run: mlfn.Run[Any]) -> list[str]:
    return [line.partition(" WARNING ")[2] or line.partition(" INFO ")[2] or line for line in run.logs().splitlines()]


@pytest.mark.parametrize(("leave", "see"), CHANGES, ids=[leave.__name__ for leave, _ in CHANGES])
def test_what_one_run_changes_the_next_one_does_not_find(local, leave, see):
    first, second = (look.on("local", max_workers=1).submit(*given, see) for given in ((leave,), (None,)))

    assert first.result(timeout=30) == second.result(timeout=30)  # of one process
    assert shown(first) == shown(second)


def test_a_run_that_fails_leaves_nothing_behind_either(local):
    @mlfn.function
    def change(fail: bool) -> str:
        before = os.getcwd()
        os.chdir("/")
        if fail:
            raise ValueError("after the change")
        return before

    first, second = (change.on("local", max_workers=1).submit(fail=fail) for fail in (True, False))

    assert isinstance(first.exception(timeout=30), ValueError)
    assert second.result(timeout=30) == os.getcwd()


def test_what_a_run_wrote_without_a_newline_is_in_its_own_log(local):
    @mlfn.function
    def speak(i: int) -> None:
        print(i, end="")
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115

    runs = [speak.on("local", max_workers=1).submit(i) for i in range(2)]
    mlfn.wait(runs)

    assert [run.logs() for run in runs] == ["0", "1"]


def test_what_a_run_has_seeded_is_not_the_beginning_of_the_next_one(local):
    @mlfn.function
    def draw(seed: int | None) -> tuple[int, float, float]:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)
        return os.getpid(), random.random(), float(np.random.random())

    draw.submit(7).result(timeout=30)
    found = [draw.submit(None).result(timeout=30) for _ in range(3)]
    draw.submit(7).result(timeout=30)
    again = [draw.submit(None).result(timeout=30) for _ in range(3)]

    assert len({pid for pid, _, _ in found + again}) == 1
    assert len({python for _, python, _ in found + again}) == len({numpy for _, _, numpy in found + again}) == 6


@dataclass
class Options:
    depth: int = 4
    seen: list[int] = field(default_factory=list)


MISSING: list[int] = []


def note(item: int, noted: list[int] = []) -> list[int]:  # noqa: B006
    return [*noted, noted.append(item) or item]


@mlfn.function
def gather(
    item: int,
    plain: list[int] = [],  # noqa: B006
    nested: dict[str, list[int]] = {"a": []},  # noqa: B006
    options: Options = Options(),  # noqa: B008
    missing: list[int] = MISSING,
    *,
    by_name: set[int] = set(),  # noqa: B006
) -> Any:
    plain.append(item)
    nested["a"].append(item)
    nested.setdefault("b", []).append(item)
    by_name.add(item)
    options.depth += item
    options.seen.append(item)
    return plain, nested, by_name, options.depth, options.seen, missing is MISSING, note(item)


def test_a_default_that_a_run_has_filled_is_empty_for_the_next_one(local):
    expected = ([1], {"a": [1], "b": [1]}, {1}, 5, [1], True, [1])

    assert gather.submit(1).result(timeout=30) == expected
    assert gather.submit(1).result(timeout=30) == expected


def test_loggers_that_imported_modules_have_made_stay_theirs(local, tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import logging, sys\nlog = logging.getLogger('noisy')\nlog.setLevel(10)\nlog.addHandler(logging.StreamHandler())\n"
    )

    @mlfn.function
    def speak(folder: str) -> None:
        sys.path.insert(0, folder)
        import noisy  # type: ignore[import-not-found]

        noisy.log.info("heard")

    runs = [speak.on("local", max_workers=1).submit(str(tmp_path)) for _ in range(2)]
    mlfn.wait(runs)

    assert [run.logs() for run in runs] == ["heard\n", "heard\n"]
