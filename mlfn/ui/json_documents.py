"""View models as JSON documents: what `--json` prints. Nothing is unpickled, no artifact is opened."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mlfn.spec.record import RunRecord
from mlfn.ui.views.run import RunView
from mlfn.ui.views.values import Value, described, plain, sound

if TYPE_CHECKING:
    from mlfn.ui.views.listing import ListingView
    from mlfn.ui.views.sweep import ChildView, SweepView


def run_summary(run: RunView) -> dict[str, Any]:
    """Return what a listing has of a run."""
    record = run.record
    return {
        "id": record.id,
        "name": record.name,
        "project": record.project,
        "state": record.state.value,
        "reason": record.reason and record.reason.value,
        **{name: getattr(record, name) for name in ("place", "function", "attempt")},
        **{name: iso_time(getattr(record, name)) for name in ("created", "started", "ended")},
        "seconds": _rounded(record.duration),
        "labels": dict(record.labels),
        "iteration": record.iteration or None,
        **{name: getattr(record, name) for name in ("parent", "sweep", "reused", "progress")},
        "sweep_name": run.sweep_name or None,
        "abandoned": run.is_abandoned,
        "error": _error(record),
        "params": _described(run, (value for value in run.params if not value.is_default)),
    }


def listing_document(listing: ListingView) -> list[dict[str, Any]]:
    """Return what a listing has of its runs; the metric by which they are ordered, too."""
    documents = [run_summary(run) for run in listing.runs]
    if listing.metric:
        for document in documents:
            document["metrics"] = {listing.metric: plain(listing.scores.get(document["id"]))}
    return documents


def document(view: RunView | SweepView) -> dict[str, Any]:
    """Return all that the store knows of a run, or of a sweep."""
    return _run_document(view) if isinstance(view, RunView) else _sweep_document(view)


def _run_document(run: RunView) -> dict[str, Any]:
    return {
        **run_summary(run),
        "defaults": _described(run, (value for value in run.params if value.is_default)),
        "outputs": _described(run, run.outputs),
        "metrics": {series.name: plain(series.last) for series in run.series},
        "artifacts": run.artifacts,
        "log": run.log_at,
        "attempts": [
            {
                **{name: getattr(item, name) for name in ("attempt", "state", "reason", "execution")},
                "mem": run.asked.get(item.attempt),
                "log": run.logs_at.get(item.attempt),
                "failure": sound(item.failure),
                "started": iso_time(item.started),
                "ended": iso_time(item.ended),
            }
            for item in run.attempts
        ],
        "events": [{**vars(event), "time": iso_time(event.time)} for event in run.events],
    }


def _sweep_document(sweep: SweepView) -> dict[str, Any]:
    """Return the document of a run, all children under ``family``."""
    children = [_child(sweep, child) for child in sweep.children]
    body = sweep.body
    family = {
        **{name: getattr(body, name) for name in ("size", "select", "subject_to", "parallel", "stop_when", "after")},
        "counts": dict(sweep.counts),
        "keys": list(sweep.keys),
        "stopped": (sweep.run.record.progress or {}).get("stopped"),
        "best": next((child for child in children if child["iteration"] == sweep.best), None),
        "front": list(sweep.front),
        "children": children,
    }
    return {**_run_document(sweep.run), "family": family}


def iso_time(time: float | None) -> str | None:
    """Return a time in ISO 8601, UTC."""
    return None if time is None else datetime.datetime.fromtimestamp(time, tz=datetime.timezone.utc).isoformat()


def _described(run: RunView, values: Iterable[Value]) -> dict[str, Any]:
    return {value.name: described(value, run.folder) for value in values}


def _child(sweep: SweepView, child: ChildView) -> dict[str, Any]:
    return {
        "iteration": child.iteration,
        "id": child.run,
        "state": child.state.value,
        "params": _described(sweep.run, child.params),
        "metrics": {name: plain(value) for name, value in sorted(child.metrics.items())},
        "seconds": _rounded(child.seconds),
        "error": child.error or None,
        "reused": child.reused,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _error(record: RunRecord) -> dict[str, Any] | None:
    failure = record.failure
    if failure is None:
        return None
    return {
        "type": failure.type.removeprefix("builtins."),
        "message": sound(failure.message),
        "traceback": sound(failure.traceback) or None,
        "exit_code": failure.exit_code,
        "signal": failure.signal,
    }
