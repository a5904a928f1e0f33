"""What travels to a worker: one attempt at a run, and how all runs of a plan call their handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, final

from mlfn.host.frozen import frozen
from mlfn.settings.secrets import Secret
from mlfn.spec.call_shape import CallShape

if TYPE_CHECKING:
    from mlfn.spec.plan import Plan


@frozen
class Calling:
    """How all runs of one plan call their handler."""

    name: str
    project: str
    outputs: tuple[str, ...] = ()
    shape: CallShape = field(default_factory=CallShape)
    secrets: tuple[Secret, ...] = ()
    mem: int | None = None  # bytes that the run may have, where its place enforces that

    @classmethod
    def of(cls, plan: Plan) -> Calling:
        """Return the part of a plan that a call needs."""
        return cls(plan.name, plan.project, plan.outputs, plan.shape, plan.secrets)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calling:
        """Rebuild from `to_json`."""
        shape, secrets = CallShape.from_json(data["shape"]), tuple(Secret(**item) for item in data["secrets"])
        return cls(data["name"], data["project"], tuple(data["outputs"]), shape, secrets, data["mem"])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**vars(self), "shape": self.shape.to_json(), "secrets": [vars(secret) for secret in self.secrets]}


@final
@frozen
class Extras:
    """What a kind finds out where the run runs: which of how many ranks this is, and what it supplies to the handler.

    `supplied` has the values that the kind's `INJECTS` names, `offered` what makes those that the run's context has beside.
    `page` is the address at which the engine shows what it does, to people.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those on the same machine
    supplied: Mapping[str, Any] = field(default_factory=dict)
    offered: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    page: str | None = None

    def __enter__(self) -> Extras:
        """Return itself: what needs no preparation stands for what a kind prepares."""
        return self

    def __exit__(self, *_: object) -> None:
        """Put nothing back."""


@frozen
class Task:
    """One attempt at one run."""

    run: str
    attempt: int
    params: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    log: str | None = None
    iteration: int = 0
    judged: str | None = None  # the metric whose points are answered
    children: int = 0  # how many its handler has opened in earlier attempts

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dict(vars(self))
