"""Values in a few words, kept where a row holds a value that only its own code could read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlfn.masker import Masker
from mlfn.packers import tagged
from mlfn.packers.base import UnfitError, type_name
from mlfn.spec.record import RunRecord

LONGEST = 200  # characters of a brief
_LARGEST = 2000  # characters of JSON up to which a default is kept as it is
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def brief(value: Any, masker: Masker | None = None) -> str | None:
    """Return a value's repr, in one line, masked and cut; None where it says no more than the type does, or fails."""
    try:
        whole = repr(value)
    except Exception:  # noqa: BLE001 - a repr of somebody else's may fail in any way
        return None
    if masker is not None:
        whole = masker.text(whole)
    text = " ".join(whole.split()).encode("utf-8", "backslashreplace").decode()
    if not text or _ADDRESS.search(text):
        return None
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def encoded_default(value: Any) -> dict[str, Any]:
    """Return a parameter's default as parameters are stored: itself where JSON says it in a few words, else in brief."""
    try:
        inline = tagged.encode(value)
        if len(tagged.dumps(inline)) <= _LARGEST:
            return {"packer": "json", "inline": inline}
    except UnfitError:
        pass
    known = {"packer": "pickle", "type": type_name(value), "shown": brief(value)}
    return {key: item for key, item in known.items() if item is not None}


def left_out(plan: Mapping[str, Any], record: RunRecord) -> dict[str, dict[str, Any]]:
    """Return the stored defaults of a plan that stand for what a run was not given, in the order of the signature.

    There are none for a child that a handler opened: it is no call of the function.
    """
    defaults = plan.get("defaults", {}) if record.part_of is None else {}
    return {name: defaults[name] for name in plan["accepts"] if name in defaults and name not in record.params}


def is_whole(encoded: Mapping[str, Any]) -> bool:
    """Say whether a stored default can be given back."""
    return bool(encoded["packer"] == "json")
