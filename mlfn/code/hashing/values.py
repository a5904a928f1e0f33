"""Values as digests that are the same in every process, on every machine.

Nothing here pickles, and nothing uses ``id``, ``hash`` or a ``repr`` that could hold an address. Dicts and
sets are hashed without regard to order; an OrderedDict keeps its own.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime
import enum
import functools
import hashlib
import logging
import math
import pathlib
import sys
import typing
from collections.abc import Callable, Iterable
from typing import Any

from mlfn.code.hashing.library import Recurse, is_installed_class, set_fields, set_state


def combine(tag: str, *parts: bytes) -> bytes:
    """Return one digest for a tag and its parts; no two lists of parts run together."""
    digest = hashlib.sha256(tag.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def text(value: str) -> bytes:
    """Return a string's bytes; lone surrogates too."""
    return value.encode("utf-8", "surrogatepass")


# -- atoms ---------------------------------------------------------------------------------------------------


def _float(value: float) -> bytes:
    # hex tells -0.0 from 0.0; every nan is "nan".
    return value.hex().encode()


_ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"",
    type(Ellipsis): lambda value: b"",
    type(NotImplemented): lambda value: b"",
    bool: lambda value: b"1" if value else b"0",
    # hex, because decimal digits are limited to 4300
    int: lambda value: hex(value).encode(),
    float: _float,
    complex: lambda value: _float(value.real) + b"," + _float(value.imag),
    str: text,
    bytes: bytes,
}


def atom_digest(value: object) -> bytes | None:
    """Return the digest of an immutable builtin, or None for anything else."""
    encode = _ATOMS.get(type(value))
    return None if encode is None else combine(type(value).__name__, encode(value))


# A logger is known by its name.
_FROZEN = (enum.Enum, pathlib.PurePath, datetime.date, datetime.timedelta, logging.Logger, typing.TypeVar)


def is_frozen(value: object) -> bool:
    """Return whether a value can never change, so that comparing its identity suffices."""
    if type(value) in _ATOMS or isinstance(value, _FROZEN):
        return True
    return type(value) in (tuple, frozenset) and all(is_frozen(item) for item in value)  # type: ignore[attr-defined]


# -- plain data ----------------------------------------------------------------------------------------------


def plain_digest(value: Any, recurse: Recurse) -> bytes | None:
    """Return the digest of a container or of a standard library value, or None for another type."""
    encode = _PLAIN.get(type(value))
    if encode is not None:
        return combine(type(value).__name__, *encode(value, recurse))
    if isinstance(value, enum.Enum):
        return combine("enum", recurse(type(value)), *_member(value, recurse))
    if isinstance(value, pathlib.PurePath):
        return combine("path", text(value.as_posix()))
    if isinstance(value, (datetime.date, datetime.time)):
        return combine("time", text(type(value).__name__), *_time(value, recurse))
    if isinstance(value, datetime.tzinfo):
        return _zone_digest(value, recurse)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return combine("dataclass", recurse(type(value)), *_dataclass_parts(value, recurse))
    return None


def _in_order(value: Iterable[object], recurse: Recurse) -> Iterable[bytes]:
    return (recurse(item) for item in value)


def _unordered(value: Iterable[object], recurse: Recurse) -> Iterable[bytes]:
    # In a fixed order, as a cycle's digest depends on the item visited first.
    return sorted(recurse(item) for item in sorted(value, key=_rank))


def _rank(item: Any) -> bytes:
    """Return a sort key from an item's own name and plain values, without following references."""
    names = (type(item).__qualname__, getattr(item, "__qualname__", ""))
    state = getattr(item, "__dict__", None) or {}
    # Not a type's own attributes.
    parts = item if isinstance(item, (tuple, frozenset)) else () if isinstance(item, type) else state.values()
    plain = (atom_digest(part) or b"" for part in (item, *parts))
    return combine("rank", *(text(str(name)) for name in names), *sorted(plain))


def _mapping(value: dict[Any, Any], recurse: Recurse) -> Iterable[bytes]:
    keyed = sorted(((recurse(key), item) for key, item in value.items()), key=lambda pair: pair[0])
    return (part for key, item in keyed for part in (key, recurse(item)))


def _ordered_mapping(value: dict[Any, Any], recurse: Recurse) -> Iterable[bytes]:
    return (recurse(part) for pair in value.items() for part in pair)


def _dataclass_parts(value: Any, recurse: Recurse) -> Iterable[bytes]:
    for name, item in set_fields(value, recurse):
        yield text(name)
        yield recurse(item)
    declared = {field.name for field in dataclasses.fields(value)}
    extra = {name: item for name, item in getattr(value, "__dict__", {}).items() if name not in declared}
    yield from _mapping(_without_caches(type(value), extra), recurse)


