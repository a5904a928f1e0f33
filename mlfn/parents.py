"""Parameters that are outputs of other runs: whom a run waits for, and what it gets from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.errors import NotFoundError, ParentFailedError, nearest
from mlfn.spec.record import RunState
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
        return ParentFailedError(f"{name} waits for run {parent[:8]}, which is not in the store.")
    return ParentFailedError(
        f"{name} waits for an output of {store.get_run(parent).name} ({parent[:8]}), "
        f"{'which failed' if state is RunState.FAILED else f'which was {state.value}'}; "
        f"`mlfn show {parent[:8]}` says why."
    )


def _resolved(store: Reading, value: Mapping[str, Any]) -> Mapping[str, Any]:
    if "output" not in value:
        return value
    parent, key = store.get_run(value["output"]["run"]), value["output"]["key"]
    outputs = {output.key: output for output in store.outputs(parent.id, parent.attempt)}
    if key not in outputs:
        raise NotFoundError(f"{parent.name} ({parent.id[:8]}) has no output {key!r}: {nearest(key, outputs)}")
    output = outputs[key]
    return {"packer": output.packer, "inline": output.inline, "path": output.path, "sha256": output.sha256}
