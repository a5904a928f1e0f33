"""How a handler is called with parameters by name. Apart from the plan, which workers need not load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.host.frozen import frozen


@frozen
class CallShape:
    """How to pass parameters by name to the handler: worked out from its signature by the caller."""

    positional: tuple[str, ...] = ()
    varargs: str | None = None
    varkw: str | None = None
    context: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallShape:
        """Rebuild from plain JSON."""
        return cls(**{**data, "positional": tuple(data["positional"])})

    def arguments(self, params: Mapping[str, Any], ctx: object) -> tuple[list[Any], dict[str, Any]]:
        """Return what to call the handler with: parameters by name, by position where Python requires it."""
        named = dict(params)
        if self.context is not None:
            named[self.context] = ctx
        args: list[Any] = []
        for name in self.positional:
            if name not in named:
                break  # left to its default: what follows goes by name
            args.append(named.pop(name))
        args += named.pop(self.varargs, ()) if self.varargs else ()
        extra = named.pop(self.varkw, {}) if self.varkw else {}
        return args, {**named, **extra}
