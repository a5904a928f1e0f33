"""What changed between two versions of a function, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlfn.errors import ParameterError


class Differences(tuple[str, ...]):
    """One line for each thing that differs; empty when nothing does."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(self) or "no difference"

    __repr__ = __str__


def diff(a: Any, b: Any) -> Differences:
    """Return what differs from `a` to `b`, each a Function, a run, a stored spec or the hash of a stored version."""
    a, b = _version(a), _version(b)
    before, after = _spec(a), _spec(b)
    declared = [{key: value for key, value in spec.items() if key != "code"} for spec in (before, after)]
    return Differences([*_compare("", *declared), *_code_lines(a, b, before, after)])


def _is_declared(item: Any) -> bool:
    return hasattr(type(item), "__mlfn_declared__")


def _version(item: Any) -> Any:
    return item.record.function if getattr(type(item), "__mlfn_run__", False) else item


def _spec(item: Any) -> Mapping[str, Any]:
    if _is_declared(item):
        spec: Mapping[str, Any] = item.spec
        return spec
    if isinstance(item, Mapping):
        return item
    if isinstance(item, str):
        from mlfn.dispatch.session import current_session

        return current_session().store.get_function(item)
    raise ParameterError(f"diff({item!r}): a Function, a run, a spec or the hash of a stored version is allowed.")


def _code_lines(a: Any, b: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before["code"]["digest"] == after["code"]["digest"]:
        return
    old, new = _parts(a, before), _parts(b, after)
    lines = list(_part_lines(old, new)) if old and new else []
    yield from lines or ["code: changed"]


def _part_lines(old: _Parts, new: _Parts) -> Iterator[str]:
    changed = [name for name in sorted(old.keys() & new.keys()) if old[name][0] != new[name][0]]
    for name in sorted(old.keys() ^ new.keys()):
        yield f"code: {name} is {'new' if name in new else 'gone'}"
    for name in changed:
        values = [part[1] for part in (old[name], new[name]) if len(part) > 1]
        if len(values) == 2:
            yield f"code: {name} changed: {' -> '.join(values)}"
        elif not any(_is_of(other, name) for other in changed):
            yield f"code: {name} changed"


def _is_of(part: str, whole: str) -> bool:
    """Say whether a part belongs to a class: what changed in it is then named by itself."""
    return part.startswith((f"{whole}.", f"{whole.rpartition(':')[2]} -> ")) and part != whole


_Parts = Mapping[str, Sequence[str]]  # name -> digest and, of a small plain value, that


def _parts(item: Any, spec: Mapping[str, Any]) -> _Parts:
    """Return what the code of a version is made of; nothing where that is not known."""
    if _is_declared(item):
        from mlfn.code.capture import capture
        from mlfn.dispatch.planner import code_parts

        return code_parts(capture(item.__mlfn_function__))
    from mlfn.dispatch.session import current_session
    from mlfn.spec.canonical import spec_hash

    plan = current_session().store.find_plan(item if isinstance(item, str) else spec_hash(spec))
    return plan.parts if plan is not None else {}


def _compare(where: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            name = f"{where}.{key}" if where else key
            if key not in before:
                yield f"{name}: {after[key]!r} added"
            elif key not in after:
                yield f"{name}: {before[key]!r} removed"
            else:
                yield from _compare(name, before[key], after[key])
        return
    yield f"{where}: {before!r} -> {after!r}"
