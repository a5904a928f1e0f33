"""Which option of a list a value is: True is not 1, and what has no `==` is known by its bytes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

_SCALARS = (str, int, float, bool, bytes, type(None))


class Options:
    """Options in their order; scalars are looked up, others gone through: (1,) equals (True,) though neither is it."""

    def __init__(self, options: Sequence[Any] = ()) -> None:
        self.known: Sequence[Any] = options if isinstance(options, range) else []
        self._places: dict[tuple[type, Any], int] = {}
        for option in () if isinstance(options, range) else options:
            self._append(option)

    def place(self, value: Any) -> int | None:
        """Return the place of the first option that is the same value; None where there is none."""
        if isinstance(self.known, range):
            return self.known.index(value) if type(value) is int and value in self.known else None
        if type(value) in _SCALARS and (place := self._places.get((type(value), value))) is not None:
            return place
        for same in (_identical, _equal_bytes, _equal):
            for place, option in enumerate(self.known):
                if same(option, value):
                    return place
        return None

    def add(self, value: Any) -> None:
        """Append a value that is not there yet."""
        if self.place(value) is None:
            self._append(value)

    def _append(self, option: Any) -> None:
        assert isinstance(self.known, list)
        if type(option) in _SCALARS:
            self._places.setdefault((type(option), option), len(self.known))
        self.known.append(option)


def _identical(one: Any, other: Any) -> bool:
    return one is other


def _equal_bytes(one: Any, other: Any) -> bool:
    """Tell [1] from [True], and know an object without `==` again that came back from the store as another one."""
    try:
        return type(one) is type(other) and pickle.dumps(one) == pickle.dumps(other)
    except Exception:  # noqa: BLE001 - what has no pickle has no equal
        return False


def _equal(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - an array has no one answer; others may raise anything
        return False
