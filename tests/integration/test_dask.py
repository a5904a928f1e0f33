"""Runs as tasks of a Dask cluster that others use too, and its faults, on real schedulers and workers."""

from __future__ import annotations

import itertools
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.dask import connection, place
from mlfn.dispatch.session import current_session
from mlfn.errors import OptionError, OutOfMemoryError, PlaceError, RunError, RunLostError, RunTimeoutError
from tests.dask_cluster import dask_cluster, kill, pids
from tests.ledger import wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Give the module a cluster of two workers with one thread each."""
    with dask_cluster(workers=2) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    """Connect to that cluster as another user of it."""
    from distributed import Client

    with Client(address, set_as_default=False) as found:
        yield found


@pytest.fixture(autouse=True)
def data(local: Path) -> Path:
    return local


def there(function: Any, address: str, **options: Any) -> Any:
    return function.with_options(kind=mlfn.Dask(address=address), **options)


def own_client() -> Any:
    """Return the client of the only cluster that mlfn is connected to."""
    [dispatcher] = current_session()._dispatchers.values()
    return dispatcher._place._connection.client


@mlfn.function
def square(x: int) -> int:
    return x * x


@mlfn.function
def fan_out(n: int, ctx: mlfn.Context) -> int:
    return sum(ctx.dask_client.gather(ctx.dask_client.map(lambda x: x + 1, range(n))))


@mlfn.function
def at_first(folder: str, ctx: mlfn.Context) -> int:
    """Wait for ever at the first attempt."""
    Path(folder, f"begun-{ctx.attempt}").write_text(str(os.getpid()))
    try:
        while ctx.attempt == 1:
            time.sleep(0.01)
    finally:
        Path(folder, f"finally-{ctx.attempt}").touch()
    return ctx.attempt


@mlfn.function
def deaf(folder: str, seconds: float) -> None:
    Path(folder, "begun").write_text(str(os.getpid()))
    time.sleep(seconds)


@mlfn.function
def greedy() -> int:
    kept = []
    while True:
        kept.append(bytearray(1 << 24))
        time.sleep(0.02)


@mlfn.function
def threads_at_work(x: int) -> tuple[int, float, float]:
    begun = time.time()
    time.sleep(0.05)
    return os.getpid(), begun, time.time()


@mlfn.function
def look_around(ctx: mlfn.Context) -> tuple[set[int], list[dict[str, Any]]]:
    """Return the processes of the workers, and what the scheduler knows of each worker."""
    client = ctx.dask_client
    return set(pids(client).values()), list(client.scheduler_info(n_workers=-1)["workers"].values())


@mlfn.function
def wait_for_workers(count: int, ctx: mlfn.Context) -> tuple[int, int]:
    """Return how many workers there were, and how many once there was work for more."""
    client = ctx.dask_client
    first = len(pids(client))
    tasks = client.map(lambda _: time.sleep(0.5), range(1000), pure=False)
    most = wait_until(lambda: len(found := pids(client)) >= count and len(found), timeout=120)
    client.cancel(tasks, force=True)
    return first, most


def begun(folder: Path, name: str = "begun-1") -> int:
    path = folder / name
    return int(wait_until(lambda: path.exists() and path.read_text(), timeout=60))


def test_a_handler_fans_out_from_its_task(address):
    assert there(fan_out, address).submit(10).result(60) == 55


def test_a_plain_call_has_no_dask_client():
    with pytest.raises(PlaceError, match=r"fan_out is no task of a Dask cluster|local is no task of a Dask cluster"):
        fan_out(3)


def test_a_client_stands_for_its_address(client):
    assert square.with_options(kind=mlfn.Dask(address=client)).submit(3).result(60) == 9


def test_all_children_of_a_sweep_come_back(address):
    sweep = there(square, address).grid(x=list(range(300))).with_options(select="max.return").submit()

    assert sweep.result(120) == 299**2
    assert [child.state for child in sweep.children] == ["succeeded"] * 300


def test_a_cancel_ends_nothing_else(address, client, tmp_path):
    foreign = client.submit(lambda: time.sleep(3) or "mine", pure=False)
    run = there(at_first, address).submit(str(tmp_path))
    begun(tmp_path)

    assert run.cancel()

    assert (tmp_path / "finally-1").exists()
    assert foreign.result(30) == "mine"
    assert len(pids(client)) == 2


def test_a_queued_task_is_taken_back(address, tmp_path):
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    runs = [there(at_first, address).submit(str(folder)) for folder in folders]
    wait_until(lambda: sum((folder / "begun-1").exists() for folder in folders) == 2)
    [queued] = [run for run, folder in zip(runs, folders, strict=True) if not (folder / "begun-1").exists()]

    assert queued.cancel()

    assert queued.state == "cancelled"
    for run in runs:
        run.cancel()
    assert sum((folder / "begun-1").exists() for folder in folders) == 2


def test_a_killed_worker_is_an_attempt(address, tmp_path):
    run = there(at_first, address, retry=mlfn.Retry(1, delay=0)).submit(str(tmp_path))

    pid = begun(tmp_path)
    wait_until(lambda: run.state == "running")
    kill(pid)

    assert run.result(60) == 2
    first, second = run.attempts
    assert (first.reason, second.state) == ("lost", "succeeded")
    assert "its worker (tcp://" in str(first.failure) and "died" in str(first.failure)


def test_a_killed_worker_is_named_without_a_retry(address, tmp_path):
    run = there(at_first, address).submit(str(tmp_path))

    pid = begun(tmp_path)
    wait_until(lambda: run.state == "running")
    kill(pid)

    with pytest.raises(RunLostError, match=r"at_first: its worker \(tcp://.*\) of the Dask cluster at tcp://.* died"):
        run.result(60)


def test_that_runs_at_an_address_end_with_their_client_is_said_once(address, caplog):
    place._say_once.cache_clear()

    for x in (1, 2):
        there(square, address, timeout=60 + x).submit(x).result(60)
    square.with_options(kind=mlfn.Dask(workers=1)).submit(3).result(60)

    assert (
        caplog.messages.count(
            f"runs at the Dask cluster at {address} end with this process; whoever next asks for one has it tried again"
        )
        == 1
    )
    assert caplog.text.count("end with this process") == 1


def test_a_dead_scheduler_is_named(tmp_path):
    with dask_cluster(workers=1) as address:
        run = there(at_first, address).submit(str(tmp_path))
        begun(tmp_path)
        wait_until(lambda: run.state == "running")
        kill(own_client().run_on_scheduler(os.getpid))

        with pytest.raises(RunLostError, match=r"the scheduler of the Dask cluster at .* is gone"):
            run.result(60)


def test_too_much_memory_has_its_reason(tmp_path):
    run = greedy.with_options(kind=mlfn.Dask(workers=1, mem="400Mi")).submit()

    with pytest.raises(OutOfMemoryError, match=r"exceeded its limit of mem=400Mi, so its nanny ended it"):
        run.result(120)
    assert run.record.reason == "oom"


def test_workers_are_as_they_were_asked_for():
    processes, workers = look_around.with_options(kind=mlfn.Dask(workers=2, threads=3, mem="400Mi")).submit().result(60)

    assert len(processes) == 2
    assert [(worker["nthreads"], worker["memory_limit"]) for worker in workers] == [(3, 400 << 20)] * 2
    assert all(worker["nanny"] for worker in workers)


def test_workers_without_a_nanny_are_threads_of_one_process():
    processes, workers = look_around.with_options(kind=mlfn.Dask(workers=2, nanny=False)).submit().result(60)

    assert (len(processes), [worker["nanny"] for worker in workers]) == (1, [None, None])


def test_an_adaptive_cluster_grows_with_its_work():
    assert wait_for_workers.with_options(kind=mlfn.Dask(adaptive=(1, 3))).submit(2).result(180) in [(1, 2), (1, 3)]


def test_a_run_that_goes_on_says_where_its_cluster_is_seen(address, tmp_path, monkeypatch):
    # Without bokeh the page is there as well, and says that it is missing.
    monkeypatch.setattr(connection, "dashboard_of", lambda client: client.dashboard_link)
    run = there(at_first, address).submit(str(tmp_path))
    begun(tmp_path)

    page = wait_until(lambda: run.page)
    run.cancel()

    with urllib.request.urlopen(page) as answer:
        assert answer.status == 200


def test_a_deaf_task_goes_with_its_worker(tmp_path):
    run = deaf.with_options(kind=mlfn.Dask(workers=1)).submit(str(tmp_path), 600.0)
    pid = begun(tmp_path, "begun")

    assert run.cancel()

    assert run.state == "cancelled"
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def test_a_deaf_task_of_a_shared_worker_is_abandoned(address, tmp_path, caplog):
    run = there(deaf, address).submit(str(tmp_path), 8.0)
    pid = begun(tmp_path, "begun")

    assert run.cancel()

    assert run.state == "cancelled"
    assert "cannot be interrupted: it is abandoned, and goes on at worker tcp://" in caplog.text
    assert Path(f"/proc/{pid}").exists()


def test_a_time_limit_ends_the_task(address, tmp_path):
    run = there(at_first, address, timeout=1.0).submit(str(tmp_path))

    with pytest.raises(RunTimeoutError, match="1 s"):
        run.result(60)
    assert (tmp_path / "finally-1").exists()


def test_a_window_keeps_so_many_at_work(address):
    sweep = there(threads_at_work, address).map(range(8)).with_options(parallel=1).submit()

    spans = sorted((begun, ended) for _, begun, ended in sweep)

    assert all(ended <= begun + 0.01 for (_, ended), (begun, _) in itertools.pairwise(spans))


def test_an_address_without_a_scheduler_is_named():
    run = square.with_options(kind=mlfn.Dask(address="tcp://127.0.0.1:1")).submit(1)

    with pytest.raises((PlaceError, RunError), match=r"No Dask scheduler answers at tcp://127.0.0.1:1"):
        run.result(300)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mem": "1Gi"}, "Dask"),
        ({"gpus": 1}, "devices"),
        ({"env": {"A": "b"}}, "Set them where the workers start"),
        ({"secrets": ["TOKEN"]}, "a task is no place for secrets"),
    ],
)
def test_what_a_task_cannot_keep_is_refused(address, options, said):
    with pytest.raises(OptionError, match=said):
        there(square, address, **options).submit(1)


def test_options_of_local_workers_are_refused(address):
    with pytest.raises(OptionError, match=r"on\('local', max_workers=2\), which is for runs in worker processes"):
        there(square, address).on("local", max_workers=2).submit(1)


def test_dask_does_not_run_inline():
    with pytest.raises(OptionError, match="kind='dask' does not run on='inline'"):
        square.with_options(kind="dask").on("inline").submit(1)
