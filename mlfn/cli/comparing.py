"""`mlfn diff`."""

from __future__ import annotations

import re

import click

from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.printing import harmless, say, write_json
from mlfn.cli.targets import find_function

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
    """Return a Function for a target, else the whole hash of a stored version."""
    if _HASH.fullmatch(text):
        from mlfn.client import current_client

        return current_client().store.find_function(text)
    return find_function(text)


def _hash(version: object) -> str:
    return version if isinstance(version, str) else str(version.hash)  # type: ignore[attr-defined]


diff = MlfnCommand(
    "diff",
    params=[click.Argument(["a"]), click.Argument(["b"])],
    callback=click.pass_obj(_diff),
    help="Say what differs from A to B: each the first digits of a version's hash, or file.py::name.",
    no_args_is_help=True,
)
