"""`SweepOptions`: which child is the best, how many run at a time, and when a sweep ends; checked when given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlfn.errors import OptionError
from mlfn.host.frozen import frozen
from mlfn.spec.options import check_name, check_options
from mlfn.sweep.conditions.grammar import parse_condition, parse_constraints, parse_selectors
from mlfn.sweep.spec import Rules


@frozen
class SweepOptions(Rules):
    """Options of a sweep: its rules, its name, and whether it begins anew under that."""

    name: str | None = None
    again: str | None = None

    def to_body(self) -> dict[str, Any]:
        """Return what is stored in the sweep's body; the name has a column of its own, and `again` is about this submit alone."""
        return {name: value for name, value in vars(self).items() if name not in ("name", "again")}

    def changed(self, options: Mapping[str, Any]) -> SweepOptions:
        """Return a copy with some options changed and checked; None restores a default."""
        return replace(
            self,
            **{
                name: getattr(SweepOptions, name) if value is None else _CHECKS[name](name, value)
                for name, value in options.items()
            },
        )


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else None
    if not texts or not all(isinstance(text, str) for text in texts):
        raise OptionError(f"{name}={value!r}: a text or a list of texts is allowed, as in {name}='max.accuracy'.")
    parse = parse_selectors if name == "select" else parse_constraints
    parse(texts)
    return texts


def _condition(_: str, value: Any) -> str:
    return parse_condition(value).text


def _count(name: str, value: Any) -> int:
    least = 0 if name == "max_failures" else 1
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name}={value!r}: a whole number, {least} or more, is allowed.")
    return value


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise OptionError(f"{name}={value!r}: a share from 0 to less than 1 is allowed, as in {name}=0.2.")
    return float(value)


def _new(name: str, value: Any) -> str:
    if value != "new":
        raise OptionError(
            f"{name}={value!r}: 'new' is allowed, which begins a sweep of this name= anew; leave it out to go on."
        )
    return "new"


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name}={value!r}: True or False is allowed.")
    return value


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "select": _texts,
    "subject_to": _texts,
    "parallel": _count,
    "stop_when": _condition,
    "max_failures": _count,
    "max_failure_rate": _share,
    "timeout": lambda name, value: check_options({name: value}).timeout,
    "deterministic": _flag,
    "memo": _flag,
    "strict": _flag,
    "name": lambda _, value: check_name(value),
    "again": _new,
}