def _without_caches(cls: type, state: dict[str, Any]) -> dict[str, Any]:
    """Return an instance's state without cached properties: whether they were read yet must not matter."""
    cached = {n for base in cls.__mro__ for n, v in vars(base).items() if isinstance(v, functools.cached_property)}
    return {name: item for name, item in state.items() if name not in cached} if cached else state


_PLAIN: dict[type, Callable[[Any, Recurse], Iterable[bytes]]] = {
    tuple: _in_order,
    list: _in_order,
    collections.deque: _in_order,
    set: _unordered,
    frozenset: _unordered,
    dict: _mapping,
    collections.OrderedDict: _ordered_mapping,
    bytearray: lambda value, recurse: (bytes(value),),
    memoryview: lambda value, recurse: (value.tobytes(),),
    datetime.timedelta: lambda value, recurse: (text(f"{value.days},{value.seconds},{value.microseconds}"),),
}


def _member(value: enum.Enum, recurse: Recurse) -> Iterable[bytes]:
    # The value of a library's member belongs to the library.
    own = not is_installed_class(type(value))
    if isinstance(value, enum.Flag):
        # The name of a combination differs between Python minors.
        bits = {name: one.value for name, one in type(value).__members__.items() if name == one.name and one in value}
        yield from sorted(text(name) for name, bit in bits.items() if bit > 0)
        own = own or not any(bits.values())
    else:
        yield text(value.name)
    if own:
        yield recurse(value.value)


def _time(value: Any, recurse: Recurse) -> Iterable[bytes]:
    # Without the offset of a zone: it depends on the machine's time zone data.
    zone = getattr(value, "tzinfo", None)
    plain = value.replace(tzinfo=None) if zone is not None else value
    return (text(plain.isoformat()), text(str(getattr(value, "fold", 0))), recurse(zone))


def _zone_digest(zone: Any, recurse: Recurse) -> bytes:
    if type(zone) is datetime.timezone:
        return combine("zone", recurse(zone.utcoffset(None)), text(str(zone.tzname(None))))
    key = getattr(zone, "key", None)
    return combine("zone", text(key)) if isinstance(key, str) else object_digest(zone, recurse)


# -- arrays and frames: only of libraries that are loaded already --------------------------------------------


def array_digest(value: Any, recurse: Recurse) -> bytes | None:
    """Return the digest of a numpy, pandas or torch object, or None; imports none of them."""
    library = type(value).__module__.partition(".")[0]
    encode = _LIBRARIES.get(library)
    return encode(value, recurse) if encode is not None and library in sys.modules else None


def _numpy_digest(value: Any, recurse: Recurse) -> bytes | None:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.dtype):
        return combine("dtype", recurse(value.descr if value.names else value.str))
    if isinstance(value, numpy.random.Generator):
        return combine("generator", recurse(value.bit_generator.state))
    if isinstance(value, numpy.random.RandomState):
        return combine("random state", recurse(value.get_state(legacy=False)))
    if isinstance(value, numpy.random.BitGenerator):
        return combine("bit generator", recurse(value.state))
    if not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    if isinstance(value, numpy.ma.MaskedArray):
        return combine("masked", recurse(value.filled()), recurse(numpy.ma.getmaskarray(value)))
    content = recurse(value.tolist()) if value.dtype.hasobject else hashlib.sha256(value.tobytes()).digest()
    kind = "array" if isinstance(value, numpy.ndarray) else "scalar"
    return combine(kind, recurse(value.dtype), recurse(tuple(value.shape)), content)


def _pandas_digest(value: Any, recurse: Recurse) -> bytes | None:
    pandas = sys.modules["pandas"]
    if isinstance(value, pandas.DataFrame):
        columns = [recurse(value.iloc[:, i]) for i in range(value.shape[1])]
        return combine("frame", recurse(value.columns), recurse(value.index), *columns)
    if isinstance(value, pandas.Series):
        return combine("series", recurse(value.name), recurse(value.index), _pandas_values(value, recurse))
    if isinstance(value, pandas.Index):
        return combine("index", recurse(list(value.names)), _pandas_values(value, recurse))
    if value is pandas.NaT or value is pandas.NA:
        return combine("missing", text(str(value)))
    if isinstance(value, pandas.Timedelta):
        return combine("timedelta", text(value.isoformat()))
    return None


