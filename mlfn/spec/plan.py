"""What all runs of one function version at one place have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Any

from mlfn.host.frozen import frozen
from mlfn.settings.secrets import Secret
from mlfn.spec.call_shape import CallShape
from mlfn.spec.record import Attempt, Reason, RunRecord
from mlfn.spec.values import Retry


@frozen
class Selected:
    """A kind or a place by name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Workspace:
    """What the caller had around the function, for a place that shares its files: folders, own modules, unsaved text.

    `by_reference` names the caller's own modules, `sources` holds the text of notebook cells by file name, `logging` how the
    loggers were set up, as `mlfn.worker.logging_setup` describes it.
    """

    cwd: str = ""
    sys_path: tuple[str, ...] = ()
    by_reference: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    logging: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Workspace:
        """Return the workspace in the JSON body of a plan."""
        modules, logging = tuple(body["by_reference"]), body.get("logging", {})
        return cls(body["cwd"], tuple(body["sys_path"]), modules, body["sources"], logging)


@frozen
class Plan:
    """A planned execution: the function version, how it is called, what it asks for, and what was around it.

    `hash` names the stored JSON; `cpu` in cores, `mem` in bytes, `timeout` in seconds. `inputs` maps the parameters that
    name files to the annotations they are read as, `defaults` holds the encoded defaults.
    """

    hash: str
    function: str
    name: str
    project: str
    kind: Selected
    place: Selected
    payload: str
    shape: CallShape
    accepts: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    image: str | None = None
    requirements: tuple[str, ...] = ()
    cpu: float | None = None
    mem: int | None = None
    gpus: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    node: Mapping[str, Any] | None = None
    timeout: float | None = None
    retry: Retry | None = None
    parts: Mapping[str, list[str]] = field(default_factory=dict)
    workspace: Workspace = field(default_factory=Workspace)

    @classmethod
    def of_body(cls, body: Mapping[str, Any], *, hash: str | None = None) -> Plan:  # noqa: A002 - the plan's own word
        """Return the plan of a JSON body; raise KeyError, TypeError or ValueError for a body that is none."""
        if hash is None:
            from mlfn.spec.canonical import digest  # readers of a store know it

            hash = digest(body)  # noqa: A001
        stored = {f.name: body[f.name] for f in fields(cls) if f.name in body}
        for name in ("accepts", "outputs", "requirements"):
            stored[name] = tuple(body[name])
        made = {
            "hash": hash,
            "kind": Selected(**body["kind"]),
            "place": Selected(**body["place"]),
            "shape": CallShape.from_json(body["shape"]),
            "secrets": tuple(Secret(**item) for item in body["secrets"]),
            "retry": Retry.of_plan(body["retry"]) if body["retry"] else None,
            "workspace": Workspace.of_body(body),
        }
        return cls(**{**stored, **made})


def left_out(plan: Plan, record: RunRecord) -> dict[str, Mapping[str, Any]]:
    """Return the stored defaults of the parameters that a run was not given, in the order of the signature.

    There are none for a child that a handler opened: it is no call of the function.
    """
    defaults = plan.defaults if record.part_of is None else {}
    return {name: defaults[name] for name in plan.accepts if name in defaults and name not in record.params}


def with_more_memory(plan: Plan, kills: int) -> Plan:
    """Return the plan of an attempt after so many that ran out of memory, under a hash of its own where it asks for more."""
    mem = plan.mem
    for _ in range(kills):
        mem = plan.retry.more_memory(mem) if plan.retry is not None else mem
    return plan if mem == plan.mem else replace(plan, mem=mem, hash=f"{plan.hash.partition('+')[0]}+{mem}")


def kills_among(attempts: Iterable[Attempt]) -> int:
    """Return how many of a run's attempts ran out of memory."""
    return sum(attempt.reason == Reason.OOM.value for attempt in attempts)


def memory_of_each(plan: Plan, attempts: Sequence[Attempt]) -> dict[int, int]:
    """Return the bytes that each attempt of a run asks for, by its number, where its retry policy raises them."""
    if plan.retry is None or plan.retry.mem is None:
        return {}
    asked = {item.attempt: with_more_memory(plan, kills_among(attempts[:n])).mem for n, item in enumerate(attempts)}
    return {attempt: mem for attempt, mem in asked.items() if mem is not None}
