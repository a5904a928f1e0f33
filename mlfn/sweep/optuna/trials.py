"""The trials of a study in memory; a change replaces a trial whole."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from mlfn.spec.record import RunState
from mlfn.sweep.strategy import Told

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# Optuna requires times; the store has the true ones, and nothing here reads these.
_NEVER = datetime.datetime(2000, 1, 1)  # noqa: DTZ001 - Optuna's are naive


class Trials:
    """One study's trials by number."""

    def __init__(self, name: str, directions: Sequence[str]) -> None:
        from optuna.study import StudyDirection

        which = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        self.storage = _parts()[0]()
        self.name = name
        self._study = self.storage.create_new_study([which[each] for each in directions], name)
        self.stopped = False  # by a sampler that has nothing left
        self._count = 0
        self._gaps: set[int] = set()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> FrozenTrial:
        trial: FrozenTrial = self.storage.get_trial(number)
        return trial

    def study(self, sampler: BaseSampler | None = None) -> Study:
        """Return a new study of them, without Optuna's caches of another thread or an earlier call; it costs 2 us."""
        _, make, idle, pruner = _parts()
        study = make(self.name, self.storage, sampler=sampler or idle, pruner=pruner)
        study.on_stop = self._stop
        return study  # type: ignore[no-any-return]

    def _stop(self) -> None:
        self.stopped = True

    def add(self) -> FrozenTrial:
        """Add a trial that has no parameters yet."""
        number = self.storage.create_new_trial(self._study)
        assert number == self._count, "a storage with one study numbers its trials from 0"
        self._count += 1
        return self[number]

    def fill_up_to(self, number: int) -> None:
        """Add those missing before `number` as failed: their children were deleted."""
        while len(self) < number:
            missing = self.add().number
            self.put(missing, "FAIL", {}, {})
            self._gaps.add(missing)

    def is_open(self, number: int) -> bool:
        """Return whether it can still change."""
        return number in self._gaps or not self[number].state.is_finished()

    def put(
        self,
        number: int,
        state: str,
        params: Mapping[str, Any],
        distributions: dict[str, BaseDistribution],
        *,
        values: Sequence[float] | None = None,
        series: Mapping[int, float] | None = None,
        constraints: Mapping[str, float] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> FrozenTrial:
        """Replace a trial; Optuna validates what its users give, and here it would be a third of the cost."""
        import optuna

        state_of = optuna.trial.TrialState[state]
        trial = optuna.trial.FrozenTrial(
            number=number,
            trial_id=number,
            state=state_of,
            value=None,
            values=None if values is None else [float(value) for value in values],
            datetime_start=_NEVER,
            datetime_complete=_NEVER if state_of.is_finished() else None,
            params=dict(params),
            distributions=distributions,
            user_attrs=dict(user_attrs or {}),
            system_attrs=dict(system_attrs or {}),
            intermediate_values=dict(series or {}),
        )
        for name, value in (constraints or {}).items():
            if not math.isnan(value):  # Optuna refuses it, and an unknown constraint is not violated
                trial.set_constraint(name, float(value))
        self._gaps.discard(number)
        self.storage.put(trial)
        return trial


def first_of_each(*series: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Return values by step; the first that was reported of a step counts, as with Optuna, and none before step 0."""
    found: dict[int, float] = {}
    for points in series:
        for step, value in points:
            if step >= 0:
                found.setdefault(int(step), float(value))
    return found


def outcome(report: Told, series: Mapping[int, float], objectives: int) -> tuple[str, Sequence[float] | None]:
    """Return Optuna's state and values for how a child ended; one without finite values has failed.

    A pruned one has the value of its last step.
    So has one that its handler pruned among several objectives: Optuna has no value for it.
    """
    if not report.state.is_terminal:
        return "RUNNING", None
    if report.state is RunState.PRUNED and objectives == 1:
        last = series[max(series)] if series else math.nan
        return "PRUNED", None if math.isnan(last) else [last]
    if report.state is RunState.SUCCEEDED and report.values is not None and all(map(math.isfinite, report.values)):
        assert len(report.values) == objectives, (
            f"child {report.iteration} has {len(report.values)} values for {objectives}"
        )
        return "COMPLETE", report.values
    return "FAIL", None


@cache
def _parts() -> tuple[Any, Any, BaseSampler, BasePruner]:
    """Return the classes of storage and study, and a sampler and a pruner that are never asked."""
    import optuna

    class Cache(optuna.storages.InMemoryStorage):
        # Of the trials there now: the one that is kept would not know of trials that were replaced.
        get_best_trial = optuna.storages.BaseStorage.get_best_trial

        def put(self, trial: FrozenTrial) -> None:
            with self._lock:
                self._set_trial(trial.number, trial)  # the ids of one study are its numbers

    class OwnStudy(optuna.Study):
        on_stop: Callable[[], None]

        def stop(self) -> None:
            """Call `on_stop`; Optuna's own raises outside of its loop."""
            self.on_stop()

    return Cache, OwnStudy, optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
