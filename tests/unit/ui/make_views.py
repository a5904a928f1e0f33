"""Views of runs and sweeps that are in no store."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mlfn.spec.record import RunRecord, RunState
from mlfn.sweep.spec import SweepBody
from mlfn.ui.views.run import RunView
from mlfn.ui.views.sweep import ChildView, SweepView
from mlfn.ui.views.values import Value

_RECORD = {field.name for field in fields(RunRecord)}


def run_view(**facts: Any) -> RunView:
    """Return a view of a running run; facts of its record and of its view are changed by name."""
    known = {
        "id": "3f2a91c0" * 4,
        "name": "train",
        "project": "risk",
        "function": "f" * 64,
        "plan": "p",
        "place": "local",
        "state": RunState.RUNNING,
        "attempt": 1,
        "params": (),
        "created": 1_000_000.0,
        "started": 1_000_010.0,
        "taken": 1_000_100.0,
    }
    known |= facts
    params = known.pop("params")
    record = {name: value for name, value in known.items() if name in _RECORD}
    view = {name: value for name, value in known.items() if name not in _RECORD}
    return RunView(RunRecord(**{**record, "params": {}}), **view, params=params)


def sweep_view(**facts: Any) -> SweepView:
    """Return a view of a running sweep; options of its body and facts of its view are changed by name."""
    body = {"keys": ("x",), "select": ("max.score",), "size": 100}
    body |= {name: facts.pop(name) for name in list(facts) if name in body}
    row = ChildView(7, "r", RunState.SUCCEEDED, (Value("x", "7"),), (0.5,), 1_000_020.0, 1_000_021.0)
    known = {"run": run_view(), "best": 7, "rows": (row,), "ended": {"succeeded": 40, "failed": 2}}
    return SweepView(**{**known, "body": SweepBody(**body), **facts})
