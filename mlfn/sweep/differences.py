"""What differs between a stored sweep and one that is described under its name, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.nested import shown
from mlfn.sweep.params.listed import short
from mlfn.sweep.spec import SweepBody

_ABSENT = object()
# What only tells how the parts are stored.
_UNNAMED = frozenset({"strategy", "values", "spaces"})


def differing_children(stored: SweepBody, ours: SweepBody) -> list[str]:
    """Return how the chosen parameters differ, part by part, as in ``x=[1, 2] (now [1, 3])``."""
    before, now = without_paths(stored.strategy), without_paths(ours.strategy)
    if before["name"] != now["name"]:
        return [f"other children: a {before['name']} (now a {now['name']})"]
    lines = list(_lines(dict(_parts(before["data"])), dict(_parts(now["data"]))))
    if not lines and before != now:
        lines = ["in another order"]
    return [f"other children: {line}" for line in lines]


def differing_params(stored: SweepBody, ours: SweepBody) -> list[str]:
    """Return how the parameters of all children differ."""
    lines = _lines(without_paths(stored.fixed), without_paths(ours.fixed))
    return [f"other parameters for all children: {line}" for line in lines]


def _lines(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if old != new:
            texts = _in_words(old), _in_words(new)
            yield f"{name}={texts[0]} (now {texts[1] if texts[1] != texts[0] else 'with other content'})"


def _parts(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a strategy is made of: each swept key by its name, and the rest by theirs."""
    for name, value in data.items():
        if name not in _UNNAMED:
            yield name, value
        elif isinstance(value, Mapping):
            yield from value.items()
        elif isinstance(value, list):
            yield from value


def _in_words(stored: Any) -> str:
    return "left out" if stored is _ABSENT else short(_plain(stored))


class _Words(str):
    """A text that is shown as it is."""

    __slots__ = ()

    __repr__ = str.__str__


def _plain(stored: Any) -> Any:
    """Return stored values as what they are, where that is plain."""
    if isinstance(stored, list):
        return [_plain(item) for item in stored]
    if not isinstance(stored, Mapping):
        return stored
    if "output" in stored or "run" in stored:
        return _Words(shown(stored))
    if "input" in stored:
        return stored["input"]
    if "packer" in stored:
        if stored["packer"] == "json" and "inline" in stored:
            return tagged_json.decode(stored["inline"])
        return _Words(f"a {str(stored.get('type', stored['packer'])).rpartition('.')[2]}")
    if set(stored) == {"list"}:
        return _plain(stored["list"])
    if set(stored) == {"range"}:
        return range(*stored["range"])
    return {name: _plain(value) for name, value in stored.items()}


def without_paths(encoded: Any) -> Any:
    """Return encoded values without what lies below the run that wrote them: files and their summaries."""
    if isinstance(encoded, Mapping):
        if isinstance(encoded.get("packer"), str):  # one value; its own content may have a "path" too
            parts = {key: value for key, value in encoded.items() if key not in ("path", "shown")}
            return {**parts, **{key: without_paths(parts[key]) for key in ("items", "keys", "base") if key in parts}}
        return {key: without_paths(value) for key, value in encoded.items()}
    if isinstance(encoded, (list, tuple)):
        return [without_paths(item) for item in encoded]
    return encoded
