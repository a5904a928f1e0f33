"""Words for people, JSON for machines: answers on stdout, remarks on stderr."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from mlfn import settings
from mlfn.errors import MlfnError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
STATE_COLORS = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "pruned": "yellow",
    "running": "cyan",
    "pending": "bright_black",
}


def complain(text: str) -> None:
    """Write one remark to stderr."""
    click.echo(f"mlfn: {harmless(text)}", err=True)


def write_json(data: Any) -> None:
    """Write one document."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def say(text: str = "") -> None:
    """Write a line of the answer, in colour where that is wanted."""
    click.echo(text, color=colored(sys.stdout))


def harmless(text: str) -> str:
    """Return `text` with control characters spelt out: what a run says must not steer the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def colored(stream: TextIO) -> bool:
    """Say whether to write to `stream` in colour: the setting, else a terminal without NO_COLOR."""
    wish = _wish()
    if wish != "auto":
        return wish == "always"
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _wish() -> str:
    try:
        return settings.current().color
    except MlfnError:  # a misfitting setting is being reported
        return "auto"


def is_terminal(stream: TextIO) -> bool:
    """Say whether somebody watches `stream`."""
    return stream.isatty()


def state_text(state: str) -> str:
    """Return a state in its colour."""
    return click.style(state, fg=STATE_COLORS.get(state))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, state: int | None = None) -> None:
    """Write a table: drawn in a terminal, else aligned text that is never cut.

    `state` is the column to colour.
    """
    clean = [[harmless(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        from mlfn.cli.drawing import draw_table

        styles = {} if state is None else {(state, name): color for name, color in STATE_COLORS.items()}
        draw_table(columns, clean, styles=styles, color=colored(sys.stdout))
        return
    widths = [max(len(cell) for cell in column) for column in zip(columns, *clean, strict=True)]
    for row in [list(columns), *clean]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if state is not None and row is not columns:
            cells[state] = cells[state].replace(row[state], state_text(row[state]), 1)
        say("  ".join(cells).rstrip())


def write_facts(facts: Sequence[tuple[str, str]], *, indent: str = "") -> None:
    """Write names and what they are, one a line."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, text in facts:
        say(f"{indent}{click.style(name.ljust(width), bold=True)}  {text}")
