"""What becomes of runs when their client ends: in order, by an error, by ctrl-C, by kill -9; on the newest Python too."""

from __future__ import annotations

import os
import signal

import pytest

from tests.ledger import Stage, audit, wait_until

SCRIPT = """
import os
import signal
import sys
import threading
import time
from pathlib import Path

import mlfn

@mlfn.function(name="work")
def work(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    if i == 0:
        while not Path(ledger + ".go").exists():
            time.sleep(0.005)
    note(ledger, "end", ctx)
    return i

@mlfn.function(name="endless")
def endless(ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    try:
        while True:
            time.sleep(0.01)
    finally:
        note(ledger, "finally", ctx)

@mlfn.function(name="stubborn")
def stubborn(ledger: str, ctx: mlfn.Context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(ledger, "start", ctx)
    time.sleep(60)
    note(ledger, "end", ctx)

ledger, how = sys.argv[1:]
if how == "finish":
    Path(ledger + ".go").touch()
    runs = mlfn.runs()
    mlfn.wait(runs)
    print(sorted(run.result() for run in runs))
elif how == "stubborn":
    stubborn.with_options(timeout=0.5).submit(ledger)
    time.sleep(600)
elif how == "wait for all":
    mlfn.wait(mlfn.runs())
elif how == "look":
    print(sorted(str(run.state) for run in mlfn.runs()))
elif how == "see through":
    from mlfn.backends.places.local import process

    launched, launch = [], process.launch
    process.launch = lambda python: launched.append(python) or launch(python)
    running = mlfn.runs(state="running")
    Path(ledger + ".go").touch()
    print([run.result() for run in running], len(launched))
elif how == "cancel slowly":
    from mlfn.dispatch.session import current_session
    from mlfn.dispatch.dispatcher import Dispatcher
    from mlfn.store.changes import CancelRequested

    # Longer than two looks at cancel requests: one falls between any two steps of a takeover.
    call = Dispatcher._call
    Dispatcher._call = lambda self, action: (time.sleep(0.6), call(self, action))
    mlfn.init(grace=0.1)
    [run] = mlfn.runs(state="running")
    current_session().store.apply([CancelRequested(run.id, time.time())])  # as the client did that is dead
    print(run.cancel(), run.state)
elif how in ("fork", "fork and die"):
    waited, other = work.submit(0, ledger), work.submit(1, ledger)
    other.wait()
    while not Path(ledger).exists():
        time.sleep(0.005)
    child = os.fork()
    if child:
        if how == "fork and die":
            os.kill(os.getpid(), signal.SIGKILL)
        while not Path(ledger + ".seen").exists():
            time.sleep(0.005)
        Path(ledger + ".leave").touch()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(waited.result(), code)
    else:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)  # else its parent's would not be at their end
        seen = [waited.done(), waited.wait(0.05), other.result()]
        Path(ledger + ".go").touch()
        seen += [waited.result(timeout=30), work.submit(2, ledger).result(timeout=30)]
        Path(ledger + ".seen").write_text(str(seen))
        limit = time.monotonic() + 30
        while not Path(ledger + ".leave").exists() and time.monotonic() < limit:
            time.sleep(0.005)
elif how == "fork while a worker starts":
    from mlfn.backends.places.local import fork_server

    begun, identify = threading.Event(), fork_server.identify
    fork_server.identify = lambda pid: (begun.set(), time.sleep(0.5), identify(pid))[-1]
    work.submit(1, ledger)
    begun.wait()
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    while not Path(ledger + ".leave").exists():
        time.sleep(0.005)
    os._exit(0)
elif how == "ctrl-c":
    run = endless.submit(ledger)
    pending = endless.with_options(cpu=2).submit(ledger)
    print("submitted", flush=True)
    run.result()
else:
    kept = [work.submit(i, ledger) for i in range(4)]
    print("submitted", flush=True)
    while not Path(ledger).exists():
        time.sleep(0.005)
    if how == "error":
        Path(ledger + ".go").touch()
        raise RuntimeError("on purpose")
    if how == "exit":
        Path(ledger + ".go").touch()
        sys.exit(5)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(ledger + ".go").touch()
"""


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, SCRIPT, heartbeat=0.2, max_workers=2)


def states(stage):
    return [state for (state,) in stage.query("SELECT state FROM runs ORDER BY seq")]


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("error", 1), ("exit", 5)])
def test_a_client_that_ends_waits_for_what_it_submitted(stage, how, code):
    stage.run(how, code=code)

    assert states(stage) == ["succeeded"] * 4
    audit(stage, runs=4, once=["work"])
    assert stage.query("SELECT count(*) FROM clients") == [(0,)]
    assert stage.query("SELECT count(*) FROM executions") == [(0,)]
    assert list((stage.data / "workers").iterdir()) == []


