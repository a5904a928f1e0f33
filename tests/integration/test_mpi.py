"""Functions in the ranks of a real mpirun: what they compute, and what becomes of all when one fails, dies or hangs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

import mlfn
from mlfn import errors
from mlfn.host.identity import identify
from tests.ledger import wait_until

TWO = mlfn.Mpi(replicas=2)
pytestmark = pytest.mark.usefixtures("local")


@mlfn.function(kind=TWO)
def add_up(ctx: mlfn.Context) -> tuple[int, list[tuple[int, int, int]]]:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    print("to stdout")
    total = world.allreduce(ctx.rank + 1)
    return total, world.allgather((ctx.rank, ctx.size, ctx.local_rank))


@mlfn.function(kind=TWO)
def misses(ctx: mlfn.Context, folder: str, how: str) -> None:
    from mpi4py import MPI

    Path(folder, f"rank-{ctx.rank}").write_text(str(os.getpid()))
    MPI.COMM_WORLD.Barrier()
    if ctx.rank == 1:
        ends(how)
    MPI.COMM_WORLD.allreduce(1)


def ends(how: str) -> None:
    if how == "raise":
        raise ValueError("rank 1 has had enough")
    if how == "exit":
        os._exit(3)
    if how == "sleep":
        time.sleep(120)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[how])
    time.sleep(120)


@mlfn.function(kind=TWO)
def talks_without_mpi4py() -> int:
    sys.modules["mpi4py"] = None  # type: ignore[assignment] # as where it is not installed
    from mpi4py import MPI

    return int(MPI.COMM_WORLD.Get_size())


@mlfn.function(kind=TWO)
def scale(ctx: mlfn.Context, x: int) -> int:
    from mpi4py import MPI

    return x * MPI.COMM_WORLD.allreduce(1)


@mlfn.function(kind=TWO)
def works(folder: str, ctx: mlfn.Context) -> str:
    Path(folder, f"rank-{ctx.rank}").write_text(str(os.getpid()))
    try:
        while not Path(folder, "go").exists():
            time.sleep(0.05)
    finally:
        Path(folder, f"finally-{ctx.rank}").touch()
    return "done"


def pids(folder: Path) -> list[int]:
    """Return the pids of both ranks, once they are there."""
    paths = [folder / "rank-0", folder / "rank-1"]
    wait_until(lambda: all(path.exists() and path.read_text() for path in paths), timeout=60)
    return [int(path.read_text()) for path in paths]


def is_gone(pid: int) -> bool:
    return identify(pid).state() == "gone"


def miss(folder: Path, how: str, timeout: float | None = None) -> mlfn.Run[None]:
    return misses.with_options(timeout=timeout).submit(str(folder), how)


def test_a_missing_mpi4py_is_named_with_what_to_type():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'mpi4py'.*: pip install mpi4py, where they run"):
        talks_without_mpi4py.submit().result(60)


def test_ranks_compute_together_and_rank_0_returns() -> None:
    run = add_up.submit()

    assert run.result(60) == (3, [(0, 2, 0), (1, 2, 1)])
    assert sorted(run.logs().splitlines()) == ["[0] to stdout", "[1] to stdout"]
    assert run.logs(rank=1) == "to stdout\n"


def test_more_replicas_of_more_slots_are_more_ranks() -> None:
    run = add_up.with_options(kind=mlfn.Mpi(replicas=2, slots=2)).submit()

    assert run.result(60)[0] == 1 + 2 + 3 + 4


def test_a_rank_that_raises_ends_the_others(tmp_path: Path) -> None:
    run = miss(tmp_path, "raise")
    ranks = pids(tmp_path)
    begun = time.monotonic()

    with pytest.raises(ValueError, match="rank 1 has had enough"):
        run.result(60)

    assert time.monotonic() - begun < 15
    assert "in ends" in str(run.error)
    wait_until(lambda: all(map(is_gone, ranks)), timeout=10)
    assert "in misses" in run.logs(rank=0), "where the other one waited"


@pytest.mark.parametrize(("how", "said"), [("kill", "signal 9, SIGKILL"), ("exit", "exit code 3")])
def test_a_rank_that_ends_is_named_with_how(tmp_path: Path, how: str, said: str) -> None:
    run = miss(tmp_path, how)
    ranks = pids(tmp_path)

    with pytest.raises(
        errors.WorkerDiedError, match=rf"rank 1 ended \({said}\) before it reported.*run.logs\(rank=1\)"
    ):
        run.result(60)

    wait_until(lambda: all(map(is_gone, ranks)), timeout=10)


def test_a_timeout_shows_where_each_rank_stood(tmp_path: Path) -> None:
    run = miss(tmp_path, "sleep", timeout=6)
    ranks = pids(tmp_path)

    with pytest.raises(errors.RunTimeoutError, match="within its timeout of 6 s"):
        run.result(60)

    wait_until(lambda: all(map(is_gone, ranks)), timeout=10)
    assert "in ends" in run.logs(rank=1) and "in ends" not in run.logs(rank=0)
    assert "rank 1 was stopped here" in str(run.error) and "in ends" in str(run.error)


def test_a_frozen_rank_is_missed_before_any_timeout(tmp_path: Path) -> None:
    run = miss(tmp_path, "stop")

    with pytest.raises(errors.RunError, match=r"rank 1 was stopped \(SIGSTOP\) and sent no heartbeat"):
        run.result(60)

    assert run.record.reason == "lost"


def test_slow_work_is_no_hang(tmp_path: Path) -> None:
    run = works.submit(str(tmp_path))
    pids(tmp_path)

    time.sleep(3)  # fifteen heartbeats
    assert run.state == "running"
    (tmp_path / "go").touch()

    assert run.result(60) == "done"


def test_a_sweep_has_children_of_two_ranks() -> None:
    sweep = scale.grid(x=[1, 3, 2]).with_options(select="max.return").submit()

    assert sweep.result(120) == 6
    assert [child.result() for child in sweep.children] == [2, 6, 4]


def test_cancelling_a_waiting_run_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    placed = works.on("local", max_workers=2)
    first = placed.submit(str(tmp_path / "first"))
    pids(tmp_path / "first")
    second = placed.submit(str(tmp_path / "second"))

    assert second.cancel()
    (tmp_path / "first" / "go").touch()

    assert first.result(60) == "done"
    assert second.state == "cancelled" and not list((tmp_path / "second").iterdir())


def test_cancelling_while_the_launcher_starts_ends_it(tmp_path: Path) -> None:
    run = works.submit(str(tmp_path))
    wait_until(lambda: run.state == "running" or bool(launchers(tmp_path)), timeout=60)

    assert run.cancel()

    assert run.state == "cancelled"
    assert launchers(tmp_path) == []


def launchers(folder: Path) -> list[str]:
    """Return the command lines of mpirun that run for this test's data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "mpirun" in command and str(folder) in command:
            found.append(command)
    return found


