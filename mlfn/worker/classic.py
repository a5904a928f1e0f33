"""A handler of Nuclio's own form, ``handler(context, event)``, with the ``init_context`` that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlfn.worker.context import annotated


class ClassicHandler:
    """The two functions as one object, so that both travel and both count as the function's code."""

    def __init__(self, handler: Callable[..., Any], init_context: Callable[..., Any]) -> None:
        self.handler = handler
        self.init_context = init_context
        self.__name__ = getattr(handler, "__name__", "handler")
        self.__qualname__ = getattr(handler, "__qualname__", self.__name__)

    def __call__(self, context: Any, event: Any) -> Any:
        """Call the handler."""
        return self.handler(context, event)


def is_classic(function: Callable[..., Any]) -> bool:
    """Say whether a function has Nuclio's own form: its two parameters are called ``context`` and ``event``."""
    if isinstance(function, ClassicHandler):
        return True
    code = getattr(annotated(function), "__code__", None)
    if code is None:
        return False
    names = code.co_varnames[: code.co_argcount]
    return names[-2:] == ("context", "event") and names in (("context", "event"), ("self", "context", "event"))


def with_init_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a classic handler with the ``init_context`` of its module, where that has one."""
    namespace = getattr(annotated(function), "__globals__", {})
    init = namespace.get("init_context")
    return ClassicHandler(function, init) if callable(init) and not isinstance(function, ClassicHandler) else function
