"""How far a sweep is: how its children ended, which one leads, and whether a limit is reached."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunState
from mlfn.sweep.conditions.grammar import Selector, parse_condition
from mlfn.sweep.results.child import Child
from mlfn.sweep.spec import SweepBody

_SHOWN = (RunState.FAILED, RunState.PRUNED, RunState.CANCELLED)
MOST_LEADERS = 10
_FEW = 10  # children that must have ended before a rate of failures counts


@frozen
class Stop:
    """Why a sweep ends early; `failed` makes it a failure."""

    text: str
    failed: bool = False


class Scoreboard:
    """Counts each child as it ends, in the order in which they end."""

    def __init__(self, selectors: Sequence[Selector], body: SweepBody) -> None:
        self.selectors = tuple(selectors)
        self._body = body
        self._stop_when = parse_condition(body.stop_when) if body.stop_when is not None else None
        self.started = 0
        self.counts: dict[RunState, int] = dict.fromkeys(RunState, 0)
        self.leader: int | None = None
        self.best: float | None = None
        self._leaders: list[tuple[float, int]] = []  # of the best few: their number turned so that lower is better
        self.stagnation = 0
        self.stop: Stop | None = None

    @property
    def finished(self) -> int:
        """Children that have ended, in any state."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Children that have failed."""
        return self.counts[RunState.FAILED]

    @property
    def failures_left(self) -> int | None:
        """How many children may still fail before the sweep does; None for any number."""
        most = self._body.max_failures
        return None if most is None else max(1, max(1, most) - self.failed)

    @property
    def counts_starts(self) -> bool:
        """Whether a child may be the last to be started."""
        return self._stop_when is not None and "started" in self._stop_when.words()

    def add(self, child: Child, *, elapsed: float) -> None:
        """Count a child that has ended, and check whether the sweep should stop; the first reason stays."""
        self.counts[child.state] += 1
        self._compare(child)
        if self.stop is None:
            self.stop = self._too_many_failures() or self._reached(child, elapsed)

    def fail(self, text: str) -> None:
        """Stop the sweep as failed; the first reason stays."""
        self.stop = self.stop or Stop(text, failed=True)

    def text(self) -> str:
        """Return how far the sweep is, in words."""
        parts = [f"{count} {state}" for state, count in self.counts.items() if count and state in _SHOWN]
        if self.best is not None:
            parts.append(f"best {self.selectors[0].name} {self.best:.4g} (child {self.leader})")
        return ", ".join(parts)

    def progress(self, total: int | None) -> dict[str, Any]:
        """Return how far the sweep is, for live views, which then need not read the children."""
        found: dict[str, Any] = {"done": self.finished, "total": total, "text": self.text(), "started": self.started}
        found["ended"] = {state.value: count for state, count in self.counts.items() if count}
        if self.best is not None:
            found["best"] = {"iteration": self.leader, "value": self.best}
            found["leaders"] = [iteration for _, iteration in self._leaders]
        return found

    def check_limits(self, elapsed: float) -> None:
        """Stop the sweep if its time is up, or if `stop_when` holds without a child's metrics."""
        limit = self._body.timeout
        if self.stop is None and limit is not None and elapsed >= limit:
            self.stop = Stop(f"its timeout of {limit:g} s was over after {_children(self.finished)}")
        if self.stop is None and self._holds({}, elapsed):
            self.stop = Stop(f"{self._stop_when} held after {_children(self.finished)}")

    def mark_exhausted(self, size: int | None) -> None:
        """Stop the sweep if the strategy had parameters for fewer children than wanted."""
        if self.stop is None and size is not None and self.started < size:
            self.stop = Stop(f"nothing was left to try after {self.started} of {size} children")

    def _compare(self, child: Child) -> None:
        self.stagnation += 1
        if child.numbers is None or not child.is_feasible:
            return
        number = child.numbers[0]
        rank = (-number if self.selectors[0].direction == "max" else number, child.iteration)
        insort(self._leaders, rank)
        del self._leaders[MOST_LEADERS:]
        if self._leaders[0] == rank:
            self.leader, self.best, self.stagnation = child.iteration, number, 0

    def _too_many_failures(self) -> Stop | None:
        most, rate = self._body.max_failures, self._body.max_failure_rate
        if most is not None and self.failed >= max(1, most):
            return Stop(f"{self.failed} of {self.finished} children failed (max_failures={most})", failed=True)
        if rate is not None and self.finished >= _FEW and self.failed / self.finished > rate:
            text = f"{self.failed} of {self.finished} children failed (max_failure_rate={rate:g})"
            return Stop(text, failed=True)
        return None

    def _reached(self, child: Child, elapsed: float) -> Stop | None:
        own = child.metrics if child.state is RunState.SUCCEEDED else {}
        text = f"{self._stop_when} held after child {child.iteration}"
        return Stop(text) if self._holds(own, elapsed) else None

    def _holds(self, own: Mapping[str, float], elapsed: float) -> bool:
        if self._stop_when is None:
            return False
        words: dict[str, float] = {
            "elapsed": elapsed,
            "started": self.started,
            "finished": self.finished,
            "failed": self.failed,
            "stagnation": self.stagnation,
        }
        if self.best is not None:
            words["best"] = self.best
        return self._stop_when.holds(own, words)


def _children(count: int) -> str:
    return "1 child" if count == 1 else f"{count} children"
