"""Kinds of installed packages whose runs are commands: one rank under ``nice``, and several ranks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn
from mlfn.errors import OptionError, WorkerDiedError
from tests import kinds
from tests.ledger import wait_until
from tests.packages import installed

ENTRY_POINTS = "[mlfn.kinds]\nnice = many_kinds.nice_kind:Nice\nranks = many_kinds.ranks_kind:Ranks\n"


@pytest.fixture(autouse=True)
def many_kinds(tmp_path: Path) -> Iterator[None]:
    folder = Path(kinds.__file__).parent
    modules = {path.stem: path.read_text() for path in folder.glob("*_kind.py")}
    with installed(tmp_path, "many_kinds", ENTRY_POINTS, modules):
        yield


@mlfn.function
def square(ctx: mlfn.Context, x: int) -> int:
    ctx.log_metric("niceness", os.nice(0))
    print(f"rank {ctx.rank} prints")
    return x * x


@mlfn.function
def ranked(ctx: mlfn.Context, folder: str, fail: int | None = None) -> int:
    Path(folder, f"rank-{ctx.rank}").touch()
    while len(list(Path(folder).glob("rank-*"))) < 3:
        time.sleep(0.01)
    if ctx.rank == fail:
        raise ValueError(f"rank {ctx.rank} has had enough")
    if fail is not None:
        time.sleep(60)
    return ctx.rank


@mlfn.function
def waits(folder: str) -> None:
    try:
        Path(folder, "begun").write_text(str(os.getpid()))
        time.sleep(60)
    finally:
        Path(folder, "finally").touch()


def test_a_command_runs_the_handler_in_a_process_of_its_own():
    run = square.with_options(kind="nice").submit(7)

    assert run.result(30) == 49
    assert run.metrics["niceness"] == min(19, os.nice(0) + 10)
    assert "rank 0 prints" in run.logs()
    assert run.page == "http://127.0.0.1/nice"


def test_the_value_of_rank_0_is_the_runs(tmp_path):
    from many_kinds.ranks_kind import Ranks  # type: ignore[import-not-found]

    run = ranked.with_options(kind=Ranks(size=3)).submit(str(tmp_path))

    assert run.result(30) == 0


def test_one_rank_fails_all_with_its_own_error(tmp_path):
    from many_kinds.ranks_kind import Ranks

    run = ranked.with_options(kind=Ranks(size=3)).submit(str(tmp_path), fail=2)

    with pytest.raises(ValueError, match="rank 2 has had enough"):
        run.result(30)
    assert "in ranked" in str(run.error)


def test_cancelling_reaches_the_handler(tmp_path):
    run = waits.with_options(kind="nice").submit(str(tmp_path))
    wait_until((tmp_path / "begun").exists)

    run.cancel()

    assert run.state == "cancelled"
    assert (tmp_path / "finally").exists()


def test_a_killed_command_says_how_it_ended(tmp_path):
    run = waits.with_options(kind="nice").submit(str(tmp_path))
    wait_until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())

    os.kill(int((tmp_path / "begun").read_text()), signal.SIGKILL)

    with pytest.raises(WorkerDiedError, match=r"its process ended \(signal 9, SIGKILL\) before it reported"):
        run.result(30)


def test_a_command_that_is_missing_names_itself(monkeypatch):
    from many_kinds import nice_kind

    from mlfn.backends.kinds.base import WORKER, Command

    monkeypatch.setattr(nice_kind.Nice, "launch", lambda *_: Command(("not-there-at-all", *WORKER)))

    with pytest.raises(WorkerDiedError, match=r"its command 'not-there-at-all' cannot be started.*on PATH"):
        square.with_options(kind="nice").submit(1).result(30)


def test_a_command_cannot_run_inline():
    with pytest.raises(OptionError, match="kind='nice', which runs in processes of its own: on='inline' starts none"):
        square.with_options(kind="nice").on("inline").submit(1)


def test_a_sweep_of_commands_has_its_best():
    sweep = square.with_options(kind="nice").grid(x=[1, 3, 2]).with_options(select="max.return").submit()

    assert sweep.result(60) == 9
