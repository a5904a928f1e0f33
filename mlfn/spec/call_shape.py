"""How a handler is called with parameters by name. Apart from the plan, which workers need not load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mlfn.host.frozen import frozen

_NOTHING: Mapping[str, Any] = {}


@frozen
class CallShape:
    """How to pass parameters by name to the handler: worked out from its signature by the caller.

    `injected` says by parameter what the kind supplies where the run runs.
    """

    positional: tuple[str, ...] = ()
    varargs: str | None = None
    varkw: str | None = None
    context: str | None = None
    injected: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallShape:
        """Rebuild from plain JSON."""
        return cls(**{**data, "positional": tuple(data["positional"])})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; as it was before kinds supplied anything, where this one supplies nothing."""
        return {name: value for name, value in vars(self).items() if value or name != "injected"}

    def arguments(
        self, params: Mapping[str, Any], ctx: object, supplied: Mapping[str, Any] = _NOTHING
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return what to call the handler with: parameters by name, by position where Python requires it."""
        named = {**params, **{name: supplied[what] for name, what in self.injected.items() if what in supplied}}
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
