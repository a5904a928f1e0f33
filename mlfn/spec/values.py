"""Values that users put into declarations: standard library alone, so that their modules import anywhere."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from mlfn.errors import OptionError, meant, nearest, readable

T = TypeVar("T")
REASONS = ("error", "oom", "timeout", "lost", "preempted", "never_started", "skew", "storage", "code")
"""Why a run can fail, as `mlfn.spec.record.Reason` has it: that a declaration need not load."""
_SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def is_name(text: object, *, signs: str, first: str) -> bool:
    """Return whether a text is a name: letters and digits of any script and `signs`; it begins with none but `first`.

    It may become the name of a folder: 128 characters, and 240 bytes as UTF-8, are the most.
    """
    if not isinstance(text, str) or not 0 < len(text) <= 128:
        return False
    if not all(letter in signs or f"a{letter}".isidentifier() for letter in text):
        return False
    return (text[0] in first or text[0] not in signs) and len(readable(text).encode()) <= 240


ANY_SCRIPT = "letters and digits of any script"


def shown_bytes(size: int) -> str:
    """Return a number of bytes as one would write it in ``mem=``."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return str(size)


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "mlfn.UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET = Unset()


def option_values(cls: type[T]) -> type[T]:
    """Make the dataclass `cls` refuse unknown options by name, with the nearest allowed one."""
    allowed = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    plain_init = cls.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            if name not in allowed:
                raise OptionError(f"{cls.__name__} has no option {name!r} (value {value!r}): {nearest(name, allowed)}")
        plain_init(self, *args, **kwargs)

    init.__wrapped__ = plain_init  # type: ignore[attr-defined]
    cls.__init__ = init  # type: ignore[method-assign]
    return cls


