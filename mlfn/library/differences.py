"""What changed between two versions of a function, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlfn.declaration import Function
from mlfn.errors import ParameterError


class Differences(tuple[str, ...]):
    """One line for each thing that differs; empty when nothing does."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(self) or "no difference"

    __repr__ = __str__


def diff(a: Any, b: Any) -> Differences:
    """Return what differs from `a` to `b`, each a Function, a stored spec or the hash of a stored version."""
    before, after = _spec(a), _spec(b)
    lines = list(_compare("", _readable(before), _readable(after)))
    code = _code_lines(a, b, before, after)
    return Differences([*lines, *code])


def _spec(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Function):
        return item.spec
    if isinstance(item, Mapping):
        return item
    if isinstance(item, str):
        from mlfn.client import current_client

        return current_client().store.function(item)
    raise ParameterError(f"diff({item!r}): a Function, a spec or the hash of a stored version is allowed.")


def _readable(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "code"}


def _code_lines(a: Any, b: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before["code"]["digest"] == after["code"]["digest"]:
        return
    if not (isinstance(a, Function) and isinstance(b, Function)):
        yield "code: changed"
        return
    old, new = _parts(a), _parts(b)
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"code: {name} is new"
        elif name not in new:
            yield f"code: {name} is gone"
        elif old[name] != new[name]:
            yield f"code: {name} changed"


def _parts(item: Function[..., Any, Any]) -> dict[str, str]:
    from mlfn.capture import capture

    return dict(capture(item.__mlfn_function__).digest.part_digests)


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
