"""A stored run as plain data, read from the store's rows alone: nothing is unpickled, no artifact is opened."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn.client import Client
from mlfn.packers import tagged
from mlfn.packers.briefs import left_out
from mlfn.spec.record import Output, RunRecord

_LARGEST = 2**63


def describe(client: Client, record: RunRecord) -> dict[str, Any]:
    """Return what a listing says of a run."""
    return {
        "id": record.id,
        "name": record.name,
        "project": record.project,
        "state": record.state.value,
        "reason": record.reason and record.reason.value,
        "place": record.place,
        "function": record.function,
        "attempt": record.attempt,
        "created": moment(record.created),
        "started": moment(record.started),
        "ended": moment(record.ended),
        "seconds": None if record.duration is None else round(record.duration, 6),
        "labels": dict(record.labels),
        "parent": record.parent,
        "iteration": record.iteration or None,
        "sweep": record.sweep,
        "reused": record.reused,
        "progress": record.progress,
        "abandoned": client.is_abandoned(record),
        "error": _error(record),
        "params": {name: describe_param(client, value) for name, value in record.params.items()},
    }


def describe_whole(client: Client, record: RunRecord) -> dict[str, Any]:
    """Return all that the store knows of a run."""
    store = client.store
    attempts = store.attempts(record.id)
    names = store.metric_names(record.id, record.attempt)
    folder = client.folder / "artifacts" / record.id
    return {
        **describe(client, record),
        "defaults": _defaults(client, record),
        "outputs": {o.key: describe_output(client, o) for o in store.outputs(record.id, record.attempt)},
        "metrics": {name: plain(store.series(record.id, record.attempt, name)[-1][1]) for name in names},
        "artifacts": str(folder) if folder.is_dir() else None,
        "log": next((a.log for a in reversed(attempts) if a.log and Path(a.log).exists()), None),
        "attempts": [
            {
                "attempt": item.attempt,
                "state": item.state,
                "reason": item.reason,
                "failure": _sound(item.failure),
                "started": moment(item.started),
                "ended": moment(item.ended),
                "worker": item.worker,
                "log": item.log,
            }
            for item in attempts
        ],
        "events": [
            {"time": moment(time), "attempt": attempt, "what": what, "detail": detail}
            for time, attempt, what, detail in store.events(record.id)
        ],
    }


def describe_output(client: Client, output: Output) -> dict[str, Any]:
    """Return an output's type, size and place; of a small value that is no pickle, the value."""
    known = {"role": output.role, "type": output.type, "packer": output.packer, "size": output.size}
    if output.path is not None:
        return {**known, "path": str(client.folder / "artifacts" / output.path), "sha256": output.sha256}
    return {**known, "value": readable(output.inline)}


def readable(inline: Any) -> Any:
    """Return a value that lies in a row as plain JSON: what JSON cannot say becomes text."""
    try:
        return plain(tagged.decode(inline))
    except Exception:  # noqa: BLE001 - whoever wrote the row may have written anything
        return "<unreadable>"


def plain(value: Any) -> Any:
    """Return `value` as JSON that any reader takes: NaN and infinities as text, tuples and sets as lists."""
    if value is None or isinstance(value, (bool, str)):
        return _sound(value)
    if isinstance(value, int):
        return value if -_LARGEST <= value < _LARGEST else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def moment(time: float | None) -> str | None:
    """Return a time in ISO 8601, UTC."""
    return None if time is None else datetime.datetime.fromtimestamp(time, tz=datetime.timezone.utc).isoformat()


def _sound(value: Any) -> Any:
    # A lone surrogate can be in a str, but in no UTF-8.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _defaults(client: Client, record: RunRecord) -> dict[str, Any]:
    """Return the parameters that the run was not given, with what stood for them."""
    defaults = left_out(client.store.plan(record.plan), record)
    return {name: describe_param(client, value) for name, value in defaults.items()}


def describe_param(client: Client, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter: its value where that is plain, else what it is and where it lies."""
    if "output" in value:
        return {"output": dict(value["output"])}
    if "input" in value:
        return {"input": value["input"], "as": value.get("as")}
    if value.get("path") is not None:
        known = {"type": value.get("type"), "packer": value.get("packer"), "size": value.get("size")}
        words = {"shown": value["shown"]} if value.get("shown") else {}
        path = str(client.folder / "artifacts" / value["path"])
        return {**known, **words, "path": path, "sha256": value.get("sha256")}
    if value.get("packer") != "json":
        return {"packer": value.get("packer"), "type": value.get("type"), "shown": value.get("shown")}
    return {"packer": value.get("packer"), "value": readable(value.get("inline"))}


def _error(record: RunRecord) -> dict[str, Any] | None:
    failure = record.failure
    if failure is None:
        return None
    return {
        "type": failure.type.removeprefix("builtins."),
        "message": _sound(failure.message),
        "traceback": _sound(failure.traceback) or None,
        "exit_code": failure.exit_code,
        "signal": failure.signal,
    }