def test_cancelling_running_ranks_runs_each_finally(tmp_path: Path) -> None:
    run = works.submit(str(tmp_path))
    ranks = pids(tmp_path)

    assert run.cancel()

    assert run.state == "cancelled"
    assert {path.name for path in tmp_path.glob("finally-*")} == {"finally-0", "finally-1"}
    wait_until(lambda: all(map(is_gone, ranks)), timeout=10)


def test_cancelling_ranks_in_a_collective_takes_no_longer_than_grace(tmp_path: Path) -> None:
    run = miss(tmp_path, "sleep")
    ranks = pids(tmp_path)
    begun = time.monotonic()

    assert run.cancel()

    assert time.monotonic() - begun < 2 + 5
    wait_until(lambda: all(map(is_gone, ranks)), timeout=10)


def test_no_rank_outlives_its_supervisor(tmp_path: Path) -> None:
    run = works.submit(str(tmp_path))
    ranks = pids(tmp_path)
    worker = parent(parent(parent(ranks[0])))

    os.kill(worker, signal.SIGKILL)

    assert isinstance(run.exception(60), errors.WorkerDiedError)
    wait_until(lambda: all(map(is_gone, ranks)), timeout=10)


def parent(pid: int) -> int:
    return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])


def test_a_missing_mpirun_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: shutil.which(name) for name in ("env", "sh")}
    for name, path in found.items():
        (tmp_path / name).symlink_to(str(path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(
        errors.WorkerDiedError, match="needs mpirun, which is not there: type `apt-get install openmpi-bin`"
    ):
        scale.submit(1).result(60)


def test_arguments_reach_mpirun() -> None:
    run = add_up.with_options(kind=mlfn.Mpi(mpi_args=["--no-such-option", "{x}"])).submit()

    assert isinstance(run.exception(60), errors.WorkerDiedError)
    assert "no-such-option" in run.logs()


def test_a_rank_that_is_not_there_has_no_log() -> None:
    run = add_up.submit()

    with pytest.raises(errors.ParameterError, match=r"rank=2 has no log: a whole number from 0 to 1 is allowed"):
        run.logs(rank=2)
    assert run.wait(60)


def test_missing_horovod_says_what_to_type() -> None:
    run = scale.with_options(kind="horovod").submit(1)

    with pytest.raises(
        errors.WorkerDiedError, match="needs horovod, which is not there: type `HOROVOD_WITH_TENSORFLOW=1"
    ):
        run.result(60)