def test_ctrl_c_cancels_and_waits_until_that_is_confirmed(stage):
    process = stage.start("ctrl-c")
    process.stdout.readline()
    wait_until(stage.entries)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode != 0
    assert states(stage) == ["cancelled", "cancelled"]
    assert [what for what, *_ in stage.entries()] == ["start", "finally"]
    assert stage.workers() == []
    audit(stage, runs=2)


def test_a_run_that_ignores_its_limit_ends_without_a_client(tmp_path):
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2, max_workers=2, grace=0.5)
    process = stage.start("stubborn")
    wait_until(stage.entries)
    process.kill()
    process.communicate()

    wait_until(lambda: not stage.workers())
    stage.run("wait for all")
    assert stage.query("SELECT state, reason FROM runs") == [("failed", "timeout")]
    assert [what for what, *_ in stage.entries()] == ["start"]


TEMPORARY = """
import sys, tempfile, time
from pathlib import Path
import mlfn

@mlfn.function(name="late")
def late(path: Path) -> str:
    time.sleep(0.5)
    return path.read_text()

if __name__ == "__main__":
    from mlfn.dispatch import session  # before the script makes its folder
    folder = tempfile.TemporaryDirectory()
    Path(folder.name, "in.txt").write_text("there")
    sweep = late.grid(path=[Path(folder.name, "in.txt")]).submit()
    raise RuntimeError("in the loop over the sweep")
"""


def test_temporary_folders_are_there_until_the_last_run_has_ended(tmp_path):
    stage = Stage(tmp_path, TEMPORARY, heartbeat=0.2)

    _, err = stage.start().communicate(timeout=60)

    assert "ends without" not in err and "failed" not in err
    assert stage.query("SELECT state FROM runs ORDER BY seq") == [("succeeded",), ("succeeded",)]
    keys = {key for (key,) in stage.query("SELECT key FROM outputs JOIN runs ON runs.seq = run WHERE sweep = 1")}
    assert keys >= {"iteration_results", "iteration_results_parquet"}


SWEEP = """
import time, mlfn

@mlfn.function(name="slow")
def slow(x: int) -> int:
    time.sleep(x)
    return x

if __name__ == "__main__":
    sweep = slow.grid(x=[0, 60]).with_options(parallel=1).submit()
    next(iter(sweep))
    print(sweep.id, flush=True)
    sweep.result()
"""


def test_ctrl_c_says_how_far_a_sweep_was_and_how_to_go_on(tmp_path):
    stage = Stage(tmp_path, SWEEP, heartbeat=0.2)
    process = stage.start()
    short = process.stdout.readline()[:8]
    wait_until(lambda: stage.query("SELECT 1 FROM runs WHERE iteration = 2 AND state = 'running'"))

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert err.endswith(
        "KeyboardInterrupt\n"
        f"mlfn: cancelled the sweep slow ({short}) after 1 of 2 children; `mlfn sweep resume {short}` goes on with the others\n"
    )
    assert "threading.py" not in err


def interrupted(stage, *args, times=1):
    """Interrupt a client that waits at its end; return its exit code, what it printed, and what it said after that."""
    process = stage.start(*args)
    wait_until(stage.entries)
    for line in process.stderr:
        if "waiting for" in line:
            break
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        if times > 1:
            wait_until(lambda: any(what == "finally" for what, *_ in stage.entries()))
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


EARLY = "import atexit\natexit.register(print, 'registered early')\n"


@pytest.mark.parametrize("end", ["", "    sys.exit(0)\n", "    raise RuntimeError('on purpose')\n"], ids=repr)
def test_ctrl_c_while_the_client_waits_at_its_end_cancels_too_and_ends_it_by_that_signal(tmp_path, end):
    script = EARLY + SCRIPT.replace("    run.result()\n", end)
    stage = Stage(tmp_path, script, heartbeat=0.2)

    code, out, err = interrupted(stage, "ctrl-c")

    assert code == -signal.SIGINT
    assert err == "mlfn: cancelled 2 runs\n"
    assert out == "submitted\nregistered early\n", "what others do at exit is done"
    assert states(stage) == ["cancelled", "cancelled"]
    audit(stage, runs=2)


