"""The contract suite of strategies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mlfn.spec.record import RunState
from mlfn.sweep.strategy import Strategy, Told

# How children end, in turn.
ENDINGS: tuple[tuple[RunState, float | None], ...] = (
    (RunState.SUCCEEDED, 0.5),
    (RunState.FAILED, None),
    (RunState.SUCCEEDED, -1e300),
    (RunState.PRUNED, None),
    (RunState.SUCCEEDED, None),
    (RunState.CANCELLED, None),
    (RunState.SUCCEEDED, 0.5),
)


class Values:
    """Stand in for the store's codec: encode each value as a number, and decode it as the very object."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def encode(self, value: Any) -> Any:
        self.kept.append(value)
        return {"kept": len(self.kept) - 1}

    def decode(self, data: Any) -> Any:
        return self.kept[data["kept"]]


class StrategyContract:
    """What the driver of a sweep relies on; subclass it in a test file.

    ::

        class TestMine(StrategyContract):
            def make(self):
                return Mine(seed=7)

    The strategy must have six children or more. Override the other methods without ``test_`` where it differs: where it
    leaves numbers out, for example.
    """

    many = 12
    """How many children to ask for at most."""

    objectives = 1
    """How many selectors the sweep has."""

    def make(self) -> Strategy:
        """Return a new strategy; that of each call must choose the same."""
        raise NotImplementedError

    def iterations(self, strategy: Strategy) -> list[int]:
        """Return the numbers to ask for; a view of a sweep leaves some out."""
        return list(range(1, (strategy.size or self.many) + 1)[: self.many])

    def same(self, one: Any, other: Any) -> bool:
        """Return whether two values are equal and of the same type."""
        if isinstance(one, Mapping):
            keys = list(one) == list(other)
            return keys and all(self.same(one[key], other[key]) for key in one)
        return one is other or (type(one) is type(other) and bool(one == other))

    # -- acting as a driver does
    def ending(self, iteration: int, params: Mapping[str, Any]) -> Told:
        state, value = ENDINGS[(iteration - 1) % len(ENDINGS)]
        values = None if value is None else (value + iteration / 8,) * self.objectives
        series = tuple((step, 1.0 / (step + iteration)) for step in range(3))
        return Told(iteration, params, state, values, series, {"memory": iteration - 3.0})

    def drive(self, strategy: Strategy) -> list[Told]:
        """Ask for each child, report its points, and tell its end, one after the other."""
        ended = []
        for iteration in self.iterations(strategy):
            params = strategy.ask(iteration)
            if params is None:
                break
            end = self.ending(iteration, params)
            for step, value in end.series:
                strategy.report(iteration, step, value)
            strategy.tell(end)
            ended.append(end)
        return ended

    def rebuilt(self, strategy: Strategy) -> Strategy:
        values = Values()
        data = json.loads(json.dumps(strategy.to_json(values.encode), allow_nan=False))
        return type(strategy).from_json(data, values.decode)

    # -- what must hold
    def test_children_have_parameters_by_name(self) -> None:
        ended = self.drive(self.make())

        assert ended
        assert all(isinstance(end.params, Mapping) and all(isinstance(key, str) for key in end.params) for end in ended)

    def test_size_is_an_upper_bound(self) -> None:
        strategy = self.make()

        assert strategy.size is None or len(self.drive(strategy)) <= strategy.size

    def test_equal_strategies_choose_the_same(self) -> None:
        one, other = self.drive(self.make()), self.drive(self.make())

        assert self.alike(one, other)

    def test_rebuilt_strategy_chooses_the_same(self) -> None:
        strategy = self.make()

        again = self.rebuilt(strategy)

        assert (again.size, again.adaptive) == (strategy.size, strategy.adaptive)
        assert self.alike(self.drive(again), self.drive(self.make()))

    def test_rebuilding_forgets_what_was_learned(self) -> None:
        strategy = self.make()
        self.drive(strategy)

        assert self.alike(self.drive(self.rebuilt(strategy)), self.drive(self.make()))

    def test_resuming_with_past_results_chooses_the_same(self) -> None:
        whole = self.drive(self.make())
        for done in range(len(whole)):
            again = self.rebuilt(self.make())
            for end in whole[:done]:
                again.tell(end)

            following = again.ask(whole[done].iteration)

            assert following is not None and self.same(dict(following), dict(whole[done].params)), f"after {done}"

    def test_child_in_flight_at_resume_ends_later(self) -> None:
        whole = self.drive(self.make())
        again = self.rebuilt(self.make())
        for end in whole[:2]:
            again.tell(Told(end.iteration, end.params, RunState.RUNNING, None))

        again.ask(whole[2].iteration)
        for end in whole[:2]:
            again.tell(end)

        assert again.ask(whole[3].iteration) is not None

    def test_children_may_end_in_any_order(self) -> None:
        strategy = self.make()
        asked = [(i, strategy.ask(i)) for i in self.iterations(strategy)[:4]]

        for iteration, params in reversed(asked):
            assert params is not None
            strategy.tell(self.ending(iteration, params))

        assert strategy.ask(self.iterations(strategy)[4]) is not None

    def test_children_may_be_asked_before_any_ends(self) -> None:
        strategy = self.make()

        assert all(strategy.ask(iteration) is not None for iteration in self.iterations(strategy)[:6])

    def test_results_change_nothing_unless_adaptive(self) -> None:
        strategy = self.make()
        if not strategy.adaptive:
            before = [strategy.ask(iteration) for iteration in self.iterations(strategy)]

            after = [end.params for end in self.drive(self.make())]

            assert all(self.same(dict(a or {}), dict(b)) for a, b in zip(before, after, strict=True))

    def test_nothing_follows_the_end(self) -> None:
        strategy = self.make()
        if strategy.size is not None:
            last = self.iterations(strategy)[-1] if strategy.size <= self.many else strategy.size
            beyond = [strategy.ask(last + more) for more in (1, 2, 100)]

            assert beyond == [None, None, None]

    def test_changing_returned_parameters_changes_no_later_ones(self) -> None:
        first, *_ = self.iterations(self.make())
        strategy = self.make()

        params = strategy.ask(first)
        if isinstance(params, dict):
            params.clear()

        again = self.make().ask(first)
        assert again and self.alike(self.drive(strategy)[1:], self.drive(self.make())[1:])

    def test_nan_and_unordered_points_are_accepted(self) -> None:
        strategy = self.make()
        first, *_ = self.iterations(strategy)
        strategy.ask(first)

        answers = [
            strategy.report(first, step, value) for step, value in ((0, math.nan), (1, math.inf), (1, 0.5), (0, 1.0))
        ]

        assert all(why is None or (isinstance(why, str) and why) for why in answers)

    def alike(self, one: list[Told], other: list[Told]) -> bool:
        return [end.iteration for end in one] == [end.iteration for end in other] and all(
            self.same(dict(a.params), dict(b.params)) for a, b in zip(one, other, strict=True)
        )
