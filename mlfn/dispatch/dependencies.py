"""Parameters as an execution may read them: which runs a run depends on, and the values it gets from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from mlfn.artifacts import nested
from mlfn.artifacts.codec import Codec, reference
from mlfn.errors import NotFoundError, ParentFailedError, StoreCorruptError, nearest
from mlfn.spec.record import RemoteFailure, RunRecord, RunState
from mlfn.store.sweeps import ChildRow, Reader


class CodecOf(Protocol):
    """Returns the codec of the values that the caller packed, or of those of a run."""

    def __call__(self, of: str | None = None, /) -> Codec: ...


def resolve(
    store: Reader, name: str, params: Mapping[str, Any], codec: CodecOf
) -> tuple[Mapping[str, Any], str | None]:
    """Return the parameters with outputs in place of references; or as they are, and an upstream run that is not terminal.

    A pickle is pinned: its signature is checked here, as the execution that reads it cannot.

    Raises ParentFailedError for an upstream run that did not succeed, NotFoundError for an output that it lacks.
    """
    parents = nested.parents_of(params)
    states = store.states(parents) if parents else {}
    for parent in parents:
        state = states[parent][0] if parent in states else None
        if state is None or (state.is_terminal and state is not RunState.SUCCEEDED):
            raise _parent_failed(store, name, parent, state)
    for parent in reversed(parents):  # of many, the last one is likely to end last
        if not states[parent][0].is_terminal:
            return params, parent
    resolved = partial(_resolved, store, name, codec)
    return {key: nested.mapped(value, resolved) for key, value in params.items()}, None


def _parent_failed(store: Reader, name: str, parent: str, state: RunState | None) -> ParentFailedError:
    if state is None:
        with suppress(NotFoundError):
            store.get_run(parent)  # raises for a row that cannot be read
        return ParentFailedError(f"{name} waits for run {parent[:8]}, which is not in the store.")
    origin = origin_of_failure(store, parent)
    reason = f": {origin.failure.first_line}" if origin is not None and origin.failure is not None else ""
    elsewhere = f" because {origin.name} ({origin.id[:8]}) did" if origin is not None and origin.id != parent else ""
    return ParentFailedError(
        f"{name} waits for an output of {store.get_run(parent).name} ({parent[:8]}), "
        f"{'which failed' if state is RunState.FAILED else f'which was {state.value}'}{elsewhere}{reason}; "
        f"`mlfn show {(origin.id if origin is not None else parent)[:8]}` says more."
    )


def origin_of_failure(store: Reader, run: str) -> RunRecord | None:
    """Return the run whose own failure made this one fail: itself or one upstream; None if there is none."""
    wanted = [run]
    for upstream in wanted:  # it grows meanwhile
        with suppress(NotFoundError, StoreCorruptError):
            record = store.get_run(upstream)
            if record.sweep and record.state is RunState.SUCCEEDED:
                wanted += [row.run for row in store.children(upstream, states=[RunState.FAILED])[:1]]
            if record.state is not RunState.FAILED:
                continue
            if record.failure is None or not record.failure.type.endswith(f".{ParentFailedError.__name__}"):
                return record
            wanted += [parent for parent in nested.parents_of(record.params) if parent not in wanted]
    return None


def _resolved(store: Reader, name: str, codec: CodecOf, leaf: Mapping[str, Any]) -> Mapping[str, Any]:
    if "output" in leaf:
        return _output(store, store.get_run(leaf["output"]["run"]), leaf["output"]["key"], codec)
    if leaf.get("packer") != nested.RESULT:
        return codec().pinned(leaf)
    sweep = store.get_run(leaf["run"])
    if not leaf["children"]:
        return _returned(store, sweep, codec)
    is_cut = "stopped" in (sweep.progress or {})  # those that were cancelled then are not missing
    rows = store.children(sweep.id, states=[RunState.SUCCEEDED] if is_cut else [], strict=True)
    for row in rows:
        if row.state is not RunState.SUCCEEDED:
            raise _child_failed(name, sweep, row)
    records = store.readable_runs([row.run for row in rows])
    items = [_returned(store, records[row.run], codec) for row in rows]
    return {"packer": nested.NESTED, "type": "builtins.list", "items": items}


def _returned(store: Reader, run: RunRecord, codec: CodecOf) -> Mapping[str, Any]:
    """Return what a run's function returned, as a parameter."""
    returns: Mapping[str, Any] = run.returns or {"keys": []}
    items = [_output(store, run, key, codec) for key in returns["keys"]]
    if "as" not in returns:
        return items[0] if items else {"packer": "json", "inline": None}
    return {"packer": nested.NESTED, "type": f"builtins.{returns['as']}", "items": items}


def _output(store: Reader, run: RunRecord, key: str, codec: CodecOf) -> Mapping[str, Any]:
    outputs = {output.key: output for output in store.outputs(run.id, run.attempt)}
    if key not in outputs:
        raise NotFoundError(f"{run.name} ({run.id[:8]}) has no output {key!r}: {nearest(key, outputs)}")
    whose = f"{run.name} ({run.id[:8]})"
    origin = f"what {whose} returned" if key == "return" else f"output {key!r} of {whose}"
    return {**codec(run.id).pinned(reference(outputs[key])), "from": origin}


def _child_failed(name: str, sweep: RunRecord, row: ChildRow) -> ParentFailedError:
    reason = RemoteFailure.from_json(dict(row.failure)).first_line if row.failure else ""
    return ParentFailedError(
        f"{name} waits for what all children of {sweep.name} ({sweep.id[:8]}) return, and child {row.iteration} "
        f"{'failed' if row.state is RunState.FAILED else f'was {row.state.value}'}{f': {reason}' if reason else ''}; "
        f"`mlfn show {row.run[:8]}` says more."
    )
