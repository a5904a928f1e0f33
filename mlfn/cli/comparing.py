"""`mlfn diff`."""

from __future__ import annotations

import re
from contextlib import suppress

import click

from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.printing import harmless, say, write_json
from mlfn.cli.targets import find_function
from mlfn.errors import NotFoundError, ParameterError

_HASH = re.compile(r"[0-9a-fA-F]{4,64}")


def _diff(chosen: Chosen, a: str, b: str) -> None:
    from mlfn.library.differences import diff as differences

    before, after = _version(a), _version(b)
    lines = differences(before, after)
    if chosen.json:
        write_json({"a": _hash(before), "b": _hash(after), "differences": list(lines)})
    else:
        say(harmless(str(lines)))


def _version(text: str) -> object:
    """Return a Function for a target, else the whole hash of a stored version: its own first digits, or those of a run."""
    if not _HASH.fullmatch(text):
        return find_function(text)
    from mlfn.client import current_client

    store = current_client().store
    try:
        run = store.find_run(text)
    except NotFoundError:
        return store.find_function(text)
    with suppress(NotFoundError):
        if (function := store.find_function(text)) != run.function:
            raise ParameterError(
                f"{text!r} begins the id of run {run.id[:12]} and the hash of function version {function[:12]}: give more digits."
            )
    return run.function


def _hash(version: object) -> str:
    return version if isinstance(version, str) else str(version.hash)  # type: ignore[attr-defined]


diff = MlfnCommand(
    "diff",
    params=[click.Argument(["a"]), click.Argument(["b"])],
    callback=click.pass_obj(_diff),
    help="Say what differs from A to B: each a run, the first digits of a version's hash, or file.py::name.",
    no_args_is_help=True,
)
