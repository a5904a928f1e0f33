"""JSON in which values that JSON lacks are written as ``{"!": tag, "v": ...}``.

Plain JSON stays plain. Only exact types are encoded: a subclass (OrderedDict, IntEnum, a str subclass) would come back as
its base, so it raises `UnfitError` and is left to pickle. Decoding looks tags up in a fixed table, is capped in depth and
runs no code of its input. Store the JSON as text, or as a type that keeps key order and tells 1.0 from 1: PostgreSQL's
`json` does, its `jsonb` does not.
"""

from __future__ import annotations

import base64
import importlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from mlfn.artifacts.formats.base import UnfitError, type_name

TAG = "!"
MAX_DEPTH = 100
# A list that is shared is written out each time. One that holds itself twice at each level would grow as 2**depth.
MAX_REPEATS = 100_000
_INT_LIMIT = 2**63

_NUMPY_SCALARS = frozenset(
    [
        "bool_",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "intc",
        "uintc",
        "long",
        "ulong",
        "longlong",
        "ulonglong",
        "float16",
        "float32",
        "float64",
    ]
)
_PATH_TYPES = (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path()))
# A concrete path of another system cannot be made here; its pure sibling can.
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "PosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    **{kind.__name__: kind for kind in _PATH_TYPES},
}

dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


def encode(value: Any) -> Any:
    """Return the value as tagged JSON; raise `UnfitError` where it would not come back exactly."""
    try:
        return _Encoder().encode(value)
    except RecursionError:
        raise UnfitError("it is nested too deep") from None


def decode(value: Any, depth: int = 0) -> Any:
    """Return what `encode` was given; raise ValueError, TypeError or KeyError for what it never wrote."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    kind = type(value)
    if kind is list:
        return [decode(item, depth + 1) for item in value]
    if kind is not dict:
        return value
    if TAG not in value:
        return {key: decode(item, depth + 1) for key, item in value.items()}
    decoder = _DECODERS.get(value[TAG])
    if decoder is None:
        raise ValueError(f"unknown tag {value[TAG]!r}")
    return decoder(value["v"], depth)


def knows(kind: type) -> bool:
    """Return whether values of this type may be encoded."""
    if kind.__module__ == "numpy":
        return issubclass(kind, sys.modules["numpy"].generic)
    return kind in _ENCODERS or _late_encoder(kind) is not None


# -- encoding ------------------------------------------------------------------------------------------------


class _Encoder:
    """One pass over one value."""

    __slots__ = ("depth", "repeats", "seen")

    def __init__(self) -> None:
        self.depth = 0
        self.repeats = 0
        self.seen: set[int] = set()

    def encode(self, value: Any) -> Any:
        encoder = _ENCODERS.get(type(value)) or _late_encoder(type(value))
        if encoder is not None:
            return encoder(self, value)
        raise UnfitError(f"it holds a {type_name(value)}")

    def enter(self, container: Any) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnfitError(f"it is cyclic, or nested deeper than {MAX_DEPTH}")
        if id(container) in self.seen:
            self.repeats += 1
            if self.repeats > MAX_REPEATS:
                raise UnfitError("it repeats the same containers too often")
        self.seen.add(id(container))

    def items(self, container: Iterable[Any]) -> list[Any]:
        self.enter(container)
        encoded = [self.encode(item) for item in container]
        self.depth -= 1
        return encoded


def _tagged(tag: str, value: Any) -> dict[str, Any]:
    return {TAG: tag, "v": value}


def _encode_plain(_: _Encoder, value: Any) -> Any:
    return value


def _encode_int(_: _Encoder, value: int) -> Any:
    # Python refuses to print or read an int of more than 4300 decimal digits; hex has no such limit.
    return value if -_INT_LIMIT <= value < _INT_LIMIT else _tagged("int", hex(value))


def _encode_float(_: _Encoder, value: float) -> Any:
    return value if value - value == 0.0 else _tagged("float", repr(value))


def _encode_str(_: _Encoder, value: str) -> Any:
    return value if _is_plain(value) else _tagged("str", _base64(value.encode("utf-8", "surrogatepass")))


def _is_plain(text: str) -> bool:
    """Return whether the text is free of surrogates: JSON would join two of them to one character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_dict(encoder: _Encoder, value: dict[Any, Any]) -> Any:
    encoder.enter(value)
    encode_one = encoder.encode
    if TAG not in value and all(type(key) is str and _is_plain(key) for key in value):
        encoded: Any = {key: encode_one(item) for key, item in value.items()}
    else:
        encoded = _tagged("dict", [[encode_one(key), encode_one(item)] for key, item in value.items()])
    encoder.depth -= 1
    return encoded


def _encode_set(encoder: _Encoder, value: Any) -> Any:
    # Sorted: the order of a set differs between processes, and equal content must have an equal hash.
    return _tagged(type(value).__name__, sorted(encoder.items(value), key=dumps))


def _encode_bytes(_: _Encoder, value: Any) -> Any:
    return _tagged(type(value).__name__, _base64(value))


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode("ascii")


def _encode_text(_: _Encoder, value: Any) -> Any:
    return _tagged(type(value).__name__.lower(), str(value))


def _encode_datetime(encoder: _Encoder, value: Any) -> Any:
    zone = None if value.tzinfo is None else encoder.encode(value.tzinfo)
    if zone is not None and type(zone) is not dict:
        raise UnfitError(f"it holds a {type_name(value.tzinfo)}")
    return _tagged(type(value).__name__, [value.replace(tzinfo=None).isoformat(), value.fold, zone])


def _encode_timezone(encoder: _Encoder, value: Any) -> Any:
    # The arguments tell a zone with a name from one that is only an offset; tzname() does not.
    return _tagged("timezone", encoder.items(value.__getinitargs__()))