@option_values
@dataclass(frozen=True)
class Retry:
    """Try a failed run again, `times` times at most.

    The wait before retry n is ``delay * backoff ** (n - 1)`` seconds, `max_delay` at most. `on` names what is worth
    another try: exception types, or reasons such as ``"oom"``; nothing means any failure of the handler or its worker.
    Preempted and never-started attempts do not count.

    After each attempt that ran out of memory (the reason ``"oom"``), the next one asks for `mem`: ``"x2"`` is twice what that
    one had, ``"64Gi"`` is that much.
    """

    times: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    on: Sequence[type[BaseException] | str] = ()
    mem: str | int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.times, bool) or not isinstance(self.times, int) or self.times < 0:
            raise OptionError(f"Retry(times={self.times!r}): a whole number of retries, 0 or more, is allowed.")
        for name in ("delay", "backoff", "max_delay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise OptionError(f"Retry({name}={value!r}): a number from 0 to 1e9 is allowed.")
        given: Any = self.on
        names = tuple(map(_type_name, given if isinstance(given, (list, tuple, set, frozenset)) else [given]))
        if isinstance(given, (set, frozenset)):
            names = tuple(sorted(names))  # it has an order of its own in every process, and the hash must not
        object.__setattr__(self, "on", names)
        if self.mem is not None:
            object.__setattr__(self, "mem", _retry_memory(self.mem))
            if names and not {name.removeprefix("builtins.") for name in names} & _OUT_OF_MEMORY:
                raise OptionError(
                    f"Retry(mem={self.mem!r}, on={list(names)!r}): mem= is what an attempt asks for after one that ran out of "
                    "memory, and on= has none follow: name 'oom' in on=, or leave mem= out."
                )

    @classmethod
    def of_plan(cls, data: Mapping[str, Any]) -> Retry:
        """Return a stored policy, whatever names it may hold: an older mlfn has taken them."""
        retry = cls(**{**data, "on": ()})
        object.__setattr__(retry, "on", tuple(data.get("on", ())))
        return retry

    def wait(self, retry: int) -> float:
        """Return the seconds to wait before retry number `retry` (from 1)."""
        return min(self.max_delay, self.delay * self.backoff ** min(retry - 1, 64))

    def more_memory(self, mem: int | None) -> int | None:
        """Return the bytes that an attempt asks for after one that had `mem` of them and ran out; None for no limit."""
        if isinstance(self.mem, str):
            return None if mem is None else round(mem * float(self.mem[1:]))
        return mem if self.mem is None else max(self.mem, mem or 0)


@option_values
@dataclass(frozen=True)
class Node:
    """Where a run may be placed on a cluster."""

    selector: Mapping[str, str] | None = None
    tolerations: Sequence[Any] = ()
    affinity: Mapping[str, Any] | None = None
    priority: str | None = None
    spot: str | None = None

    def __post_init__(self) -> None:
        if self.spot not in (None, "allow", "prevent", "require"):
            raise OptionError(f"Node(spot={self.spot!r}): {nearest(str(self.spot), ['allow', 'prevent', 'require'])}")


_OUT_OF_MEMORY = {"oom", "MemoryError", "Exception", "BaseException"}
_MOST_TIMES = 100.0


def _retry_memory(value: Any) -> str | int:
    """Return a factor as ``"x2"``, a size in bytes."""
    if isinstance(value, str) and (match := re.fullmatch(r"x\s*(\d+(?:\.\d+)?)", value.strip())):
        factor = float(match[1])
        if 1 < factor <= _MOST_TIMES:
            return f"x{factor:g}"
    else:
        try:
            return parse_bytes(value)
        except OptionError:
            pass
    raise OptionError(
        f"Retry(mem={value!r}): a factor above 1, {_MOST_TIMES:g} at most, is allowed, as 'x2' or 'x1.5', or a size such as '64Gi'."
    )


def _type_name(item: type[BaseException] | str) -> str:
    if isinstance(item, str):
        return _failure_name(item)
    if isinstance(item, type) and issubclass(item, BaseException):
        return f"{item.__module__}.{item.__qualname__}"
    raise OptionError(f"Retry(on={item!r}): exception types, or reasons such as 'oom', are allowed.")


def _failure_name(text: str) -> str:
    """Return `text` if a failure can be called so: a reason, a builtin exception, or a type by its module and name."""
    if "." in text and all(part.isidentifier() or part == "<locals>" for part in text.split(".")):
        return text
    types = [
        name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
    ]
    if text in REASONS or text in types:
        return text
    raise OptionError(
        f"Retry(on={text!r}): {meant(text, [*REASONS, *types])}an exception type is allowed, its name as in 'ValueError' or "
        f"'package.module.MyError', or a reason: {', '.join(REASONS)}."
    )


def parse_bytes(value: int | str, *, option: str = "mem") -> int:
    """Return bytes for ``"4Gi"``, ``"500M"`` or a plain number."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti|k|M|G|T|)", value.strip()) if isinstance(value, str) else None
    size = int(float(match[1]) * _SIZES[match[2]]) if match else 0
    if size <= 0:
        raise OptionError(
            f"{option}={value!r} is no size: {_meant_size(value)}a number of bytes or a text such as '512Mi', '4Gi', '2G' is allowed."
        )
    return size


def _meant_size(value: object) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)b?", value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        return ""
    unit = next(unit for unit in _SIZES if unit.lower() == match[2])
    return f"did you mean '{match[1]}{unit}'? As a rule "


def parse_cpu(value: float | str) -> float:
    """Return cores for ``2``, ``0.5`` or ``"500m"``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6:
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", value.strip()) if isinstance(value, str) else None
    cores = float(match[1]) / (1000 if match[2] else 1) if match else 0.0
    if cores <= 0:
        raise OptionError(f"cpu={value!r} is no number of cores: 2, 0.5 or '500m' is allowed.")
    return cores


def parse_seconds(value: float | str, *, option: str = "timeout") -> float:
    """Return seconds for ``90``, ``"90s"``, ``"15m"``, ``"2h"`` or ``"1d"``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12:
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip()) if isinstance(value, str) else None
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise OptionError(
            f"{option}={value!r} is no duration: seconds, or a text such as '90s', '15m', '2h', is allowed."
        )
    return seconds
