"""A sweep as it is stored: all that another process needs to resume it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from typing import Any

from mlfn.host.frozen import frozen

# Options that affect neither parameters nor winner; a resume may change them.
DRIVING = ("parallel", "stop_when", "max_failures", "max_failure_rate", "timeout", "memo", "strict")
# Options that affect parameters or winner; a resume must have the same.
DECIDING = ("select", "subject_to", "deterministic")


@frozen
class Rules:
    """Which child is the best, how many run at a time, and when a sweep ends; `Sweep.with_options` documents each."""

    select: tuple[str, ...] = ()
    subject_to: tuple[str, ...] = ()
    parallel: int | None = None
    stop_when: str | None = None
    max_failures: int | None = None
    max_failure_rate: float | None = None
    timeout: float | None = None
    deterministic: bool = False
    memo: bool = False
    strict: bool = True


@frozen
class SweepBody(Rules):
    """A submitted sweep; values are encoded as parameters are.

    Parameters
    ----------
    strategy: ``{"name": ..., "data": ...}``: its name in the registry, and what `from_json` needs.
    keys: the swept names, where they are known beforehand.
    fixed: the parameters that all children share.
    bases: the values of which dotted keys change a part (fixed or default), by parameter.
    judged: the metric by which children are pruned.
    mapped: whether it is a map: results in order, no best child.
    after: an ended sweep whose succeeded children are not run again.
    """

    strategy: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    bases: Mapping[str, Any] = field(default_factory=dict)
    judged: str | None = None
    mapped: bool = False
    after: str | None = None
    size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    def changed_in(self, other: SweepBody, options: Iterable[str]) -> dict[str, tuple[Any, Any]]:
        """Return the options that differ in `other`, each with both values."""
        both = {name: (getattr(self, name), getattr(other, name)) for name in options}
        return {name: (_as_given(old), _as_given(new)) for name, (old, new) in both.items() if old != new}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SweepBody:
        """Rebuild from `to_json`."""
        lists = {name: tuple(data[name]) for name in ("keys", "select", "subject_to")}
        # A body without `strict` is of a sweep that was submitted when none was.
        return cls(**{"strict": False, **data, **lists})


def _as_given(value: Any) -> Any:
    """Return an option as a caller writes it: a single text by itself, and no text as None."""
    if not isinstance(value, tuple):
        return value
    return list(value) if len(value) > 1 else next(iter(value), None)
