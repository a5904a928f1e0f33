"""Answers to the points that children report: whether one should stop now."""

from __future__ import annotations

import logging
import time

from mlfn.errors import ParameterError
from mlfn.sweep.strategy import Strategy

logger = logging.getLogger(__name__)


class Pruning:
    """Passes points to the strategy; a child that is to stop has `grace` seconds to end by itself."""

    def __init__(self, strategy: Strategy, sweep: str, grace: float) -> None:
        self.error: Exception | None = None  # raised by the strategy, which can be the user's own
        self._strategy = strategy
        self._sweep = sweep
        self._grace = grace
        self._deadlines: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._refused: set[str] = set()  # children that reported a point which cannot be compared

    def verdict(self, run: str, iteration: int, step: int | None, value: float) -> str | None:
        """Return why a child that reported this point should stop; None if it may continue.

        Never raises: inline it is called within the handler, and `error` then ends the sweep later.
        """
        if self.error is not None:
            return None
        self._steps[run] = step = self._steps.get(run, -1) + 1 if step is None else step
        try:
            why = self._strategy.report(iteration, step, value)
        except ParameterError as error:
            if run not in self._refused:
                self._refused.add(run)
                logger.warning("%s of %s is not pruned by such points: %s", run[:8], self._sweep, error)
            return None
        except Exception as error:  # noqa: BLE001 - a pruner can be the user's own
            self.error = error
            return None
        if why is not None:
            self._deadlines[run] = time.monotonic() + self._grace
        return why

    def forget(self, run: str) -> None:
        """Drop a child that has ended."""
        self._deadlines.pop(run, None)
        self._steps.pop(run, None)

    def overdue(self) -> list[str]:
        """Return the children that did not stop in time, each once."""
        moment = time.monotonic()
        found = [run for run, deadline in self._deadlines.items() if moment >= deadline]
        for run in found:
            del self._deadlines[run]
        return found
