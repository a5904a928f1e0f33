"""The approximate size of a value, without packing it."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

LARGE = 1024 * 1024
_SAMPLE = 1000
_BUDGET = 20_000
DATA_LIBRARIES = ("numpy", "pandas", "torch", "pyarrow", "polars", "scipy")


def large_values(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, int]]:
    """Yield the paths and sizes of the values over 1 MiB."""
    for path, value in values:
        size = estimated_size(value)
        if size > LARGE:
            yield path, size


def estimated_size(value: Any, visited: set[int] | None = None) -> int:
    """Return about how many bytes a value holds; a long container is estimated from a sample."""
    visited = set() if visited is None else visited
    if id(value) in visited or len(visited) > _BUDGET:
        return 0
    visited.add(id(value))
    size = _library_size(value)
    if size is not None:
        return size
    own = sys.getsizeof(value, 64)
    if isinstance(value, (str, bytes, bytearray, type, types.ModuleType, types.FunctionType)):
        return own
    if isinstance(value, dict):
        return own + _sampled(value.keys(), visited) + _sampled(value.values(), visited)
    if isinstance(value, (list, tuple, set, frozenset)):
        return own + _sampled(value, visited)
    return own + _sampled(getattr(value, "__dict__", {}).values(), visited)


def _sampled(items: Any, visited: set[int]) -> int:
    sample = list(itertools.islice(items, _SAMPLE))
    total = sum(estimated_size(item, visited) for item in sample)
    return total * len(items) // len(sample) if sample else 0


def _library_size(value: Any) -> int | None:
    """Return the size that a data library's object reports."""
    if type(value).__module__.partition(".")[0] not in DATA_LIBRARIES:
        return None
    if hasattr(value, "memory_usage"):
        usage = value.memory_usage(deep=True)
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    size = getattr(value, "nbytes", None)
    return int(size) if size is not None else None
