"""`where=` of a listing: a condition on a run's parameters, metrics and numeric outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.dispatch import hooks
from mlfn.errors import ParameterError, nearest
from mlfn.spec.plan import Plan, left_out
from mlfn.spec.record import RunRecord
from mlfn.store.sweeps import Reader

_EXTREMES = {"min.": 0, "max.": 1}


class Where:
    """A condition, and which names the runs have that it was asked of.

    A name is a parameter, swept or given or a default, else the last value of a metric or numeric output; ``max.NAME`` and
    ``min.NAME`` are the extremes of a metric's series.
    """

    def __init__(self, text: str) -> None:
        if hooks.condition is None:  # mlfn/__init__.py installs it
            raise ParameterError(f"runs(where={text!r}): nothing here reads conditions.")
        self._condition = hooks.condition(text, option="where", words={})
        self._names: frozenset[str] = self._condition.names()
        self._plans: dict[str, Plan] = {}
        self._known: set[str] = set()

    def matching(self, store: Reader, records: Sequence[RunRecord]) -> list[RunRecord]:
        """Return the runs of which the condition holds."""
        runs = [record.id for record in records]
        scores = store.scores_among(runs)
        extremes = {
            name: store.extremes_among(runs, name[4:]) for name in self._names if name.startswith(tuple(_EXTREMES))
        }
        found = []
        for record in records:
            own = {**scores.get(record.id, {}), **self._params(store, record)}
            self._known |= own.keys()
            for name, by_run in extremes.items():
                if record.id in by_run:
                    own[name] = by_run[record.id][_EXTREMES[name[:4]]]
                elif name not in own and name[4:] in own:
                    own[name] = own[name[4:]]  # an output, which has no series
            if self._condition.holds(own):
                found.append(record)
        return found

    def why_none(self) -> str:
        """Return a sentence on the names that no run has."""
        for name in sorted(self._names):
            bare = name[4:] if name.startswith(tuple(_EXTREMES)) else name
            if bare not in self._known and name not in self._known and self._known:
                return f"no run has a number {bare!r}: {nearest(bare, self._known)}"
        return ""

    def _params(self, store: Reader, record: RunRecord) -> dict[str, Any]:
        if record.plan not in self._plans:
            self._plans[record.plan] = store.get_plan(record.plan)
        # A default of what a sweep sweeps is no parameter of any run.
        defaults = {} if record.sweep else left_out(self._plans[record.plan], record)
        stored = {**defaults, **record.params, **(record.point or {})}
        return {name: number for name, value in stored.items() if (number := _number(value)) is not None}


def _number(stored: Mapping[str, Any]) -> float | None:
    """Return a stored number; None for any other value, which would have to be loaded."""
    if stored.get("packer") != "json" or "inline" not in stored:
        return None
    try:
        value = tagged_json.decode(stored["inline"])
    except Exception:  # noqa: BLE001 - a row may hold anything
        return None
    return value if isinstance(value, (int, float)) else None
