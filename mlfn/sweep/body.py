"""A sweep as it is stored: all that it takes to go on with it in another process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# Options of which no child's parameters depend, nor which child is the best: another driver may have others.
DRIVING = ("parallel", "stop_when", "max_failures", "max_failure_rate", "timeout", "memo")
DECIDING = ("select", "subject_to", "deterministic")


@dataclass(frozen=True)
class SweepBody:
    """What a sweep was submitted as; values are encoded as parameters are.

    Parameters
    ----------
    strategy: ``{"name": ..., "data": ...}``: who chooses, and what it needs to be built again.
    keys: the names that are swept, where they are known before.
    fixed: the parameters that all children share.
    bases: what dotted keys change a part of: the fixed value or the handler's default, by parameter.
    select: selectors; the first one decides which child is the best.
    judged: the metric whose points are answered with a verdict.
    mapped: whether it is a map: results in order, and no best one.
    after: a sweep that is over, of which children that succeeded are not run again.
    """

    strategy: Mapping[str, Any]
    keys: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    bases: Mapping[str, Any] = field(default_factory=dict)
    select: tuple[str, ...] = ()
    subject_to: tuple[str, ...] = ()
    parallel: int | None = None
    stop_when: str | None = None
    max_failures: int | None = None
    max_failure_rate: float | None = None
    timeout: float | None = None
    deterministic: bool = False
    memo: bool = False
    judged: str | None = None
    mapped: bool = False
    after: str | None = None
    size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    def directed(self, options: Mapping[str, Any]) -> SweepBody:
        """Return this with other options that say how it is driven."""
        return replace(self, **{name: options[name] for name in DRIVING})

    def changed_in(self, other: SweepBody, options: Iterable[str]) -> dict[str, tuple[Any, Any]]:
        """Return those options that `other` has otherwise, each with the value here and there."""
        both = {name: (getattr(self, name), getattr(other, name)) for name in options}
        return {name: (_as_given(old), _as_given(new)) for name, (old, new) in both.items() if old != new}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SweepBody:
        """Rebuild from `to_json`."""
        lists = {name: tuple(data[name]) for name in ("keys", "select", "subject_to")}
        return cls(**{**data, **lists})


def _as_given(value: Any) -> Any:
    """Return an option as somebody would write it: one text of several by itself, and none as None."""
    if not isinstance(value, tuple):
        return value
    return list(value) if len(value) > 1 else next(iter(value), None)
