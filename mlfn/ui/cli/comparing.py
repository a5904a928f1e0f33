"""`mlfn diff`."""

from __future__ import annotations

import re
from contextlib import suppress

import click

from mlfn.dispatch.session import current_session
from mlfn.errors import NotFoundError, ParameterError, harmless
from mlfn.functions.library import diff as library
from mlfn.handles.run_query import find_run
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.printing import say, write_json
from mlfn.ui.cli.targets import find_function

_HASH = re.compile(r"[0-9a-fA-F]{4,64}")


@command("diff", no_args_is_help=True)
@click.argument("a")
@click.argument("b")
def diff(chosen: Chosen, a: str, b: str) -> None:
    """Show the differences from A to B: each a run (by id, function or sweep, or last), the first digits of a version's hash, or file.py::name."""
    before, after = _version(a), _version(b)
    lines = library.diff(before, after)
    if chosen.json:
        write_json({"a": _hash(before), "b": _hash(after), "differences": list(lines)})
    else:
        say(harmless(str(lines)))


def _version(text: str) -> object:
    """Return a Function for a target, else the whole hash of a stored version: its own first digits, or those of a run."""
    if ":" in text:
        return find_function(text)

    store = current_session().store
    if not _HASH.fullmatch(text):
        with suppress(NotFoundError):
            return find_run(store, text).function
        return find_function(text)
    try:
        run = find_run(store, text)
    except NotFoundError:
        return store.resolve_function(text)
    with suppress(NotFoundError):
        if (function := store.resolve_function(text)) != run.function:
            raise ParameterError(
                f"{text!r} begins the id of run {run.id[:12]} and the hash of function version {function[:12]}: give more digits."
            )
    return run.function


def _hash(version: object) -> str:
    return version if isinstance(version, str) else str(version.hash)  # type: ignore[attr-defined]
