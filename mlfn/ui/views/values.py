"""Stored parameters and outputs as they may be shown: nothing is unpickled."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path, PurePath
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.host.frozen import frozen
from mlfn.settings.current import artifact_uri
from mlfn.spec.record import Output
from mlfn.ui.wording import LONGEST_VALUE, clean, cut, number, type_shown, without_path_classes

_PARAMS = 120  # characters of all parameters in one line
_LONGEST_WHOLE = 1000
_LARGEST = 2**63
_UNREADABLE = "(cannot be read)"


@frozen
class Value:
    """A parameter or output: `text` is short, `whole` longer where there is more; `stored` is the row's own form."""

    name: str
    text: str
    whole: str = ""
    size: int | None = None  # bytes, where it lies in a file
    is_default: bool = False
    stored: Mapping[str, Any] = field(default_factory=dict)


def parameter(name: str, stored: Mapping[str, Any], *, is_default: bool = False) -> Value:
    """Return a stored parameter."""
    try:
        text, whole, size = _parameter_texts(stored)
    except Exception:  # noqa: BLE001 - whatever a row holds, the others are still to be shown
        text, whole, size = _UNREADABLE, "", None
    return Value(name, text, whole, size, is_default, stored)


def output(item: Output) -> Value:
    """Return a stored output."""
    names = ("role", "type", "packer", "size", "inline", "path", "sha256")
    return parameter(item.key, {name: getattr(item, name) for name in names})


def in_a_line(values: Iterable[Value]) -> str:
    """Return parameters in one line, cut."""
    return cut(", ".join(f"{clean(value.name)}={value.text}" for value in values), _PARAMS)


def decoded(stored: Mapping[str, Any]) -> Any:
    """Return a plain value, or a text in place of one that would have to be unpickled."""
    if stored.get("packer") == "json" and "inline" in stored:
        try:
            return tagged_json.decode(stored["inline"])
        except Exception:  # noqa: BLE001 - as with parameters
            return _UNREADABLE
    return parameter("", stored).text


def described(value: Value, folder: Path | None) -> dict[str, Any]:
    """Return a parameter or output: its value where that is plain, else what it is and where it lies."""
    stored = value.stored
    if "role" in stored:
        known = {name: stored[name] for name in ("role", "type", "packer", "size")}
        if stored["path"] is not None:
            return {**known, "path": _path(stored, folder), "sha256": stored["sha256"]}
        return {**known, "value": readable(stored["inline"])}
    if "output" in stored:
        return {"output": dict(stored["output"])}
    if "input" in stored:
        return {"input": stored["input"], "as": stored.get("as")}
    if stored.get("path") is not None:
        known = {"type": stored.get("type"), "packer": stored.get("packer"), "size": stored.get("size")}
        words = {"shown": stored["shown"]} if stored.get("shown") else {}
        return {**known, **words, "path": _path(stored, folder), "sha256": stored.get("sha256")}
    if stored.get("packer") != "json":
        return {"packer": stored.get("packer"), "type": stored.get("type"), "shown": stored.get("shown")}
    return {"packer": stored.get("packer"), "value": readable(stored.get("inline"))}


def packed_shown(stored: Mapping[str, Any]) -> str:
    """Return what lies in a file: the name of the type, of a path which file or folder that is."""
    if stored.get("packer") != "path":
        return type_shown(str(stored.get("type") or stored.get("packer")))
    name = str(stored["path"]).rpartition("/")[2]
    suffixes = name.partition(".")[2]
    return f".{clean(suffixes)} file" if suffixes else "file or folder"


def readable(inline: Any) -> Any:
    """Return a value that lies in a row as plain JSON: a text in place of what JSON cannot express."""
    try:
        return plain(tagged_json.decode(inline))
    except Exception:  # noqa: BLE001 - a row may hold anything
        return "<unreadable>"


def plain(value: Any) -> Any:
    """Return `value` as JSON that any reader takes: NaN and infinities as text, tuples and sets as lists."""
    if value is None or isinstance(value, (bool, str)):
        return sound(value)
    if isinstance(value, int):
        return value if -_LARGEST <= value < _LARGEST else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def sound(value: Any) -> Any:
    """Return text that UTF-8 can hold."""
    # A lone surrogate can be in a str, but in no UTF-8.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _path(stored: Mapping[str, Any], folder: Path | None) -> str:
    return artifact_uri(folder, stored["path"]) if folder is not None else str(stored["path"])


def _parameter_texts(stored: Mapping[str, Any]) -> tuple[str, str, int | None]:
    if "output" in stored:
        return clean(f"output {stored['output']['key']} of {stored['output']['run'][:8]}"), "", None
    if "input" in stored:
        whole = clean(str(stored["input"]))
        return cut(whole, LONGEST_VALUE, keep_end=True), whole[-_LONGEST_WHOLE:], None
    size = int(stored["size"]) if stored.get("path") is not None else None
    if stored.get("shown"):
        whole = without_path_classes(clean(stored["shown"][:_LONGEST_WHOLE]))
        return cut(whole, LONGEST_VALUE), whole, size
    if size is not None:
        return packed_shown(stored), "", size
    return *_inline_texts(stored["packer"], stored.get("inline"), stored.get("type", "")), None


def _inline_texts(packer: str, inline: Any, kind: str) -> tuple[str, str]:
    if packer != "json":
        return type_shown(kind or packer), ""
    value = tagged_json.decode(inline)
    if isinstance(value, PurePath):
        whole = clean(str(value))
        return cut(whole, LONGEST_VALUE, keep_end=True), whole[-_LONGEST_WHOLE:] if len(whole) > LONGEST_VALUE else ""
    whole = without_path_classes(clean(repr(value)))
    text = number(value) if type(value) is float and len(whole) > 6 else cut(whole, LONGEST_VALUE)
    return text, whole[:_LONGEST_WHOLE] if whole != text else ""
