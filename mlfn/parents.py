"""Parameters that are outputs of other runs: whom a run waits for, and what it gets from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from mlfn.errors import NotFoundError, ParentFailedError, StoreCorruptError, nearest
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.reading import Reading


def parents_of(params: Mapping[str, Any]) -> list[str]:
    """Return the runs whose outputs are among the parameters."""
    return [value["output"]["run"] for value in params.values() if "output" in value]


def resolve(store: Reading, name: str, params: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """Return the parameters with the outputs that are meant; or as they are, and a parent that still runs.

    Raises ParentFailedError for a parent that did not succeed, NotFoundError for an output that it does not have.
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
    return {key: _resolved(store, value) for key, value in params.items()}, None


def _parent_failed(store: Reading, name: str, parent: str, state: RunState | None) -> ParentFailedError:
    if state is None:
        with suppress(NotFoundError):
            store.get_run(parent)  # raises, where it is there and cannot be read
        return ParentFailedError(f"{name} waits for run {parent[:8]}, which is not in the store.")
    origin = origin_of_failure(store, parent)
    said = f": {origin.failure.first_line}" if origin is not None and origin.failure is not None else ""
    elsewhere = f" because {origin.name} ({origin.id[:8]}) did" if origin is not None and origin.id != parent else ""
    return ParentFailedError(
        f"{name} waits for an output of {store.get_run(parent).name} ({parent[:8]}), "
        f"{'which failed' if state is RunState.FAILED else f'which was {state.value}'}{elsewhere}{said}; "
        f"`mlfn show {(origin.id if origin is not None else parent)[:8]}` says more."
    )


def origin_of_failure(store: Reading, run: str) -> RunRecord | None:
    """Return the run whose own failure made this one fail, itself or one that it waited for; None where there is none."""
    seen: set[str] = set()
    wanted: list[str] = [run]
    while wanted:
        record = next(iter(_failed(store, wanted, seen)), None)
        if record is None:
            return None
        if record.failure is None or not record.failure.type.endswith(f".{ParentFailedError.__name__}"):
            return record
        wanted = parents_of(record.params)
    return None


def _failed(store: Reading, runs: list[str], seen: set[str]) -> Iterator[RunRecord]:
    for run in runs:
        with suppress(NotFoundError, StoreCorruptError):
            record = store.get_run(run)
            if record.state is RunState.FAILED and run not in seen:
                seen.add(run)
                yield record


def _resolved(store: Reading, value: Mapping[str, Any]) -> Mapping[str, Any]:
    if "output" not in value:
        return value
    parent, key = store.get_run(value["output"]["run"]), value["output"]["key"]
    outputs = {output.key: output for output in store.outputs(parent.id, parent.attempt)}
    if key not in outputs:
        raise NotFoundError(f"{parent.name} ({parent.id[:8]}) has no output {key!r}: {nearest(key, outputs)}")
    output = outputs[key]
    return {"packer": output.packer, "inline": output.inline, "path": output.path, "sha256": output.sha256}
