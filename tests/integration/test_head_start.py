"""The process that forks workers: started while the first submit still loads, one for all workers, and nobody's loss."""

from __future__ import annotations

import atexit
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mlfn
from mlfn import errors
from mlfn.backends.places.local import fork_server as launching
from mlfn.backends.places.local import process as processing
from mlfn.dispatch.session import current_session
from tests.ledger import Stage, audit, fork_servers, wait_until, worker_processes

SCRIPT = """
import mlfn
from mlfn.errors import ParameterError

@mlfn.function
def fit(x):
    return x

try:
    fit.{how}.submit(nonsense=1)
except ParameterError:
    from mlfn.backends.places.local.fork_server import _early
    print(len(_early))
"""


@mlfn.function
def parent() -> tuple[int, int]:
    """Return who forked the worker, and which one it is; take long enough for others to be needed."""
    time.sleep(0.2)
    return os.getppid(), os.getpid()


@mlfn.function
def work(folder: str, i: int = 0) -> int:
    """Write down the worker's pid, and go on until it is told to."""
    (Path(folder) / f"pid{i}.new").write_text(str(os.getpid()))
    (Path(folder) / f"pid{i}.new").rename(Path(folder) / f"pid{i}")
    while not (Path(folder) / "go").exists():
        time.sleep(0.005)
    return i


def pid_of(folder: Path, i: int = 0) -> int:
    return int(wait_until((folder / f"pid{i}").exists) and (folder / f"pid{i}").read_text())


@pytest.fixture
def nothing_early():
    launching.discard_early()
    yield
    launching.discard_early()


def test_what_was_started_early_is_taken_once(nothing_early):
    launching.launch_early()
    launching.launch_early()
    [early] = launching._early

    taken, other = launching.launch(sys.executable), launching.launch(sys.executable)

    assert taken is early and other is not early and launching._early == []
    for server in (taken, other):
        server.close()


def test_an_early_server_of_another_environment_ends(nothing_early, monkeypatch):
    launching.launch_early()
    [early] = launching._early
    monkeypatch.setenv("CHANGED", "since")

    taken = launching.launch(sys.executable)

    assert taken is not early and early._popen.returncode is not None
    taken.close()


@pytest.mark.parametrize(
    ("how", "on", "started"), [("grid(x=[1, 2])", "local", 1), ("map([1])", "local", 1), ("grid(x=[1])", "inline", 0)]
)
def test_a_first_sweep_starts_it_early(tmp_path, how, on, started):
    environ = {**os.environ, "MLFN_DATA": str(tmp_path / "data"), "MLFN_ON": on}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(how=how))

    done = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(started)]


def test_one_server_forks_all_workers(local, monkeypatch):
    many = parent.on("local", max_workers=3)

    first = [run.result(timeout=30) for run in [many.submit() for _ in range(3)]]
    monkeypatch.setenv("CHANGED", "since")
    then = many.submit().result(timeout=30)

    assert len({server for server, _ in first}) == 1 and len({pid for _, pid in first}) == 3
    assert then[0] not in {server for server, _ in first}


def test_each_worker_draws_its_own_random_numbers(local):
    @mlfn.function(kind=mlfn.Job(fresh=True))
    def draw() -> tuple[float, str]:
        import random
        import uuid

        return random.random(), str(uuid.uuid4())

    drawn = [run.result(timeout=30) for run in [draw.submit() for _ in range(4)]]

    assert len({number for number, _ in drawn}) == len({text for _, text in drawn}) == 4


def test_killing_it_stops_no_run(local, tmp_path):
    runs = [work.submit(str(tmp_path), i) for i in range(2)]
    pids = [pid_of(tmp_path, i) for i in range(2)]
    [server] = fork_servers(local)

    os.kill(server, signal.SIGKILL)
    other = parent.on("local", max_workers=4).submit().result(timeout=30)
    (tmp_path / "go").touch()

    assert [run.result(timeout=30) for run in runs] == [0, 1]
    assert [len(run.attempts) for run in runs] == [1, 1]
    assert other[0] != server
    assert work.submit(str(tmp_path), 7).result(timeout=30) == 7
    for pid in pids:
        assert pid in worker_processes(local) or not Path(f"/proc/{pid}").exists()


def test_a_worker_dying_after_it_is_retried(local, tmp_path):
    run = work.with_options(retry=mlfn.Retry(1, delay=0)).submit(str(tmp_path))
    pid = pid_of(tmp_path)
    [server] = fork_servers(local)

    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not fork_servers(local))
    (tmp_path / "pid0").unlink()
    os.kill(pid, signal.SIGKILL)
    pid_of(tmp_path)
    (tmp_path / "go").touch()

    assert run.result(timeout=30) == 0
    assert [attempt.reason and str(attempt.reason) for attempt in run.attempts] == ["lost", None]
    assert "its exit status is unknown" in str(run.attempts[0].failure)


