"""What an event of an attempt says happened, as a change to be recorded: the same whoever hears of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.execution import outcome_from_json
from mlfn.spec.record import Output
from mlfn.store.changes import (
    BestMarked,
    Change,
    ChildBegun,
    Finished,
    MetricLogged,
    OutputLogged,
    Progressed,
    Started,
)


def change_of(event: Mapping[str, Any]) -> Change | None:
    """Return what to record for an event; None for an attempt's own end, of which whoever sees it through decides."""
    run, attempt, time, what = event["run"], event["attempt"], event["time"], event["event"]
    if what == "metric":
        return MetricLogged(run, attempt, event["name"], event["step"], event["value"], time)
    if what == "output":
        return OutputLogged(run, attempt, Output(**event["output"]))
    if what == "progress":
        return Progressed(run, attempt, event["progress"])
    if what == "started":
        return Started(run, attempt, time)
    if what == "child":
        return ChildBegun(run, event["parent"], event["parent_attempt"], event["params"], time)
    if what == "child_end":
        return Finished(run, attempt, outcome_from_json(event), time)
    if what == "best":
        return BestMarked(event["child"], run, attempt)
    return None
