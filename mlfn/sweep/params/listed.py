"""The values of a swept key: a list, a range or another sequence, kept lazy where it is."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlfn.errors import ParameterError

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 6
_SHORT.maxstring = _SHORT.maxother = 60


def short(value: Any) -> str:
    """Return a short repr of a value of any size."""
    return _SHORT.repr(value)


def listed(values: Any, key: str) -> Sequence[Any]:
    """Return `values` as a sequence that will not change; raise ParameterError, naming `key`, unless it is a list.

    A list is copied, once; a range and other lazy sequences are kept as they are. A NumPy array or pandas column gives
    Python's own numbers.
    """
    if isinstance(values, (str, bytes, bytearray)):
        raise ParameterError(f"{key}={short(values)} is one text where a list is meant: write {key}=[{short(values)}].")
    if isinstance(values, (list, tuple)):
        found: Sequence[Any] = tuple(values)
    elif hasattr(values, "tolist") and getattr(values, "ndim", 0) >= 1:
        found = _unwrapped(values)
    elif isinstance(values, Sequence):
        found = values
    else:
        raise ParameterError(f"{key}={short(values)} {_why_no_list(values, key)}")
    if not found:
        raise ParameterError(f"{key}={short(values)} is empty: give it a value at least, or leave {key!r} out.")
    return found


def _why_no_list(values: Any, key: str) -> str:
    if isinstance(values, Mapping):
        for part, items in values.items():
            if isinstance(items, (list, tuple)):
                return f"is a mapping where a list is meant: a part is swept by its path, {key}.{part}={short(items)}."
        return f"is a mapping where a list is meant: write {key}=list(...) of its keys or values."
    if isinstance(values, (set, frozenset)):
        return f"is a set, which has no order to number cells by: write {key}=sorted(...) or a list."
    if isinstance(values, Iterator):
        return f"can be read only once, and cells are looked up: write {key}=list(...)."
    if hasattr(values, "conditions") and hasattr(values, "at"):
        return "is a distribution where a list is meant: sweep it by .random(...) or .search(...)."
    return (
        f"({type(values).__name__}) is no list: write {key}=[{short(values)}], or pass it to submit() to keep it fixed."
    )


def _unwrapped(values: Any) -> tuple[Any, ...]:
    # A date of NumPy would become a bare number of nanoseconds.
    plain = type(values).__module__ != "numpy" or (values.ndim == 1 and values.dtype.kind in "biufUS")
    return tuple(values.tolist() if plain else values)


def listing_to_json(values: Sequence[Any], encode: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a listing as JSON: a range by its bounds, others value by value."""
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    return {"list": [encode(value) for value in values]}


def listing_from_json(data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Sequence[Any]:
    """Rebuild from `listing_to_json`."""
    return range(*data["range"]) if "range" in data else tuple(decode(value) for value in data["list"])
