"""`frozen`: dataclasses that are cheap to import, as a process makes some ninety before its first run.

``dataclass(frozen=True)`` compiles six methods a class, one millisecond in all. Here one is compiled, and the others are
shared. That attributes stay as they are is kept by the type checkers alone: a user's own option values stay dataclasses.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import field

    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_):
        """Return a decorator that only type checkers need."""
        return lambda function: function

    field = None

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a dataclass whose instances are compared and shown by their fields, and are not changed."""
    made = dataclass(eq=False, repr=False)(cls)
    for name, method in (("__eq__", _equals), ("__hash__", _hash), ("__repr__", _shown)):
        # What the class or a base of it defines stays. A class that defines __eq__ alone has a __hash__ of None.
        if getattr(made, name) in (getattr(object, name), None):
            setattr(made, name, method)
    return made


@functools.cache
def _compared(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls) if field.compare)


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in _compared(self.__class__)])


def _equals(self: Any, other: object) -> bool:
    return self is other or (_values(self) == _values(other) if type(other) is type(self) else NotImplemented)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _shown(self: Any) -> str:
    shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{type(self).__qualname__}({shown})"
