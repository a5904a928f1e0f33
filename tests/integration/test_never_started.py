"""A worker that ends before its first run is no reason to start another for ever: its run ends, and says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mlfn
from mlfn import errors
from mlfn.backends.places.local import process as worker_process
from mlfn.dispatch import retry_policy
from tests.ledger import ROOT, wait_until

# Run by each worker's interpreter before anything of mlfn's: it notes the start, and may end it.
CUSTOM = """
import os, sys
if any("mlfn.worker" in part for part in sys.orig_argv):
    fd = os.open({launches!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"launch\\n")
    os.close(fd)
    number = len(open({launches!r}).readlines())
    {code}
"""


@mlfn.function
def well() -> str:
    return "well"


@mlfn.function
def touch(path: str, code: int | None = None) -> None:
    """Do next to nothing, so that runs are queued at a worker; with a code, end it while others wait for it."""
    if code is not None:
        while not Path(path).exists():
            pass
        os._exit(code)


class Interpreter:
    """What the workers started from now on run first, and how many there were."""

    def __init__(self, folder: Path, code: str) -> None:
        self.launches = folder / "launches"
        self.file = folder / "sitecustomize.py"
        self.file.write_text(CUSTOM.format(launches=str(self.launches), code=code))

    def count(self) -> int:
        return len(self.launches.read_text().splitlines()) if self.launches.exists() else 0


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Interpreter]:
    def custom(code: str) -> Interpreter:
        folder = tmp_path / "custom"
        folder.mkdir()
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        return Interpreter(folder, code)

    return custom


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_policy, "FREE_DELAY", 0.001)


def reasons(run: mlfn.Run) -> list[str | None]:
    return [attempt.reason and str(attempt.reason) for attempt in run.attempts]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('no luck', file=sys.stderr, flush=True); os._exit(7)", ["exit code 7", "It wrote:\nno luck"]),
        ("os._exit(0)", ["exit code 0"]),
        ("os.kill(os.getpid(), 11)", ["signal 11, SIGSEGV"]),
        ("os.kill(os.getpid(), 15)", ["signal 15, SIGTERM"]),
        ("sys.stderr.write('x' * 1_000_000 + 'the end'); sys.stderr.flush(); os._exit(1)", ["x" * 1000 + "the end"]),
    ],
    ids=["exit", "exit without an error", "crash", "told to end", "many words"],
)
def test_a_broken_worker_is_tried_ten_times(local, interpreter, soon, code, words):
    broken = interpreter(code)

    run = well.submit()
    error = run.exception(timeout=60)

    assert isinstance(error, errors.WorkerDiedError)
    assert (str(run.state), str(run.record.reason)) == ("failed", "never_started")
    for part in ["well: its worker ended", "before it could begin", "mlfn doctor", *words]:
        assert part in str(error)
    assert len(str(error)) < 2500
    assert reasons(run) == ["never_started"] * 11
    assert broken.count() in (11, 12), "one is started ahead of the first run"
    broken.file.unlink()
    assert well.submit().result(timeout=30) == "well"


def test_a_late_start_uses_no_retry(local, interpreter, soon, caplog):
    interpreter("if number <= 3: os._exit(7)")

    run = well.with_options(retry=mlfn.Retry(1, delay=0.01)).submit()

    assert run.result(timeout=30) == "well"
    assert set(reasons(run)[:-1]) == {"never_started"} and reasons(run)[-1] is None
    assert len(run.attempts) in (3, 4)
    said = [record for record in caplog.records if "exit code 7" in record.getMessage()]
    assert len(said) == 1, "who waits is told why, once"


def test_the_waits_grow(local, interpreter, monkeypatch):
    monkeypatch.setattr(retry_policy, "FREE_DELAY", 0.05)
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 3)
    interpreter("os._exit(7)")

    run = well.submit()
    run.exception(timeout=30)

    begun = [when for when, _, what, _ in mlfn_events(run) if what == "claimed"]
    ended = [attempt.ended for attempt in run.attempts]
    assert len(begun) == len(ended) == 4
    for number, wait in enumerate((0.05, 0.1, 0.2)):
        assert begun[number + 1] - ended[number] >= wait


def mlfn_events(run: mlfn.Run) -> list[tuple[float, int, str, str]]:
    from mlfn.dispatch.session import current_session

    return current_session().store.events(run.id)


def queued_at_one(path: Path, count: int, code: int | None = None) -> list[mlfn.Run]:
    """Return runs that one worker holds, the first of which may end it."""
    at_one = touch.on("local", max_workers=1)
    first = at_one.submit(str(path), code)
    runs = [first, *(at_one.submit(str(path)) for _ in range(count - 1))]
    wait_until(lambda: all(run.state == "running" for run in runs))
    assert len({run.record.execution for run in runs}) == 1
    return runs


def know_its_pace() -> None:
    at_one = touch.on("local", max_workers=1)
    mlfn.wait([at_one.submit("") for _ in range(30)])


# The first worker takes no run until `go` is there, and ends then.
WAITS = """
    from mlfn.worker.binding import Binding
    whole = Binding.apply
    def apply(self):
        whole(self)
        if not os.path.exists({mark!r}):
            open({mark!r}, "w").close()
            while not os.path.exists({go!r}):
                pass
            os._exit(7)
    Binding.apply = apply
"""


def test_a_dead_worker_costs_only_its_first_run(local, tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 0)
    know_its_pace()
    go = tmp_path / "go"
    interpreter(WAITS.format(go=str(go), mark=str(tmp_path / "mark")))

    first, *others = queued_at_one(go, 5)
    go.touch()

    assert isinstance(first.exception(timeout=30), errors.WorkerDiedError)
    assert reasons(first) == ["never_started"]
    for run in others:
        run.result(timeout=30)
        assert reasons(run) == [None]
    starts = [run.attempts[0].started for run in others]
    assert starts == sorted(starts), "they keep their order"


def test_queued_runs_survive_their_worker(local, tmp_path, monkeypatch):
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 0)
    know_its_pace()
    go = tmp_path / "go"
    at_one = touch.on("local", max_workers=1)

    first = at_one.submit(str(go), 3)
    others = [at_one.submit(str(go)) for _ in range(4)]
    go.touch()

    assert "exit code 3" in str(first.exception(timeout=30))
    assert reasons(first) == ["error"]
    for run in others:
        run.result(timeout=30)
        assert reasons(run) == [None]


@pytest.mark.parametrize(
    ("error", "words"),
    [(FileNotFoundError(2, "No such file"), "No worker process can be started"), (RuntimeError("odd"), "odd")],
    ids=["no interpreter", "anything else"],
)
def test_a_failed_launch_fails_its_run(local, monkeypatch, error, words):
    calls = []

    def launch(python: str) -> None:
        calls.append(python)
        raise error

    monkeypatch.setattr(worker_process, "launch", launch)

    run = well.submit()

    assert words in str(run.exception(timeout=30))
    assert (str(run.record.reason), run.attempts) == ("never_started", [])
    assert len(calls) <= 2, "one for the run, one ahead of it"
    monkeypatch.undo()


def test_a_grid_without_workers_fails(local, interpreter, soon, monkeypatch):
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 2)
    broken = interpreter("print('no luck', file=sys.stderr, flush=True); os._exit(7)")

    sweep = touch.grid(path=[str(i) for i in range(6)]).submit()
    error = sweep.exception(timeout=60)

    assert isinstance(error, errors.SweepError) and "all 6 children failed" in str(error)
    assert sweep.state == "failed"
    assert [reasons(child) for child in sweep.children] == [["never_started"] * 3] * 6
    assert broken.count() <= 6 * 3 + os.cpu_count(), "each attempt has a worker, and some are started ahead"


def test_a_grid_with_too_little_memory_fails(local):
    sweep = mlfn.function(touch.__wrapped__, name="small", mem="1Mi").grid(path=["a", "b", "c"]).submit()

    assert "mem=1Mi" in str(sweep.exception(timeout=60))
    assert [reasons(child) for child in sweep.children] == [["oom"]] * 3


@pytest.mark.parametrize("mem", ["1Mi", "4Mi", "16Mi"])
def test_too_little_memory_for_workers_is_oom(local, mem):
    run = mlfn.function(well.__wrapped__, name="small", mem=mem).submit()

    error = run.exception(timeout=30)

    assert isinstance(error, errors.OutOfMemoryError) and isinstance(error, MemoryError)
    assert f"small ran into its limit of mem={mem}" in str(error) and "raise mem=" in str(error)
    assert "a worker alone takes" in str(error)
    assert reasons(run) == ["oom"]


# There may be enough for binding a worker, and not for its first run.
NO_ROOM = """
    from mlfn.worker import mailbox
    whole = mailbox.unpack_message
    def unpack(body):
        message = whole(body)
        if "params" in message:
            raise MemoryError
        return message
    mailbox.unpack_message = unpack
"""


def test_memory_ending_before_a_limited_run_is_oom(local, interpreter):
    interpreter(NO_ROOM)

    run = mlfn.function(well.__wrapped__, name="small", mem="64Mi").submit()
    error = run.exception(timeout=30)

    assert isinstance(error, errors.OutOfMemoryError)
    assert str(error) == "small ran into its limit of mem=64Mi before it could begin; raise mem=, or use less."
    assert reasons(run) == ["oom"]


def test_memory_ending_before_an_unlimited_run_is_retried(local, interpreter, soon, monkeypatch):
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 2)
    interpreter(NO_ROOM)

    run = well.submit()
    error = run.exception(timeout=30)

    assert isinstance(error, errors.WorkerDiedError)
    assert "exit code 1" in str(error) and str(error).endswith("MemoryError")
    assert reasons(run) == ["never_started"] * 3


def test_what_a_worker_wrote_shows_no_secret(local, interpreter, soon, monkeypatch):
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 0)
    monkeypatch.setenv("API_TOKEN", "hush-hush-hush")
    interpreter("print('with hush-hush-hush in it', file=sys.stderr, flush=True); os._exit(7)")

    run = mlfn.function(well.__wrapped__, name="guarded", secrets=["api-token"]).submit()
    error = run.exception(timeout=30)

    assert "It wrote:\nwith " in str(error) and "hush" not in str(error)


def test_a_worker_stopped_before_its_run_counts(local, interpreter, monkeypatch):
    monkeypatch.setattr(retry_policy, "MAX_FREE_ATTEMPTS", 0)
    freeze = """
    import signal
    import time
    from mlfn.worker.binding import Binding
    whole = Binding.apply
    def apply(self):
        whole(self)
        while not os.path.exists(os.path.join(self.plan["folder"], "beat")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGSTOP)
    Binding.apply = apply
"""
    interpreter(freeze)

    run = well.submit()

    assert f"signal {int(signal.SIGKILL)}" in str(run.exception(timeout=30))
    assert reasons(run) == ["never_started"]