def _encode_zoneinfo(_: _Encoder, value: Any) -> Any:
    if value.key is None:
        raise UnfitError("it holds a time zone without a key")
    return _tagged("zoneinfo", value.key)


def _encode_path(encoder: _Encoder, value: pathlib.PurePath) -> Any:
    return _tagged("path", [type(value).__name__, _encode_str(encoder, str(value))])


def _encode_numpy(encoder: _Encoder, value: Any) -> Any:
    name = type(value).__name__
    name = "bool_" if name == "bool" else name
    if name not in _NUMPY_SCALARS or getattr(sys.modules["numpy"], name, None) is not type(value):
        raise UnfitError(f"it holds a {type_name(value)}")
    return _tagged("numpy", [name, encoder.encode(value.item())])


def _by_attributes(*names: str) -> Callable[[_Encoder, Any], Any]:
    """Return an encoder of values that are rebuilt from these attributes."""

    def encode_one(encoder: _Encoder, value: Any) -> Any:
        encoder.enter(value)
        encoded = [encoder.encode(getattr(value, name)) for name in names]
        encoder.depth -= 1
        return _tagged(type(value).__name__.lower(), encoded)

    return encode_one


_ENCODERS: dict[type, Callable[[_Encoder, Any], Any]] = {
    type(None): _encode_plain,
    bool: _encode_plain,
    int: _encode_int,
    float: _encode_float,
    str: _encode_str,
    list: _Encoder.items,
    dict: _encode_dict,
    tuple: lambda encoder, value: _tagged("tuple", encoder.items(value)),
    set: _encode_set,
    frozenset: _encode_set,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    complex: _by_attributes("real", "imag"),
    datetime: _encode_datetime,
    time: _encode_datetime,
    date: _encode_text,
    timedelta: _by_attributes("days", "seconds", "microseconds"),
    timezone: _encode_timezone,
    range: _by_attributes("start", "stop", "step"),
    slice: _by_attributes("start", "stop", "step"),
    **dict.fromkeys(_PATH_TYPES, _encode_path),
}

TYPES: tuple[type, ...] = tuple(_ENCODERS)

# Types whose modules take 5 ms to load: a process that has such a value has loaded its module.
_LATE_ENCODERS: dict[tuple[str, str], Callable[[_Encoder, Any], Any]] = {
    ("decimal", "Decimal"): _encode_text,
    ("fractions", "Fraction"): _by_attributes("numerator", "denominator"),
    ("uuid", "UUID"): _encode_text,
    ("zoneinfo", "ZoneInfo"): _encode_zoneinfo,
}


def _late_encoder(kind: type) -> Callable[[_Encoder, Any], Any] | None:
    """Return the encoder of a type that this module does not import; a class that only has its name has none."""
    if kind.__module__ == "numpy":
        return _encode_numpy
    encoder = _LATE_ENCODERS.get((kind.__module__, kind.__qualname__))
    if encoder is None or getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return None
    return encoder


# -- decoding ------------------------------------------------------------------------------------------------


def _items(value: Any, depth: int) -> list[Any]:
    if type(value) is not list:
        raise TypeError("not a list")
    return [decode(item, depth + 1) for item in value]


def _unbase64(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _decode_dict(value: list[list[Any]], depth: int) -> dict[Any, Any]:
    return {decode(key, depth + 1): decode(item, depth + 1) for key, item in value}


def _decode_datetime(kind: type[datetime | time], value: list[Any], depth: int) -> datetime | time:
    text, fold, zone = value
    return kind.fromisoformat(text).replace(tzinfo=decode(zone, depth + 1), fold=fold)


def _decode_path(value: list[Any], depth: int) -> pathlib.PurePath:
    name, text = value
    return _PATHS[name](decode(text, depth + 1))


def _decode_numpy(value: list[Any], depth: int) -> Any:
    name, item = value
    number = decode(item, depth + 1)
    # numpy.float64([1.0]) would make an array of what is no number.
    if name not in _NUMPY_SCALARS or type(number) not in (bool, int, float):
        raise ValueError(f"not a NumPy scalar: {name!r}")
    return _late("numpy", name)(number)


def _late(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


_DECODERS: dict[str, Callable[[Any, int], Any]] = {
    "int": lambda value, _: int(value, 16),
    "float": lambda value, _: float(value),
    "str": lambda value, _: _unbase64(value).decode("utf-8", "surrogatepass"),
    "dict": _decode_dict,
    "tuple": lambda value, depth: tuple(_items(value, depth)),
    "set": lambda value, depth: set(_items(value, depth)),
    "frozenset": lambda value, depth: frozenset(_items(value, depth)),
    "bytes": lambda value, _: _unbase64(value),
    "bytearray": lambda value, _: bytearray(_unbase64(value)),
    "complex": lambda value, depth: complex(*_items(value, depth)),
    "datetime": lambda value, depth: _decode_datetime(datetime, value, depth),
    "time": lambda value, depth: _decode_datetime(time, value, depth),
    "date": lambda value, _: date.fromisoformat(value),
    "timedelta": lambda value, _: timedelta(*value),
    "timezone": lambda value, depth: timezone(*_items(value, depth)),
    "zoneinfo": lambda value, _: _late("zoneinfo", "ZoneInfo")(value),
    "decimal": lambda value, _: _late("decimal", "Decimal")(value),
    "uuid": lambda value, _: _late("uuid", "UUID")(value),
    # From two ints: Fraction("1e999999999") would compute the power.
    "fraction": lambda value, depth: _late("fractions", "Fraction")(*_items(value, depth)),
    "range": lambda value, depth: range(*_items(value, depth)),
    "slice": lambda value, depth: slice(*_items(value, depth)),
    "path": _decode_path,
    "numpy": _decode_numpy,
}
