"""Who chooses the parameters of the next child: asked for each in turn, told how each ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlfn.errors import ParameterError
from mlfn.spec.record import RunState


@dataclass(frozen=True)
class Told:
    """How one child ended, as far as a strategy needs it.

    Parameters
    ----------
    iteration: the child's number, from 1.
    params: what the strategy chose for it, by key.
    state: terminal, or `running` for a child that is in flight while a new driver takes over.
    values: one number for each selector; None unless the child succeeded and all of them are finite.
    series: (step, value) of the first selector's metric, as logged.
    constraints: by name; a child is feasible if none is above 0.
    """

    iteration: int
    params: Mapping[str, Any]
    state: RunState
    values: tuple[float, ...] | None
    series: tuple[tuple[int, float], ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)


class Strategy(ABC):
    """Chooses the swept parameters of each child.

    It is rebuilt when a sweep is resumed and told of every stored child again, in the order of their numbers, before it
    is asked for the next; with the same seed and the same order of endings it must then choose the same.
    """

    size: int | None = None
    """How many children there are at most; None where that is unknown."""

    adaptive: bool = False
    """Whether what it is told changes what it answers."""

    def following(self, iteration: int) -> int:
        """Return the number of the child after `iteration`; 0 asks for the first. A slice of a grid leaves some out."""
        return iteration + 1

    judges: bool = False
    """Whether it wants to be told of the points of the first selector's metric, and may have a child pruned."""

    @abstractmethod
    def ask(self, iteration: int) -> Mapping[str, Any] | None:
        """Return the parameters of child `iteration`; numbers ascend. None: there is no such child, nor any after it."""

    def tell(self, told: Told) -> None:  # noqa: B027 - most need not know
        """Take in how a child ended; each child once."""

    def report(self, iteration: int, step: int, value: float) -> str | None:
        """Take in a point of the first selector's metric; a text says that the child should be pruned, and why."""
        return None

    @abstractmethod
    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return what it takes to build it again; `encode` turns one value of any type into JSON."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Strategy:
        """Build it again, nothing told yet."""


def checked_point(point: Any, iteration: int) -> Mapping[str, Any]:
    """Return a copy of what a user's own code chose; refuse what is no mapping by name."""
    if not isinstance(point, Mapping) or not all(isinstance(key, str) for key in point):
        raise ParameterError(
            f"The parameters of child {iteration} are {point!r}: a mapping by name is allowed, as in {{'depth': 4}}."
        )
    return dict(point)
