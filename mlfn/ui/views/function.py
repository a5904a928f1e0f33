"""The view model of a declared function; making it captures and opens nothing."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from mlfn.functions.declaration import Declared, Function
from mlfn.host.frozen import frozen
from mlfn.ui.wording import cut, without_path_classes
from mlfn.worker.fitting import shown_annotation

_LONGEST = 120
_LONGEST_DOC = 600


@frozen
class FunctionView:
    """A function: what is declared of it, and (name, type, default) of its parameters."""

    name: str
    facts: tuple[tuple[str, str], ...] = ()
    parameters: tuple[tuple[str, str, str], ...] = ()
    doc: str = ""


def view_function(function: Function[..., Any, Any]) -> FunctionView:
    """Return the view of a function."""
    declared = function.__mlfn_declared__
    doc = (getattr(function, "__doc__", None) or "").strip().split("\n\n")[0]
    return FunctionView(declared.name, tuple(_facts(declared)), _parameters(function), doc[:_LONGEST_DOC])


def _facts(declared: Declared) -> list[tuple[str, str]]:
    place, place_options = declared.place or ("as set (local by default)", {})
    facts = [("kind", _option_text(declared.options.get("kind", "job"))), ("place", place)]
    facts += [(name, _option_text(value)) for name, value in place_options.items()]
    for name, value in declared.options.items():
        if name == "env" and isinstance(value, Mapping):
            # A notebook is shared more readily than a store: it gets the names of variables, not their values.
            facts.append((name, ", ".join(map(str, value))))
        elif name not in ("name", "kind"):
            facts.append((name, _option_text(value)))
    if declared.outputs:
        facts.append(("outputs", ", ".join(declared.outputs)))
    if declared.submitted is not None:
        facts.append(("hash", f"{declared.submitted[:12]} (as last submitted)"))
    return facts


def _parameters(function: Function[..., Any, Any]) -> tuple[tuple[str, str, str], ...]:
    try:
        signature = function.__mlfn_signature__
    except Exception:  # noqa: BLE001 - submitting it names what cannot be read
        return ()
    stars, found = {signature.shape.varargs: "*", signature.shape.varkw: "**"}, []
    for name, parameter in signature.parameters.items():
        kind = shown_annotation(signature.annotations[name]) if name in signature.annotations else ""
        default = "" if parameter.default is parameter.empty else short_repr(parameter.default)
        found.append((f"{stars.get(name, '')}{name}", kind, default))
    return tuple(found)


def _option_text(value: object) -> str:
    """Return an option as people write it: its text, or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (str, int, float)) for item in value):
        return cut(", ".join(map(str, value)), _LONGEST)
    if isinstance(value, Mapping) and value and all(isinstance(item, str) for pair in value.items() for item in pair):
        return cut(", ".join(f"{key}={text}" for key, text in value.items()), _LONGEST)
    return short_repr(value)


def short_repr(value: object) -> str:
    """Return a repr, cut; the type's name where it fails."""
    try:
        return cut(without_path_classes(_SHORT.repr(value)), _LONGEST)
    except Exception:  # noqa: BLE001 - a repr may fail in any way
        return f"<{type(value).__name__}>"


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 8
_SHORT.maxstring = _SHORT.maxother = _LONGEST
