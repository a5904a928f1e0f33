"""What one ordinary run costs in the caller and its dispatcher, counted: a machine's speed has no part in it."""

from __future__ import annotations

from tests.ledger import Stage

_COUNTED = """
import collections
import os
import sys
import threading

import mlfn
from mlfn.dispatch.session import current_session
from mlfn.spec.plan import Selected

RUNS = 400


@mlfn.function
def noop() -> None:
    pass


def main() -> None:
    mlfn.wait([noop.submit() for _ in range(60)])  # imports, caches, the pace of the function
    session = current_session()
    dispatcher = session.dispatcher_of(Selected("local"))
    counts = collections.Counter()
    looked = {os.stat, os.lstat, os.getcwd}

    def count(frame, event, argument):
        if event == "call":
            counts["calls"] += 1
        elif event == "c_call" and argument in looked:
            counts[argument.__name__] += 1

    def in_dispatcher(action):
        done = threading.Event()
        dispatcher._call(lambda: (action(), done.set()))
        done.wait()

    statements = []
    connection = session.store.connection.engine._connection
    in_dispatcher(lambda: sys.setprofile(count))
    connection.set_trace_callback(statements.append)
    sys.setprofile(count)
    runs = [noop.submit() for _ in range(RUNS)]
    mlfn.wait(runs)
    sys.setprofile(None)
    connection.set_trace_callback(None)
    in_dispatcher(lambda: sys.setprofile(None))
    counts["calls"] -= len(statements)
    for name in ("calls", "stat", "lstat", "getcwd"):
        print(name, counts[name] / RUNS)
    print("statements", len(statements) / RUNS)


if __name__ == "__main__":
    main()
"""


def test_a_run_costs_few_calls_and_statements(tmp_path):
    stage = Stage(tmp_path, _COUNTED)

    counts = {name: float(number) for name, number in (line.split() for line in stage.run().splitlines())}

    assert counts["calls"] <= 300
    assert counts["statements"] <= 5
    assert counts["stat"] + counts["lstat"] < 0.1  # what is looked at now and then, whatever the number of runs
    assert counts["getcwd"] < 1.1  # the run gets the caller's folder, and nothing else says that it has changed