def test_a_run_is_cancelled_although_it_was_killed(local, tmp_path):
    run = work.submit(str(tmp_path))
    pid = pid_of(tmp_path)
    [server] = fork_servers(local)
    os.kill(server, signal.SIGKILL)

    assert run.cancel() and str(run.state) == "cancelled"
    wait_until(lambda: pid not in worker_processes(local))


def test_it_ends_with_its_client(local, tmp_path):
    run = work.submit(str(tmp_path))
    pid = pid_of(tmp_path)
    assert len(fork_servers(local)) == 1

    current_session().close()

    wait_until(lambda: not fork_servers(local))
    assert pid in worker_processes(local), "what runs goes on"
    (tmp_path / "go").touch()
    wait_until(lambda: not worker_processes(local))
    assert run.id


KILLED = """
import os, signal, sys, time
import mlfn

@mlfn.function(name="work")
def work(ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    time.sleep(0.5)
    note(ledger, "end", ctx)

ledger, how = sys.argv[1:]
if how == "submit":
    work.submit(ledger)
    while not os.path.exists(ledger):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)
mlfn.wait(mlfn.runs())
"""


def test_it_ends_with_its_client_unlike_runs(tmp_path):
    stage = Stage(tmp_path, KILLED, heartbeat=0.2)
    stage.run("submit", code=-signal.SIGKILL)
    wait_until(lambda: not fork_servers(stage.data))

    stage.run("finish")

    audit(stage, runs=1, once=["work"])


CUSTOM = """
import sys
if any("mlfn.worker" in part for part in sys.orig_argv):
    import os, time
    {code}
"""


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return how to say what the interpreter of a fork server does first."""

    def custom(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(CUSTOM.format(code=code))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    return custom


def test_one_hanging_at_load_is_replaced(local, tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(launching, "_LOADING_SECONDS", 2.0)
    mark = tmp_path / "mark"
    interpreter(f"if not os.path.exists({str(mark)!r}): open({str(mark)!r}, 'w').close(); time.sleep(600)")

    run = parent.submit()

    run.result(timeout=60)
    assert [attempt.reason and str(attempt.reason) for attempt in run.attempts] == ["never_started", None]
    assert "SIGKILL" in str(run.attempts[0].failure)


def test_one_hanging_at_a_fork_is_replaced(local, tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(launching, "_FORKING_SECONDS", 0.5)
    mark = tmp_path / "mark"
    interpreter(
        f"""fork = os.fork
    def hang():
        if not os.path.exists({str(mark)!r}):
            open({str(mark)!r}, "w").close()
            time.sleep(600)
        return fork()
    os.fork = hang"""
    )

    run = parent.submit()

    run.result(timeout=60)
    assert [attempt.reason and str(attempt.reason) for attempt in run.attempts] == ["never_started", None]


def test_a_worker_ended_before_its_report_is_retried(local, tmp_path, interpreter):
    mark = tmp_path / "mark"
    interpreter(
        f"""import json
    from mlfn.worker import fork_server as server
    become, report = server.ForkServer._become_worker, server.ForkServer._report
    def become_or_end(self, *fds):
        if os.path.exists({str(mark)!r}):
            return become(self, *fds)
        open({str(mark)!r}, "w").close()
        os._exit(7)
    def report_both(self, what, pid, detail=None):
        if what == "forked":
            os.waitpid(pid, 0)
            self._channel.send(b"".join(json.dumps([w, pid, 7]).encode() + b"\\n" for w in ("forked", "ended")))
            server.ForkServer._report = report
        else:
            report(self, what, pid, detail)
    server.ForkServer._become_worker, server.ForkServer._report = become_or_end, report_both"""
    )

    run = parent.submit()

    run.result(timeout=30)
    assert [attempt.reason and str(attempt.reason) for attempt in run.attempts] == ["never_started", None]
    assert "exit code 7" in str(run.attempts[0].failure)


def test_a_refused_fork_fails_the_run(local, interpreter):
    interpreter(
        """def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")
    os.fork = refuse"""
    )

    run = parent.submit()

    error = run.exception(timeout=30)
    assert isinstance(error, errors.WorkerDiedError)
    assert "No worker process can be started" in str(error) and "Resource temporarily unavailable" in str(error)
    assert list(current_session().store.executions()) == []


@pytest.fixture
def default_timeout() -> Iterator[None]:
    """Have sockets give up after a while, as a program may want its downloads to."""
    socket.setdefaulttimeout(3.0)
    yield
    socket.setdefaulttimeout(None)


def test_worker_sockets_ignore_the_default_timeout(local, default_timeout):
    began = time.monotonic()

    pairs = [run.result(timeout=30) for run in [parent.submit() for _ in range(3)]]

    assert time.monotonic() - began < 3.0
    assert len({server for server, _ in pairs}) == 1


@pytest.fixture
def many_files() -> Iterator[None]:
    """Have more files open than `select.select` can count."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    yield
    for fd in opened:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_open_files_prevent_no_worker(many_files, local):
    server, pid = parent.submit().result(timeout=30)

    assert [server] == fork_servers(local) and [pid] == worker_processes(local)