def test_a_second_ctrl_c_waits_for_nothing_any_more(tmp_path):
    script = SCRIPT.replace("    run.result()\n", "").replace(
        'note(ledger, "finally", ctx)', 'note(ledger, "finally", ctx)\n        time.sleep(60)'
    )
    stage = Stage(tmp_path, script, heartbeat=0.2, grace=3)

    code, _, err = interrupted(stage, "ctrl-c", times=2)

    assert code == -signal.SIGINT
    [run] = [run for what, run, *_ in stage.entries() if what == "start"]
    assert f"mlfn: left 1 run behind: endless {run[:8]} (mlfn wait {run[:8]})\n" in err
    for pid in stage.workers():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("asking", "told"),
    [
        ("", True),
        ("run.wait()", True),
        ("mlfn.wait([run])", True),
        ("list(mlfn.as_completed([run]))", True),
        ("run.exception()", False),
        ("run.wait(); run.error", False),
        ("run.wait(); print(run.state)", False),
        ("print(mlfn.run(run.id).exception())", False),
    ],
)
@pytest.mark.parametrize("place", ["local", "inline"])
def test_a_failure_that_nobody_asked_about_is_told_at_the_end(tmp_path, asking, told, place):
    stage = Stage(
        tmp_path,
        """
        import mlfn

        @mlfn.function
        def bad():
            raise ValueError("no")

        @mlfn.function
        def good():
            return 1

        good.submit()
        run = bad.submit()
        ASKING
        """.replace("ASKING", asking),
        on=place,
    )
    process = stage.start()
    err = process.communicate(timeout=30)[1]
    [(run,)] = stage.query("SELECT id FROM runs WHERE name = 'bad'")

    assert process.returncode == 0
    assert err == (f"mlfn: 1 run failed: bad {run[:8]} (mlfn show {run[:8]})\n" if told else "")


def test_of_many_failures_the_first_are_named_and_those_of_others_are_not(tmp_path):
    stage = Stage(
        tmp_path,
        """
        import os
        import signal
        import sys

        import mlfn

        @mlfn.function
        def bad():
            raise ValueError("no")

        runs = [bad.submit() for _ in range(int(sys.argv[2]))]
        mlfn.wait(mlfn.runs())
        if sys.argv[3:]:
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    stage.run("1", "die", code=-signal.SIGKILL)
    process = stage.start("7")
    err = process.communicate(timeout=30)[1]

    assert err.startswith("mlfn: 7 runs failed: bad ")
    assert err.count("bad ") == 5 and "and 2 more (mlfn show" in err


def test_after_kill_9_what_ran_is_adopted_and_what_was_pending_waits_for_somebody(stage):
    stage.run("kill", code=-signal.SIGKILL)
    (stage.folder / "ledger.go").touch()
    wait_until(lambda: not stage.workers())
    begun = {run for what, run, *_ in stage.entries() if what == "start"}

    stage.run("look")
    assert {run for what, run, *_ in stage.entries() if what == "start"} == begun, "a listing starts nothing"

    assert stage.run("finish").strip() == "[0, 1, 2, 3]"
    audit(stage, runs=4, once=["work"])


def test_whoever_adopts_a_run_starts_no_worker_of_its_own(tmp_path):
    # The first run waits for its sign, so that there is one to adopt; the others go on beside it.
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2, max_workers=1)
    stage.run("kill", code=-signal.SIGKILL)

    assert stage.run("see through").strip() == "[0] 0"
    assert states(stage) == ["succeeded", "pending", "pending", "pending"]


def test_a_run_that_is_called_off_while_it_is_taken_over_ends(tmp_path):
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2, max_workers=1)
    stage.run("kill", code=-signal.SIGKILL)

    assert stage.run("cancel slowly").strip() == "True cancelled"


@pytest.mark.parametrize(("how", "code", "out"), [("fork", 0, "0 0"), ("fork and die", -signal.SIGKILL, "")])
def test_a_forked_child_waits_for_a_run_of_its_parent_and_submits_its_own(stage, how, code, out):
    assert stage.run(how, code=code).strip() == out

    seen = stage.folder / "ledger.seen"
    assert wait_until(lambda: seen.exists() and seen.read_text()) == "[False, False, 1, 0, 2]"
    *pids, of_child = [pid for what, *_, pid in stage.entries() if what == "end"]
    wait_until(lambda: not {*pids} & {*stage.workers()})
    assert how == "fork" or of_child in stage.workers(), "the child holds its own worker only"
    (stage.folder / "ledger.leave").touch()
    audit(stage, runs=3, once=["work"])


def test_a_child_forked_while_a_worker_starts_does_not_hold_that_worker(stage):
    stage.run("fork while a worker starts", code=-signal.SIGKILL)

    try:
        wait_until(lambda: not stage.workers())
    finally:
        (stage.folder / "ledger.leave").touch()
