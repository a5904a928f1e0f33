"""However a worker ends, its run ends with its own reason and its own words, and the next run is not touched."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlfn
from mlfn import errors
from mlfn.host.identity import identify
from tests.ledger import wait_until


def write_pid(path: Path) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(str(os.getpid()))
    temporary.rename(path)


@mlfn.function
def sleep_long(pid: str) -> None:
    write_pid(Path(pid))
    time.sleep(600)


@mlfn.function
def well() -> str:
    return "well"


def ended(run: mlfn.Run) -> tuple[str, str, BaseException]:
    """Return state, reason and exception of a run that must end soon; on a busy machine, under coverage, within minutes."""
    error = run.exception(timeout=180)
    assert error is not None, run.state
    return str(run.state), str(run.record.reason), error


def is_gone(pid: int) -> bool:
    return identify(pid).state() == "gone"


def test_a_killed_worker_names_the_signal(local, tmp_path, processes):
    run = sleep_long.submit(str(tmp_path / "pid"))
    os.kill(processes("pid"), signal.SIGKILL)

    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, errors.WorkerDiedError)
    assert "signal 9, SIGKILL" in str(error)
    assert run.record.failure.signal == 9
    assert well.submit().result(timeout=30) == "well"


def test_a_sigterm_that_mlfn_did_not_send_is_a_failure_by_that_signal(local, tmp_path):
    @mlfn.function
    def stop(tries: str) -> None:
        with open(tries, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)

    run = stop.submit(str(tmp_path / "tries"))

    error = run.exception(timeout=30)
    assert isinstance(error, errors.WorkerDiedError) and "signal 15, SIGTERM" in str(error)
    assert (run.state, run.record.reason, run.record.failure.signal) == ("failed", "error", 15)
    assert (tmp_path / "tries").read_text() == "x"


def test_a_sigterm_that_mlfn_did_not_send_is_tried_again_where_retry_says_so(local, tmp_path, processes):
    @mlfn.function(retry=mlfn.Retry(1, delay=0))
    def once(pid: str, ctx: mlfn.Context) -> int:
        if ctx.attempt == 1:
            write_pid(Path(pid))
            time.sleep(600)
        return ctx.attempt

    run = once.submit(str(tmp_path / "pid"))
    os.kill(processes("pid"), signal.SIGTERM)

    assert run.result(timeout=30) == 2
    assert [(a.state, a.reason) for a in run.attempts] == [("failed", "error"), ("succeeded", None)]


def test_a_stopped_worker_is_lost_after_its_heartbeat(local, tmp_path, processes):
    run = sleep_long.submit(str(tmp_path / "pid"))
    pid = processes("pid")
    os.kill(pid, signal.SIGSTOP)

    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "lost")
    assert isinstance(error, errors.RunLostError)
    assert "SIGSTOP" in str(error)
    assert is_gone(pid)


def test_a_segfault_logs_pythons_traceback(local):
    @mlfn.function
    def crash() -> None:
        ctypes.string_at(0)

    run = crash.submit()
    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "error")
    assert "SIGSEGV" in str(error)
    assert "Segmentation fault" in run.logs()
    assert "in crash" in run.logs()


@pytest.mark.parametrize("code", [0, 3])
def test_os_exit_is_never_a_success(local, code):
    @mlfn.function
    def leave(code: int) -> None:
        os._exit(code)

    state, reason, error = ended(leave.submit(code))

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, errors.WorkerDiedError)
    assert f"exit code {code}" in str(error)


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_fails_with_its_code(local, code):
    @mlfn.function
    def leave(code: int) -> None:
        sys.exit(code)

    run = leave.submit(code)
    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, errors.WorkerDiedError)
    assert f"exit code {code}" in str(error)
    assert run.record.failure.exit_code == code


def fill_with_objects() -> int:
    kept = []
    while True:
        kept.append(" " * 997 + str(len(kept)))


def fill_with_small_objects() -> int:
    kept = []
    while True:
        kept.append([len(kept)])


def fill_with_array() -> int:
    import numpy

    return int(numpy.ones(200_000_000).sum())


@pytest.mark.parametrize("fill", [fill_with_objects, fill_with_small_objects, fill_with_array])
def test_more_memory_than_allowed_ends_as_oom(local, fill):
    run = mlfn.function(fill, mem="256Mi").submit()

    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "oom")
    assert isinstance(error, errors.OutOfMemoryError) and isinstance(error, MemoryError)
    assert f"{fill.__name__} ran into its limit of mem=256Mi" in str(error) and "raise mem=" in str(error)
    assert run.error is not None and "mem=256Mi" in run.error
    assert well.submit().result(timeout=30) == "well"


@pytest.mark.parametrize("place", ["local", "inline"])
def test_an_unlimited_memory_error_is_out_of_memory(local, place):
    @mlfn.function
    def ask() -> bytes:
        return bytes(1 << 62)

    run = ask.on(place).submit()
    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "oom")
    assert isinstance(error, errors.OutOfMemoryError) and isinstance(error, errors.RunError)
    assert str(error) == "ask ran out of memory; use less, or run it where there is more."
    assert "bytes(1 << 62)" in run.error
    assert "builtins.MemoryError" in run.record.failure.bases


def test_a_returning_fork_reports_no_outcome(local):
    @mlfn.function
    def fork() -> str:
        if os.fork() == 0:
            return "child"
        os.wait()
        return "parent"

    assert fork.submit().result(timeout=30) == "parent"
    assert fork.submit().result(timeout=30) == "parent"


def test_a_fork_that_fails_does_not_answer_either(local):
    @mlfn.function
    def fork() -> str:
        if os.fork() == 0:
            raise ValueError("child")
        os.wait()
        return "parent"

    assert fork.submit().result(timeout=30) == "parent"


def test_a_forked_child_ends_with_its_worker(local, tmp_path, processes):
    @mlfn.function(kind=mlfn.Job(fresh=True))
    def fork(pid: str) -> str:
        if os.fork() == 0:
            write_pid(Path(pid))
            time.sleep(600)
        while not Path(pid).exists():
            time.sleep(0.005)
        return "parent"

    assert fork.submit(str(tmp_path / "pid")).result(timeout=30) == "parent"
    wait_until(lambda: is_gone(processes("pid")))


def test_a_cancel_ends_subprocesses(local, tmp_path, processes):
    @mlfn.function
    def leave(pid: str) -> None:
        subprocess.Popen(["sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 600"])
        time.sleep(600)

    run = leave.submit(str(tmp_path / "pid"))
    pid = processes("pid")

    assert run.cancel()
    wait_until(lambda: is_gone(pid))


def test_a_subprocess_lives_as_long_as_its_worker(local, tmp_path, processes):
    @mlfn.function
    def leave(pid: str) -> None:
        subprocess.Popen(["sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 600"])

    leave.submit(str(tmp_path / "pid")).result(timeout=30)
    pid = processes("pid")
    assert not is_gone(pid)

    from mlfn.dispatch.session import current_session

    current_session().close()
    wait_until(lambda: is_gone(pid))


@pytest.mark.parametrize("fd", [1, 2])
def test_a_handler_may_close_its_own_output(local, fd):
    @mlfn.function
    def close(fd: int) -> str:
        os.close(fd)
        return "closed"

    assert close.submit(fd).result(timeout=30) == "closed"
    assert close.submit(fd).result(timeout=30) == "closed"


def test_a_missing_module_keeps_its_error(local):
    @mlfn.function
    def importing() -> None:
        import no_such_module_anywhere  # noqa: F401

    state, reason, error = ended(importing.submit())

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, ModuleNotFoundError)
    assert "no_such_module_anywhere" in str(error)


def payload_of(data: Path, run: mlfn.Run) -> Path:
    from mlfn.dispatch.session import current_session

    return data / "payloads" / current_session().store.get_plan(run.record.plan).payload


def test_a_damaged_payload_is_never_unpickled(local):
    fresh = well.with_options(kind=mlfn.Job(fresh=True))
    run = fresh.submit()
    run.result(timeout=30)
    path = payload_of(local, run)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)

    state, reason, error = ended(run.rerun())

    assert (state, reason) == ("failed", "storage")
    assert isinstance(error, errors.SignatureError)
    assert "nothing of it was read" in str(error)


def test_a_missing_payload_says_what_to_do(local):
    run = well.with_options(kind=mlfn.Job(fresh=True)).submit()
    run.result(timeout=30)
    payload_of(local, run).unlink()

    state, reason, error = ended(run.rerun())

    assert (state, reason) == ("failed", "storage")
    assert "submit well again" in str(error)


class Stubborn(Exception):
    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)
        self.lock = __import__("threading").Lock()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_unpicklable_result_names_the_output(local):
    @mlfn.function
    @mlfn.handler(outputs=["model"])
    def lock() -> object:
        import threading

        return threading.Lock()

    state, reason, error = ended(lock.submit())

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, mlfn.MlfnError)
    assert "model" in str(error)


def test_an_exception_with_an_attribute_that_cannot_travel_keeps_its_class_and_text(local):
    @mlfn.function
    def fail() -> None:
        raise Stubborn("the text of it")

    state, reason, error = ended(fail.submit())

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, Stubborn) and not hasattr(error, "lock")
    assert "the text of it" in str(error)


def test_an_exception_without_a_text_still_arrives(local):
    @mlfn.function
    def fail() -> None:
        raise Mute

    state, reason, error = ended(fail.submit())

    assert (state, reason) == ("failed", "error")
    assert "Mute" in type(error).__name__ + repr(error.args)


def test_an_endless_recursion_has_a_short_traceback(local):
    @mlfn.function
    def deep(n: int = 0) -> int:
        def again(n: int) -> int:
            return again(n + 1)

        return again(n)

    run = deep.submit()
    state, reason, error = ended(run)

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, RecursionError)
    assert len(run.error) < 70_000


def test_a_handlers_keyboard_interrupt_stays_remote(local):
    @mlfn.function
    def interrupt() -> None:
        raise KeyboardInterrupt

    state, reason, error = ended(interrupt.submit())

    assert (state, reason) == ("failed", "error")
    assert isinstance(error, errors.RemoteError)
    assert "KeyboardInterrupt" in str(error)


def test_output_without_end_grows_no_memory(local):
    @mlfn.function
    def shout() -> None:
        block = b"x" * 65535 + b"\n"
        while True:
            os.write(1, block)

    before = resident(os.getpid())
    run = shout.submit()
    wait_until(lambda: (path := run.log_path()) is not None and path.stat().st_size > 100_000_000)
    [pid] = {row.handle["pid"] for row in current_workers()}
    grown = resident(os.getpid()) - before

    assert resident(pid) < 64 << 20
    assert grown < 16 << 20
    assert run.cancel()
    run.log_path().unlink()


def current_workers():
    from mlfn.dispatch.session import current_session

    return current_session().store.executions()


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_a_fresh_worker_ends_its_subprocesses(local):
    def leave() -> int:
        return subprocess.Popen(["sleep", "600"]).pid

    pid = mlfn.function(leave, kind=mlfn.Job(fresh=True)).submit().result(timeout=30)

    wait_until(lambda: is_gone(pid))
