"""`Strategy`: chooses the parameters of each child, and may learn from how the earlier ones ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunState


@frozen
class Told:
    """How one child ended.

    Parameters
    ----------
    iteration: the child's number, from 1.
    params: what `Strategy.ask` returned for it.
    state: terminal, or `running` for a child in flight when a sweep is resumed.
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

    When a sweep is resumed, `from_json` rebuilds it, `tell` gets every stored child in the order of their numbers, and
    `ask` goes on with the next. With the same seed and the same order of endings it must choose the same.

    Parameters
    ----------
    size: how many children there are at most; None where that is unknown.
    adaptive: whether `tell` changes what `ask` returns.
    judges: whether `report` gets the points of the first selector's metric, and may prune a child.
    """

    size: int | None = None
    adaptive: bool = False
    judges: bool = False

    def following(self, iteration: int) -> int:
        """Return the number of the child after `iteration`, of the first after 0; a slice of a grid leaves some out."""
        return iteration + 1

    @abstractmethod
    def ask(self, iteration: int) -> Mapping[str, Any] | None:
        """Return the parameters of child `iteration`; numbers ascend. None: there is no such child, nor any after it."""

    def tell(self, told: Told) -> None:  # noqa: B027 - most do not learn
        """Learn how a child ended; called once for each."""

    def report(self, iteration: int, step: int, value: float) -> str | None:
        """Receive a point of the first selector's metric; return a reason to prune the child, or None."""
        return None

    @abstractmethod
    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return what `from_json` needs; `encode` turns one value of any type into JSON."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Strategy:
        """Rebuild it as it was before any `tell`."""
