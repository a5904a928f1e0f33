"""How a sweep stands: what its children came to, which one leads, and whether that is enough."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlfn.spec.record import RunState
from mlfn.sweep.child import Child
from mlfn.sweep.condition import Condition
from mlfn.sweep.grammar import Selector

_TOLD = (RunState.FAILED, RunState.PRUNED, RunState.CANCELLED)
MOST_LEADERS = 10
_FEW = 10  # children that must have ended before a rate of failures says anything


@dataclass(frozen=True)
class Limits:
    """When a sweep ends before all its children have."""

    stop_when: Condition | None = None
    max_failures: int | None = None
    max_failure_rate: float | None = None
    timeout: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())

    @property
    def counts_starts(self) -> bool:
        """Whether a child may be the last to be started."""
        return self.stop_when is not None and "started" in self.stop_when.words()


@dataclass(frozen=True)
class Stop:
    """Why a sweep ends early; `failed` says that it then has failed."""

    why: str
    text: str
    failed: bool = False


class Scoreboard:
    """Takes in each child as it ends, in the order in which they end."""

    def __init__(self, selectors: Sequence[Selector], limits: Limits) -> None:
        self.selectors = tuple(selectors)
        self.limits = limits
        self.started = 0
        self.counts: dict[RunState, int] = dict.fromkeys(RunState, 0)
        self.leader: Child | None = None
        self._leaders: list[tuple[float, int]] = []  # of the best few: their number turned so that lower is better
        self.stagnation = 0
        self.seen: set[str] = set()
        self.stop: Stop | None = None

    @property
    def finished(self) -> int:
        """Children that have ended, in whatever way."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Children that have failed."""
        return self.counts[RunState.FAILED]

    def take(self, child: Child, *, elapsed: float) -> None:
        """Count a child that has ended, and see whether the sweep is to stop; the first reason stays."""
        self.counts[child.state] += 1
        self.seen.update(child.metrics)
        self._compare(child)
        if self.stop is None:
            self.stop = self._too_many_failures() or self._reached(child, elapsed)

    def text(self) -> str:
        """Say how it stands, for whoever watches."""
        said = [f"{count} {state}" for state, count in self.counts.items() if count and state in _TOLD]
        if self.leader is not None and self.leader.numbers is not None:
            said.append(f"best {self.selectors[0].name} {self.leader.numbers[0]:.6g} (child {self.leader.iteration})")
        return ", ".join(said)

    def progress(self, total: int | None) -> dict[str, Any]:
        """Return how it stands, for a live view: read by whoever watches, in place of the children."""
        said: dict[str, Any] = {"done": self.finished, "total": total, "text": self.text(), "started": self.started}
        said["ended"] = {state.value: count for state, count in self.counts.items() if count}
        if self.leader is not None and self.leader.numbers is not None:
            said["best"] = {"iteration": self.leader.iteration, "value": self.leader.numbers[0]}
            said["leaders"] = [iteration for _, iteration in self._leaders]
        return said

    def look(self, elapsed: float) -> None:
        """Stop the sweep if its time is up, or if `stop_when` holds by what no child has to tell."""
        limit = self.limits.timeout
        if self.stop is None and limit is not None and elapsed >= limit:
            self.stop = Stop("timeout", f"its timeout of {limit:g} s was over after {_children(self.finished)}")
        if self.stop is None and self._holds({}, elapsed):
            self.stop = Stop("stop_when", f"{self.limits.stop_when} held after {_children(self.finished)}")

    def run_out(self, size: int | None) -> None:
        """Say so where the strategy had no parameters for as many children as were wanted."""
        if self.stop is None and size is not None and self.started < size:
            self.stop = Stop("exhausted", f"nothing was left to try after {self.started} of {size} children")

    def _compare(self, child: Child) -> None:
        if child.numbers is None or not child.is_feasible:
            self.stagnation += 1
            return
        self._rank(child.numbers[0], child.iteration)
        if self.leader is None or self._leads(child, self.leader):
            self.leader, self.stagnation = child, 0
        else:
            self.stagnation += 1

    def _rank(self, number: float, iteration: int) -> None:
        insort(self._leaders, (-number if self.selectors[0].direction == "max" else number, iteration))
        del self._leaders[MOST_LEADERS:]

    def _leads(self, child: Child, leader: Child) -> bool:
        assert child.numbers is not None
        assert leader.numbers is not None
        ours, theirs = child.numbers[0], leader.numbers[0]
        if ours == theirs:
            return child.iteration < leader.iteration
        return (ours > theirs) is (self.selectors[0].direction == "max")

    def _too_many_failures(self) -> Stop | None:
        most, rate = self.limits.max_failures, self.limits.max_failure_rate
        if most is not None and self.failed >= max(1, most):
            return Stop("max_failures", f"{self.failed} of {self.finished} children failed (max_failures={most})", True)
        if rate is not None and self.finished >= _FEW and self.failed / self.finished > rate:
            text = f"{self.failed} of {self.finished} children failed (max_failure_rate={rate:g})"
            return Stop("max_failure_rate", text, failed=True)
        return None

    def _reached(self, child: Child, elapsed: float) -> Stop | None:
        own = child.metrics if child.state is RunState.SUCCEEDED else {}
        if not self._holds(own, elapsed):
            return None
        return Stop("stop_when", f"{self.limits.stop_when} held after child {child.iteration}")

    def _holds(self, own: Mapping[str, float], elapsed: float) -> bool:
        condition = self.limits.stop_when
        if condition is None:
            return False
        words: dict[str, float] = {
            "elapsed": elapsed,
            "started": self.started,
            "finished": self.finished,
            "failed": self.failed,
            "stagnation": self.stagnation,
        }
        if self.leader is not None and self.leader.numbers is not None:
            words["best"] = self.leader.numbers[0]
        return condition.holds(own, words)


def _children(count: int) -> str:
    return "1 child" if count == 1 else f"{count} children"
