"""Tagged JSON: what JSON cannot say, it says as ``{"!": tag, "v": ...}``.

A value that is plain JSON stays plain. Only exact types are encoded: a subclass (OrderedDict, IntEnum, a str
subclass) would come back as its base, so it raises `UnfitError` and is left to pickle. Decoding looks tags up
in a fixed table, is capped in depth and runs no code of its input. The JSON must be kept as text, or as a
type that keeps key order and tells 1.0 from 1: PostgreSQL's `json` does, its `jsonb` does not.
"""

from __future__ import annotations

import base64
import json
import pathlib
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

from mlfn.packers.base import UnfitError, type_name

if TYPE_CHECKING:
    from fractions import Fraction
    from zoneinfo import ZoneInfo

TAG = "!"
MAX_DEPTH = 100
# Shared lists are written out each time. Twice as many at each level would be 2**depth: that is left to
# pickle.
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
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
    # A concrete path of another system cannot be made here; its pure sibling can.
    "PosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    type(pathlib.Path()).__name__: type(pathlib.Path()),
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


def _tagged(tag: str, value: Any) -> dict[str, Any]:
    return {TAG: tag, "v": value}


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
    """Say whether the text is free of surrogates: JSON would join two of them to one character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_list(encoder: _Encoder, value: list[Any]) -> Any:
    return encoder.items(value)


def _encode_dict(encoder: _Encoder, value: dict[Any, Any]) -> Any:
    encoder.enter(value)
    encode_one = encoder.encode
    if TAG not in value and all(type(key) is str and _is_plain(key) for key in value):
        encoded: Any = {key: encode_one(item) for key, item in value.items()}
    else:
        encoded = _tagged("dict", [[encode_one(key), encode_one(item)] for key, item in value.items()])
    encoder.depth -= 1
    return encoded


def _encode_tuple(encoder: _Encoder, value: tuple[Any, ...]) -> Any:
    return _tagged("tuple", encoder.items(value))


def _encode_set(encoder: _Encoder, value: Any) -> Any:
    # Sorted, because the order of a set differs between processes and equal content is to have an equal hash.
    return _tagged(type(value).__name__, sorted(encoder.items(value), key=dumps))


def _encode_bytes(_: _Encoder, value: Any) -> Any:
    return _tagged(type(value).__name__, _base64(value))


def _encode_complex(encoder: _Encoder, value: complex) -> Any:
    return _tagged("complex", [_encode_float(encoder, value.real), _encode_float(encoder, value.imag)])


def _encode_text(_: _Encoder, value: Any) -> Any:
    return _tagged(type(value).__name__.lower(), str(value))


def _encode_datetime(encoder: _Encoder, value: Any) -> Any:
    zone = None if value.tzinfo is None else encoder.encode(value.tzinfo)
    if zone is not None and type(zone) is not dict:
        raise UnfitError(f"it holds a {type_name(value.tzinfo)}")
    return _tagged(type(value).__name__, [value.replace(tzinfo=None).isoformat(), value.fold, zone])


def _encode_timedelta(_: _Encoder, value: timedelta) -> Any:
    return _tagged("timedelta", [value.days, value.seconds, value.microseconds])


def _encode_timezone(encoder: _Encoder, value: timezone) -> Any:
    # The arguments tell a zone named by its maker from one that is only an offset; tzname() does not.
    arguments = value.__getinitargs__()  # type: ignore[attr-defined]
    return _tagged("timezone", [encoder.encode(argument) for argument in arguments])


def _encode_zoneinfo(_: _Encoder, value: ZoneInfo) -> Any:
    if value.key is None:
        raise UnfitError("it holds a time zone without a key")
    return _tagged("zoneinfo", value.key)


def _encode_fraction(encoder: _Encoder, value: Fraction) -> Any:
    return _tagged("fraction", encoder.items((value.numerator, value.denominator)))


def _encode_slots(encoder: _Encoder, value: Any) -> Any:
    return _tagged(type(value).__name__, encoder.items((value.start, value.stop, value.step)))


def _encode_path(encoder: _Encoder, value: pathlib.PurePath) -> Any:
    return _tagged("path", [type(value).__name__, _encode_str(encoder, str(value))])


def _encode_numpy(_: _Encoder, value: Any) -> Any:
    name = type(value).__name__
    name = "bool_" if name == "bool" else name
    if name not in _NUMPY_SCALARS or getattr(sys.modules["numpy"], name, None) is not type(value):
        raise UnfitError(f"it holds a {type_name(value)}")
    return _tagged("numpy", [name, _Encoder().encode(value.item())])


_ENCODERS: dict[type, Callable[[_Encoder, Any], Any]] = {
    type(None): _encode_plain,
    bool: _encode_plain,
    int: _encode_int,
    float: _encode_float,
    str: _encode_str,
    list: _encode_list,
    dict: _encode_dict,
    tuple: _encode_tuple,
    set: _encode_set,
    frozenset: _encode_set,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    complex: _encode_complex,
    datetime: _encode_datetime,
    time: _encode_datetime,
    date: _encode_text,
    timedelta: _encode_timedelta,
    timezone: _encode_timezone,
    range: _encode_slots,
    slice: _encode_slots,
    pathlib.PurePosixPath: _encode_path,
    pathlib.PureWindowsPath: _encode_path,
    type(pathlib.Path()): _encode_path,
}

TYPES: tuple[type, ...] = tuple(_ENCODERS)

# Types whose modules take 5 ms to load: who holds such a value has loaded them.
_LATE_ENCODERS: dict[tuple[str, str], Callable[[_Encoder, Any], Any]] = {
    ("decimal", "Decimal"): _encode_text,
    ("fractions", "Fraction"): _encode_fraction,
    ("uuid", "UUID"): _encode_text,
    ("zoneinfo", "ZoneInfo"): _encode_zoneinfo,
}


def _late_encoder(kind: type) -> Callable[[_Encoder, Any], Any] | None:
    """Return the encoder of a type that this module does not import; a class that only says its name has none."""
    if kind.__module__ == "numpy":
        return _encode_numpy
    encoder = _LATE_ENCODERS.get((kind.__module__, kind.__qualname__))
    if encoder is None or getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return None
    return encoder


def knows(kind: type) -> bool:
    """Say whether values of this type may be encoded."""
    if kind.__module__ == "numpy":
        return issubclass(kind, sys.modules["numpy"].generic)
    return kind in _ENCODERS or _late_encoder(kind) is not None


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode("ascii")


def _unbase64(value: str, _: int) -> bytes:
    return base64.b64decode(value, validate=True)


def _pairs(value: list[list[Any]], depth: int) -> dict[Any, Any]:
    return {decode(key, depth + 1): decode(item, depth + 1) for key, item in value}


def _decode_datetime(value: list[Any], depth: int) -> datetime:
    text, fold, zone = value
    return datetime.fromisoformat(text).replace(tzinfo=decode(zone, depth + 1), fold=fold)


def _decode_time(value: list[Any], depth: int) -> time:
    text, fold, zone = value
    return time.fromisoformat(text).replace(tzinfo=decode(zone, depth + 1), fold=fold)


def _decode_path(value: list[Any], depth: int) -> pathlib.PurePath:
    name, text = value
    return _PATHS[name](decode(text, depth + 1))


def _decode_numpy(value: list[Any], depth: int) -> Any:
    name, item = value
    number = decode(item, depth + 1)
    # numpy.float64([1.0]) would make an array of what is no number.
    if name not in _NUMPY_SCALARS or type(number) not in (bool, int, float):
        raise ValueError(f"not a NumPy scalar: {name!r}")
    import numpy as np

    return getattr(np, name)(number)


def _decode_decimal(value: str, _: int) -> Any:
    from decimal import Decimal

    return Decimal(value)


def _decode_fraction(value: list[Any], depth: int) -> Any:
    from fractions import Fraction

    # Two ints: Fraction("1e999999999") would compute the power.
    return Fraction(*_items(value, depth))


def _decode_uuid(value: str, _: int) -> Any:
    from uuid import UUID

    return UUID(value)


def _decode_zoneinfo(value: str, _: int) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(value)


def _items(value: Any, depth: int) -> list[Any]:
    if type(value) is not list:
        raise TypeError("not a list")
    return [decode(item, depth + 1) for item in value]


_DECODERS: dict[str, Callable[[Any, int], Any]] = {
    "int": lambda value, _: int(value, 16),
    "float": lambda value, _: float(value),
    "str": lambda value, depth: _unbase64(value, depth).decode("utf-8", "surrogatepass"),
    "dict": _pairs,
    "tuple": lambda value, depth: tuple(_items(value, depth)),
    "set": lambda value, depth: set(_items(value, depth)),
    "frozenset": lambda value, depth: frozenset(_items(value, depth)),
    "bytes": _unbase64,
    "bytearray": lambda value, depth: bytearray(_unbase64(value, depth)),
    "complex": lambda value, depth: complex(*_items(value, depth)),
    "datetime": _decode_datetime,
    "time": _decode_time,
    "date": lambda value, _: date.fromisoformat(value),
    "timedelta": lambda value, _: timedelta(*value),
    "timezone": lambda value, depth: timezone(*_items(value, depth)),
    "zoneinfo": _decode_zoneinfo,
    "decimal": _decode_decimal,
    "uuid": _decode_uuid,
    "fraction": _decode_fraction,
    "range": lambda value, depth: range(*_items(value, depth)),
    "slice": lambda value, depth: slice(*_items(value, depth)),
    "path": _decode_path,
    "numpy": _decode_numpy,
}
