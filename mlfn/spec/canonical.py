"""Canonical JSON and the hash over it: standard library alone, so that a first run need not load pydantic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Tags move and labels are remarks: neither makes another version.
_UNHASHED = ("tag", "labels")


def canonical(data: Any) -> str:
    """Return JSON with sorted keys and no blanks; NaN and unknown types are refused."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(data: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `data`, in hex."""
    return hashlib.sha256(canonical(data).encode("utf-8", "surrogatepass")).hexdigest()


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Return the hash of a function spec: SHA-256 over its canonical JSON without tag and labels."""
    return digest({key: value for key, value in spec.items() if key not in _UNHASHED})
