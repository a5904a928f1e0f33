"""Parameters as an execution may read them: which runs a run depends on, and the values it gets from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from mlfn.artifacts.codec import Codec, reference
from mlfn.errors import NotFoundError, ParentFailedError, StoreCorruptError, nearest
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.queries import Queries


class CodecOf(Protocol):
    """Returns the codec of the values that the caller packed, or of those of a run."""

    def __call__(self, of: str | None = None, /) -> Codec: ...


def parents_of(params: Mapping[str, Any]) -> list[str]:
    """Return the runs whose outputs are among the parameters."""
    return [value["output"]["run"] for value in params.values() if "output" in value]


def resolve(
    store: Queries, name: str, params: Mapping[str, Any], codec: CodecOf
) -> tuple[Mapping[str, Any], str | None]:
    """Return the parameters with outputs in place of references; or as they are, and an upstream run that is not terminal.

    A pickle is pinned: its signature is checked here, as the execution that reads it cannot.

    Raises ParentFailedError for an upstream run that did not succeed, NotFoundError for an output that it lacks.
    """
    parents = parents_of(params)
    states = store.states(parents) if parents else {}
    for parent in parents:
        state = states[parent][0] if parent in states else None
        if state is None or (state.is_terminal and state is not RunState.SUCCEEDED):
            raise _parent_failed(store, name, parent, state)
    for parent in parents:
        if not states[parent][0].is_terminal:
            return params, parent
    return {key: _resolved(store, value, codec) for key, value in params.items()}, None


def _parent_failed(store: Queries, name: str, parent: str, state: RunState | None) -> ParentFailedError:
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


def origin_of_failure(store: Queries, run: str) -> RunRecord | None:
    """Return the run whose own failure made this one fail: itself or one upstream; None if there is none."""
    wanted = [run]
    for upstream in wanted:  # it grows meanwhile
        with suppress(NotFoundError, StoreCorruptError):
            record = store.get_run(upstream)
            if record.state is not RunState.FAILED:
                continue
            if record.failure is None or not record.failure.type.endswith(f".{ParentFailedError.__name__}"):
                return record
            wanted += [parent for parent in parents_of(record.params) if parent not in wanted]
    return None


def _resolved(store: Queries, value: Mapping[str, Any], codec: CodecOf) -> Mapping[str, Any]:
    if "output" not in value:
        return codec().pinned(value)
    parent, key = store.get_run(value["output"]["run"]), value["output"]["key"]
    outputs = {output.key: output for output in store.outputs(parent.id, parent.attempt)}
    if key not in outputs:
        raise NotFoundError(f"{parent.name} ({parent.id[:8]}) has no output {key!r}: {nearest(key, outputs)}")
    return codec(parent.id).pinned(reference(outputs[key]))