@mlfn.function
def blocked() -> list[int]:
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]


@mlfn.function
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def blocked_signals() -> Iterator[None]:
    """Block signals, as a program does that waits for them in a thread of its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_the_callers_blocked_signals_reach_workers(local, blocked_signals):
    assert blocked.submit().result(timeout=30) == []

    died = die.submit()

    assert "SIGKILL" in str(died.exception(timeout=30))


@mlfn.function
def inherited() -> list[str]:
    """Return what a program has open that this handler executes."""
    listed = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if "socket:" in line]


def test_programs_of_handlers_inherit_no_socket(local):
    assert inherited.submit().result(timeout=30) == []


def test_a_hanging_one_with_shared_channel_is_killed(local, tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(launching, "_FORKING_SECONDS", 0.5)
    mark = tmp_path / "mark"
    interpreter(
        f"""import subprocess
    if not os.path.exists({str(mark)!r}):
        open({str(mark)!r}, "w").close()
        subprocess.Popen(["sleep", "20"], close_fds=False)
        os.fork = lambda: time.sleep(600)"""
    )

    parent.submit().result(timeout=10)


def test_one_that_reports_no_ends_is_killed(local, tmp_path, monkeypatch):
    monkeypatch.setattr(processing, "_EXIT_SECONDS", 0.5)
    many = work.on("local", max_workers=4).with_options(kind=mlfn.Job(fresh=True))
    runs = [many.submit(str(tmp_path), i) for i in range(4)]
    for i in range(4):
        pid_of(tmp_path, i)
    [server] = fork_servers(local)

    os.kill(server, signal.SIGSTOP)
    (tmp_path / "go").touch()

    assert [run.result(timeout=30) for run in runs] == [0, 1, 2, 3]
    wait_until(lambda: not fork_servers(local))
    assert parent.on("local", max_workers=4).submit().result(timeout=30)[0] != server


def test_changing_environments_keep_few_servers(local, monkeypatch):
    servers = set()
    for i in range(8):
        monkeypatch.setenv("CHANGED", str(i))
        servers.add(parent.submit().result(timeout=30)[0])

    assert len(servers) == 8
    assert len(fork_servers(local)) <= 5, "one at work, one that its last worker is leaving, and a few to go back to"


def test_an_early_server_is_taken_once(nothing_early, monkeypatch):
    class JustTaken(list):
        def __bool__(self) -> bool:
            return True

    monkeypatch.setattr(launching, "_early", JustTaken())

    server = launching.launch(sys.executable)

    assert not server.is_gone
    server.close()


@mlfn.function(kind=mlfn.Job(fresh=True))
def slow_to_leave() -> None:
    atexit.register(time.sleep, 2.5)


def test_a_slowly_ending_worker_delays_no_other(local):
    slow_to_leave.submit().result(timeout=30)
    wait_until(lambda: not current_session().unfinished())
    began = time.monotonic()

    parent.submit().result(timeout=30)

    assert time.monotonic() - began < 2.0


def test_a_forked_child_warns_of_no_early_server(tmp_path):
    script = """if True:
        import os, sys
        from mlfn.backends.places.local.fork_server import discard_early, launch_early
        launch_early()
        if not os.fork():
            sys.exit(0)
        os.wait()
        discard_early()
    """

    done = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr == ""


def test_a_client_forks_after_a_start(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""if True:
        import os, subprocess, sys, threading, time
        from mlfn.backends.places.local.fork_server import launch

        starting, started, popen = threading.Event(), threading.Event(), subprocess.Popen

        def slow_popen(*args, **options):
            starting.set()
            time.sleep(0.3)
            process = popen(*args, **options)
            started.set()
            return process

        subprocess.Popen = slow_popen
        thread = threading.Thread(target=lambda: launch(sys.executable).close())
        thread.start()
        starting.wait()
        child = os.fork()
        if not child:
            os._exit(0 if started.is_set() else 1)
        print(os.waitpid(child, 0)[1])
        thread.join()
    """)

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0"]
