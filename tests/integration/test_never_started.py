"""A worker that ends before its first run is no reason to start another for ever: its run ends, and says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mlfn
from mlfn import errors, verdict
from mlfn.places import process as worker_process
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
    monkeypatch.setattr(verdict, "FREE_DELAY", 0.001)


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
def test_a_worker_that_cannot_begin_is_tried_ten_times_and_its_run_says_why(local, interpreter, soon, code, words):
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


def test_a_worker_that_begins_at_last_gives_its_result_and_no_retry_was_used(local, interpreter, soon, caplog):
    interpreter("if number <= 3: os._exit(7)")

    run = well.with_options(retry=mlfn.Retry(1, delay=0.01)).submit()

    assert run.result(timeout=30) == "well"
    assert set(reasons(run)[:-1]) == {"never_started"} and reasons(run)[-1] is None
    assert len(run.attempts) in (3, 4)
    said = [record for record in caplog.records if "exit code 7" in record.getMessage()]
    assert len(said) == 1, "who waits is told why, once"


def test_the_waits_grow(local, interpreter, monkeypatch):
    monkeypatch.setattr(verdict, "FREE_DELAY", 0.05)
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 3)
    interpreter("os._exit(7)")

    run = well.submit()
    run.exception(timeout=30)

    begun = [when for when, _, what, _ in mlfn_events(run) if what == "claimed"]
    ended = [attempt.ended for attempt in run.attempts]
    assert len(begun) == len(ended) == 4
    for number, wait in enumerate((0.05, 0.1, 0.2)):
        assert begun[number + 1] - ended[number] >= wait


def mlfn_events(run: mlfn.Run) -> list[tuple[float, int, str, str]]:
    from mlfn.client import current_client

    return current_client().store.events(run.id)


def queued_at_one(path: Path, count: int, code: int | None = None) -> list[mlfn.Run]:
    """Return runs that one worker holds, the first of which may end it."""
    at_one = touch.on("local", max_workers=1)
    first = at_one.submit(str(path), code)
    runs = [first, *(at_one.submit(str(path)) for _ in range(count - 1))]
    wait_until(lambda: all(run.state == "running" for run in runs))
    assert len({run.record.worker for run in runs}) == 1
    return runs


def know_its_pace() -> None:
    at_one = touch.on("local", max_workers=1)
    mlfn.wait([at_one.submit("") for _ in range(30)])


# The first worker takes no run until `go` is there, and ends then.
WAITS = """
    from mlfn.worker import mailbox
    whole = mailbox.Inbox.receive
    def receive(self):
        message = whole(self)
        if message["op"] == "bind" and not os.path.exists({mark!r}):
            open({mark!r}, "w").close()
            while not os.path.exists({go!r}):
                pass
            os._exit(7)
        return message
    mailbox.Inbox.receive = receive
"""


def test_of_the_runs_that_a_worker_held_only_the_first_pays_for_it(local, tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 0)
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


def test_a_worker_that_another_run_has_ended_costs_those_behind_it_nothing(local, tmp_path, monkeypatch):
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 0)
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
def test_a_worker_that_cannot_even_be_launched_fails_its_run_at_once(local, monkeypatch, error, words):
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


def test_a_grid_whose_workers_cannot_start_ends_as_failed(local, interpreter, soon, monkeypatch):
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 2)
    broken = interpreter("print('no luck', file=sys.stderr, flush=True); os._exit(7)")

    sweep = touch.grid(path=[str(i) for i in range(6)]).submit()
    error = sweep.exception(timeout=60)

    assert isinstance(error, errors.SweepError) and "all 6 children failed" in str(error)
    assert sweep.state == "failed"
    assert [reasons(child) for child in sweep.children] == [["never_started"] * 3] * 6
    assert broken.count() <= 6 * 3 + os.cpu_count(), "each attempt has a worker, and some are started ahead"


def test_a_grid_with_less_memory_than_a_worker_takes_ends_as_failed(local):
    sweep = mlfn.function(touch.__wrapped__, name="small", mem="1Mi").grid(path=["a", "b", "c"]).submit()

    assert "mem=1Mi" in str(sweep.exception(timeout=60))
    assert [reasons(child) for child in sweep.children] == [["oom"]] * 3


@pytest.mark.parametrize("mem", ["1Mi", "4Mi", "16Mi"])
def test_less_memory_than_a_worker_takes_ends_as_oom_and_names_the_limit(local, mem):
    run = mlfn.function(well.__wrapped__, name="small", mem=mem).submit()

    error = run.exception(timeout=30)

    assert isinstance(error, errors.OutOfMemoryError) and isinstance(error, MemoryError)
    assert f"small ran into its limit of mem={mem}" in str(error) and "raise mem=" in str(error)
    assert "a worker alone takes" in str(error)
    assert reasons(run) == ["oom"]


# Between what it is told and its first run: there may be enough for the one and not for the other.
NO_ROOM = """
    from mlfn.worker import mailbox
    whole = mailbox._unspilled
    def unspilled(message, folder):
        if message.get("op") == "run":
            raise MemoryError
        return whole(message, folder)
    mailbox._unspilled = unspilled
"""


def test_memory_that_ends_before_the_first_run_is_oom_where_there_is_a_limit(local, interpreter):
    interpreter(NO_ROOM)

    run = mlfn.function(well.__wrapped__, name="small", mem="64Mi").submit()
    error = run.exception(timeout=30)

    assert isinstance(error, errors.OutOfMemoryError)
    assert str(error) == "small ran into its limit of mem=64Mi before it could begin; raise mem=, or use less."
    assert reasons(run) == ["oom"]


def test_memory_that_ends_before_the_first_run_without_a_limit_is_tried_again(local, interpreter, soon, monkeypatch):
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 2)
    interpreter(NO_ROOM)

    run = well.submit()
    error = run.exception(timeout=30)

    assert isinstance(error, errors.WorkerDiedError)
    assert "exit code 1" in str(error) and str(error).endswith("MemoryError")
    assert reasons(run) == ["never_started"] * 3


def test_what_a_worker_wrote_shows_no_secret(local, interpreter, soon, monkeypatch):
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 0)
    monkeypatch.setenv("API_TOKEN", "hush-hush-hush")
    interpreter("print('with hush-hush-hush in it', file=sys.stderr, flush=True); os._exit(7)")

    run = mlfn.function(well.__wrapped__, name="guarded", secrets=["api-token"]).submit()
    error = run.exception(timeout=30)

    assert "It wrote:\nwith " in str(error) and "hush" not in str(error)


def test_a_stopped_worker_that_had_not_begun_counts_too(local, interpreter, monkeypatch):
    monkeypatch.setattr(verdict, "MAX_FREE_ATTEMPTS", 0)
    freeze = """
    import signal
    from mlfn.worker import mailbox
    whole = mailbox.Inbox.receive
    def receive(self):
        message = whole(self)
        if message and message["op"] == "bind":
            import threading, time
            def stop():
                while not os.path.exists(os.path.join(str(self._folder), "beat")):
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGSTOP)
            threading.Thread(target=stop).start()
            self.receive = lambda: time.sleep(600)
        return message
    mailbox.Inbox.receive = receive
"""
    interpreter(freeze)

    run = well.submit()

    assert f"signal {int(signal.SIGKILL)}" in str(run.exception(timeout=30))
    assert reasons(run) == ["never_started"]
