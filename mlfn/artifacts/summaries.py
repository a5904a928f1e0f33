"""Values in one short line of text, for rows whose values only the user's code could read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.formats.base import UnfitError, type_name
from mlfn.settings.masking import Masker

LONGEST = 200  # characters of a summary
_LARGEST = 2000  # characters of JSON up to which a default is kept as it is
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def brief(value: Any, masker: Masker | None = None) -> str | None:
    """Return a value's repr in one line, masked and cut; None where it fails or only gives the type and an address."""
    try:
        whole = repr(value)
    except Exception:  # noqa: BLE001 - a user's repr may raise anything
        return None
    if masker is not None:
        whole = masker.text(whole)
    text = " ".join(whole.split()).encode("utf-8", "backslashreplace").decode()
    if not text or _ADDRESS.search(text):
        return None
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def encoded_default(value: Any) -> dict[str, Any]:
    """Return a parameter's default in the JSON form of parameters: the value where that is short JSON, else its summary."""
    try:
        inline = tagged_json.encode(value)
        if len(tagged_json.dumps(inline)) <= _LARGEST:
            return {"packer": "json", "inline": inline}
    except UnfitError:
        pass
    known = {"packer": "pickle", "type": type_name(value), "shown": brief(value)}
    return {key: item for key, item in known.items() if item is not None}


def is_whole(encoded: Mapping[str, Any]) -> bool:
    """Return whether a stored default holds the value itself."""
    return bool(encoded["packer"] == "json")
