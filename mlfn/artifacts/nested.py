"""What stands in a parameter for a value that comes later: outputs of runs, whole sweeps, files to read.

It may stand in lists, tuples, dicts and dataclasses. A container that holds one is stored part by part, any other whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from typing import Any

from mlfn.artifacts.formats.base import type_name
from mlfn.host.frozen import frozen
from mlfn.spec.data_item import DataItem

NESTED = "nested"
RESULT = "result"
LATE = frozenset({NESTED, RESULT})
SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_DEEPEST = 32
Encoded = Mapping[str, Any]


@frozen
class StoredReference:
    """What stands for a value of another run, read from where it is stored."""

    encoded: Encoded

    __mlfn_reference__ = True

    def __mlfn_encoded__(self) -> dict[str, Any]:
        return dict(self.encoded)

    def refuse_unknown(self, where: str) -> None:
        """Accept it: it was checked when it was first given."""

    def __repr__(self) -> str:
        return f"<{shown(self.encoded)}>"


def is_reference(value: Any) -> bool:
    """Return whether a value stands for one of another run."""
    return getattr(type(value), "__mlfn_reference__", False) is True


def is_refused(value: Any) -> bool:
    """Return whether a value is a handle that stands for nothing by itself, as a whole run; it says so."""
    return hasattr(type(value), "__mlfn_refused__")


def stand_ins(value: Any, where: str) -> list[tuple[str, Any]]:
    """Return what stands in a value for others, and what is refused, each with its place, as in ``rows[2]``."""
    found: list[tuple[str, Any]] = []
    if type(value) not in SCALARS:
        _find(value, where, found, set(), 0)
    return found


def _find(value: Any, where: str, found: list[tuple[str, Any]], seen: set[int], depth: int) -> None:
    if isinstance(value, DataItem) or is_reference(value) or is_refused(value):
        found.append((where, value))
        return
    parts = _parts(value)
    if parts is None or id(value) in seen or depth == _DEEPEST:
        return
    seen.add(id(value))
    for key, part in parts:
        if type(part) not in SCALARS:
            place = f".{key}" if _is_dataclass(value) else f"[{key!r}]"
            _find(part, where + place, found, seen, depth + 1)


def _parts(value: Any) -> Iterable[tuple[Any, Any]] | None:
    kind = type(value)
    if kind in (list, tuple):
        return enumerate(value)
    if kind is dict:
        return value.items()  # type: ignore[no-any-return]
    return [(name, getattr(value, name)) for name in _fields(value)] if _is_dataclass(value) else None


def _is_dataclass(value: Any) -> bool:
    return hasattr(type(value), "__dataclass_fields__")


def _fields(value: Any) -> list[str]:
    return [name for name in type(value).__dataclass_fields__ if hasattr(value, name)]


def encode(value: Any, key: str, leaf: Callable[[str, Any], Encoded]) -> Encoded:
    """Return the JSON form of a value: part by part where another one is to come; `leaf` encodes the parts."""
    if _parts(value) is None or not stand_ins(value, ""):
        return leaf(key, value)
    stored: dict[str, Any] = {"packer": NESTED, "type": type_name(value)}
    if _is_dataclass(value):
        late = [name for name in _fields(value) if stand_ins(getattr(value, name), "")]
        stored["fields"] = late
        stored["base"] = leaf(f"{key}-base", _without(value, late))
        parts = [getattr(value, name) for name in late]
    elif isinstance(value, dict):
        stored["keys"] = [leaf(f"{key}-key{index}", name) for index, name in enumerate(value)]
        parts = list(value.values())
    else:
        parts = list(value)
    stored["items"] = [encode(part, f"{key}-{index}", leaf) for index, part in enumerate(parts)]
    return stored


def _without(value: Any, names: Iterable[str]) -> Any:
    """Return a copy of a dataclass with nothing in these fields."""
    copied = copy(value)
    for name in names:
        object.__setattr__(copied, name, None)  # it may be frozen
    return copied


def decode(stored: Encoded, leaf: Callable[[Encoded], Any]) -> Any:
    """Return the value that `encode` stored; `leaf` decodes the parts."""
    if stored.get("packer") != NESTED:
        return leaf(stored)
    items = [decode(item, leaf) for item in stored["items"]]
    if "fields" in stored:
        made = leaf(stored["base"])
        for name, item in zip(stored["fields"], items, strict=True):
            object.__setattr__(made, name, item)
        return made
    if "keys" in stored:
        return dict(zip(map(leaf, stored["keys"]), items, strict=True))
    return tuple(items) if stored["type"] == "builtins.tuple" else items


def mapped(stored: Encoded, change: Callable[[Encoded], Encoded]) -> Encoded:
    """Return a stored value with each of its leaves changed."""
    if stored.get("packer") != NESTED:
        return change(stored)
    made = {**stored, "items": [mapped(item, change) for item in stored["items"]]}
    if "keys" in stored:
        made["keys"] = [change(key) for key in stored["keys"]]
    if "base" in stored:
        made["base"] = change(stored["base"])
    return made


def leaves(stored: Encoded) -> Iterator[Encoded]:
    """Yield the stored values that a stored value is made of."""
    if stored.get("packer") != NESTED:
        yield stored
        return
    for item in stored["items"]:
        yield from leaves(item)
    yield from stored.get("keys", ())
    if "base" in stored:
        yield stored["base"]


def run_needed(leaf: Encoded) -> str | None:
    """Return the run that a leaf waits for."""
    if "output" in leaf:
        return str(leaf["output"]["run"])
    return str(leaf["run"]) if leaf.get("packer") == RESULT else None


def parents_of(params: Mapping[str, Encoded]) -> list[str]:
    """Return the runs whose outputs or results are among the parameters."""
    found = (run_needed(leaf) for value in params.values() for leaf in leaves(value))
    return list(dict.fromkeys(run for run in found if run is not None))


def is_late(stored: Encoded) -> bool:
    """Return whether a stored value is, or has in it, what another run gives or a file holds."""
    return "output" in stored or stored.get("packer") in LATE


def result_of(run: str, *, children: bool) -> dict[str, Any]:
    """Return the JSON form of what a sweep returns: its best child's value, or a list of what all `children` returned."""
    made = {"packer": RESULT, "type": "builtins.list" if children else "", "run": run, "children": children}
    return {**made, "shown": shown(made)}


def shown(leaf: Encoded) -> str:
    """Return what a leaf waits for, in words."""
    if "output" in leaf:
        return f"output {leaf['output']['key']!r} of run {leaf['output']['run'][:8]}"
    return f"result of sweep {leaf['run'][:8]}"
