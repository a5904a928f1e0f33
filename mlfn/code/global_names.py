"""The names that a code object reads."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all those within it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from nested_codes(const)


def global_names(code: CodeType) -> Iterator[str]:
    """Yield the names that a code object and those within it read from globals; builtins among them."""
    for nested in nested_codes(code):
        for instruction in dis.get_instructions(nested):
            if instruction.opname in GLOBAL_LOADS:
                yield instruction.argval
