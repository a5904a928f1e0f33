"""Canonical JSON and the hash over it: standard library alone, so that a first run need not load pydantic."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# Tags move and labels are remarks: neither makes another version.
_UNHASHED = ("tag", "labels")


def canonical(data: Any) -> str:
    """Return JSON with sorted keys and no blanks; NaN and unknown types are refused. Lone surrogates are escaped."""
    return escaped(_dumped(data))


def digest(data: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `data`, in hex; lone surrogates count as three bytes each."""
    return hashlib.sha256(_dumped(data).encode("utf-8", "surrogatepass")).hexdigest()


def _dumped(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def escaped(text: str) -> str:
    """Return JSON that a store, a file and a terminal take: none takes a lone surrogate, as in a path that is not UTF-8."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Return the hash of a function spec: SHA-256 over its canonical JSON without tag and labels."""
    return digest({key: value for key, value in spec.items() if key not in _UNHASHED})
