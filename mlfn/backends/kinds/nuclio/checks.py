"""What an option of a trigger or of Nuclio may be; each check names the class, the option and the value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlfn.errors import OptionError, nearest
from mlfn.settings.secrets import Secret
from mlfn.spec.values import parse_bytes, parse_seconds

_SECRET_NAME = re.compile("passw|secret|token|credential|access_?key", re.IGNORECASE)


def refuse(owner: object, option: str, value: object, allowed: str) -> OptionError:
    """Return the error for a value that does not fit."""
    return OptionError(f"{type(owner).__name__}({option}={value!r}): {allowed}")


def whole(owner: object, option: str, *, least: int, most: int) -> int:
    """Return an attribute that is a whole number in a range."""
    value = getattr(owner, option)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise refuse(owner, option, value, f"a whole number from {least} to {most} is allowed.")
    return value


def number(owner: object, option: str, *, least: float) -> float:
    """Return an attribute that is a number, `least` or more."""
    value = getattr(owner, option)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise refuse(owner, option, value, f"a number of {least:g} or more is allowed.")
    return float(value)


def text(owner: object, option: str, *, example: str) -> str:
    """Return an attribute that is a text of one line."""
    value = getattr(owner, option)
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise refuse(owner, option, value, f"a text is required, as in {option}={example!r}.")
    return value


def texts(owner: object, option: str, *, example: str, required: bool = True) -> tuple[str, ...]:
    """Return an attribute that is a list of texts; one text is a list of itself."""
    value = getattr(owner, option)
    items: tuple[Any, ...] = (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else (None,)
    )
    if (required and not items) or not all(isinstance(item, str) and item.strip() for item in items):
        raise refuse(owner, option, value, f"a list of texts is allowed, as in {option}=[{example!r}].")
    return items


def one_of(owner: object, option: str, allowed: Iterable[str]) -> str:
    """Return an attribute that is one of some words."""
    value = getattr(owner, option)
    names = list(allowed)
    if value not in names:
        raise refuse(owner, option, value, nearest(str(value), names))
    return str(value)


def seconds(owner: object, option: str) -> float:
    """Return an attribute that is a duration, in seconds."""
    found: float = _parsed(owner, option, parse_seconds)
    return found


def size(owner: object, option: str) -> int:
    """Return an attribute that is a size, in bytes."""
    found: int = _parsed(owner, option, parse_bytes)
    return found


def _parsed(owner: object, option: str, parse: Callable[..., Any]) -> Any:
    value = getattr(owner, option)
    try:
        return parse(value, option=option)
    except OptionError as error:
        raise OptionError(f"{type(owner).__name__}: {error}") from None


def secret(owner: object, option: str) -> Secret | None:
    """Return an attribute that refers to a secret: a value would stand in the spec, the store and the log."""
    value = getattr(owner, option)
    if isinstance(value, Mapping):
        value = Secret(**value)
    if value is not None and not isinstance(value, Secret):
        raise OptionError(
            f"{type(owner).__name__}({option}=...) got a {type(value).__name__}: a reference is allowed, as in "
            f"{option}=mlfn.Secret('BROKER_PASSWORD')."
        )
    return value


def mapping(owner: object, option: str) -> dict[str, Any]:
    """Return an attribute that is a mapping of names; a name that asks for a secret's value is refused."""
    value = getattr(owner, option)
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise refuse(owner, option, value, "a mapping with names as keys is allowed.")
    for key in value:
        if _SECRET_NAME.search(key):
            raise OptionError(
                f"{type(owner).__name__}({option}={{{key!r}: ...}}) would put a secret's value into the function's spec: "
                "give password=mlfn.Secret('NAME'), a reference, where the trigger has it, or a file that a volume holds."
            )
    return dict(value)