def _pandas_values(value: Any, recurse: Recurse) -> bytes:
    if value.dtype.kind in "mM":
        return _times(value, recurse)
    if hasattr(value.dtype, "categories"):
        ordered = recurse(value.dtype.ordered)
        return combine("categories", recurse(value.dtype.categories), ordered, recurse(value.astype(object).tolist()))
    values = value.to_numpy()
    if not values.dtype.hasobject:
        return combine("values", text(str(value.dtype)), recurse(values))
    items = value.tolist()
    if str(value.dtype) in ("object", "str") and all(map(_is_text_or_missing, items)):
        # Since pandas 3 plain text is "str", with nan for None.
        return combine("texts", recurse([item if isinstance(item, str) else None for item in items]))
    return combine("values", text(str(value.dtype)), recurse(items))


def _is_text_or_missing(item: Any) -> bool:
    return item is None or isinstance(item, str) or (isinstance(item, float) and math.isnan(item))


def _times(value: Any, recurse: Recurse) -> bytes:
    """Return the digest of times in the coarsest exact unit: pandas 2 and pandas 3 choose different units."""
    zone = getattr(value.dtype, "tz", None)
    times = (value.dt if hasattr(value, "dt") else value).tz_convert(None) if zone is not None else value
    times = times.to_numpy()
    for unit in ("s", "ms", "us", "ns"):
        coarse = times.astype(f"{times.dtype.kind}8[{unit}]")
        if (coarse == times)[~sys.modules["numpy"].isnat(times)].all():
            times = coarse
            break
    return combine("times", recurse(zone), recurse(times))


def _scipy_digest(value: Any, recurse: Recurse) -> bytes | None:
    if type(value).__module__.startswith("scipy.stats") and hasattr(value, "dist") and hasattr(value, "kwds"):
        # A distribution with its arguments.
        return combine("frozen", *map(recurse, (type(value.dist), value.dist.name, value.args, value.kwds)))
    if not type(value).__module__.startswith("scipy.sparse") or not hasattr(value, "tocoo"):
        return None
    entries = value.tocoo().copy()
    entries.sum_duplicates()
    triples = (tuple(map(int, axis)) for axis in (entries.row, entries.col))
    return combine(
        "sparse", recurse(type(value)), recurse(entries.shape), *map(recurse, triples), recurse(entries.data)
    )


def _torch_digest(value: Any, recurse: Recurse) -> bytes | None:
    if not isinstance(value, sys.modules["torch"].Tensor):
        return None
    try:
        return combine("tensor", recurse(value.detach().cpu().numpy()))
    except (TypeError, RuntimeError):  # bfloat16 and sparse, which numpy lacks
        return combine("tensor", text(str(value.dtype)), recurse(value.detach().cpu().tolist()))


def _numba_digest(value: Any, recurse: Recurse) -> bytes | None:
    # Its own state holds a random id and a cache of compiled code.
    if not hasattr(value, "py_func"):
        return None
    return combine("numba", recurse(getattr(value, "targetoptions", None)), recurse(value.py_func))


_LIBRARIES: dict[str, Callable[[Any, Recurse], bytes | None]] = {
    "numpy": _numpy_digest,
    "pandas": _pandas_digest,
    "torch": _torch_digest,
    "scipy": _scipy_digest,
    "numba": _numba_digest,
    "fractions": lambda value, recurse: (
        combine("fraction", recurse(value.numerator), recurse(value.denominator))
        if isinstance(value, sys.modules["fractions"].Fraction)
        else None
    ),
}


# -- any other object ----------------------------------------------------------------------------------------


def object_digest(value: Any, recurse: Recurse) -> bytes:
    """Return the digest of an instance from its class and the parts that ``copy`` would rebuild it from.

    An object without such parts (a lock, a generator, a socket) counts by its class alone.
    """
    cls = recurse(type(value))
    # The content of a weak container depends on which objects are alive.
    if type(value).__module__ in ("weakref", "_weakref", "_weakrefset"):
        return combine("opaque", cls)
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        parts = reduce(value) if reduce else value.__reduce_ex__(2)
    except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return combine("opaque", cls)
    if isinstance(parts, str):
        return combine("named", cls, text(parts))
    return combine("object", cls, *_reduced(type(value), parts, recurse))


def _reduced(cls: type, parts: tuple[Any, ...], recurse: Recurse) -> Iterable[bytes]:
    make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    yield recurse(make)
    yield recurse(arguments)
    # A state that is empty without its caches equals that of an object without state: None.
    yield recurse(_relevant_state(cls, state, recurse))
    yield recurse(list(items) if items is not None else None)
    yield recurse(dict(pairs) if pairs is not None else None)


def _relevant_state(cls: type, state: Any, recurse: Recurse) -> Any:
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, (dict, type(None))) for part in state):
        # Slots beside a dict.
        return tuple(_relevant_state(cls, part, recurse) for part in state)
    if not isinstance(state, dict):
        return state
    return set_state(cls, _without_caches(cls, state), recurse) or None
