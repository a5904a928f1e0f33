"""Specs and plans as YAML for people: block style, plain where YAML allows it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What a YAML reader of any version takes for a text; everything else is quoted as JSON, which is YAML too.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*")
# What JSON may hold as it is and YAML may not, or takes for the end of a line.
_UNSEEN = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def to_yaml(data: Any) -> str:
    """Return plain data (mappings, lists, texts, numbers) as YAML."""
    return "\n".join(_block(data, 0)) + "\n"


def _block(data: Any, depth: int) -> list[str]:
    pad = "  " * depth
    if isinstance(data, Mapping) and data:
        return [line for key, value in data.items() for line in _entry(f"{pad}{_scalar(key)}:", value, depth + 1)]
    if isinstance(data, Sequence) and not isinstance(data, str) and data:
        return [line for value in data for line in _item(pad, value, depth)]
    return [f"{pad}{_scalar(data)}"]


def _entry(head: str, value: Any, depth: int) -> list[str]:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str) and value:
        return [head, *_block(value, depth)]
    return [f"{head} {_scalar(value)}"]


def _item(pad: str, value: Any, depth: int) -> list[str]:
    lines = _block(value, depth + 1)
    return [f"{pad}- {lines[0].lstrip()}", *lines[1:]]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf"}.get(repr(value), ".nan")
    if isinstance(value, float) and "." not in (text := repr(value)) and "e" in text:
        return text.replace("e", ".0e")  # YAML 1.1 takes 1e-05 for a text
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
