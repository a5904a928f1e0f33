"""Text for people, JSON for machines: answers on stdout, remarks on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from mlfn.errors import MlfnError, harmless
from mlfn.settings import current as settings

if TYPE_CHECKING:
    from mlfn.spec.record import RunRecord
    from mlfn.ui.text import Column
    from mlfn.ui.views import Source
    from mlfn.ui.views.run import Extent, RunView
    from mlfn.ui.views.sweep import SweepView


def complain(text: str) -> None:
    """Write one remark to stderr."""
    click.echo(f"mlfn: {harmless(text)}", err=True)


def write_json(data: Any) -> None:
    """Write one document."""
    from mlfn.spec.canonical import escaped  # not for a page of text

    click.echo(escaped(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)))


def read_view(source: Source, record: RunRecord, extent: Extent) -> RunView | SweepView:
    """Return the view of a run, or of a sweep with all its children."""
    if record.sweep:
        from mlfn.ui.views.sweep import read_whole_sweep  # most runs are none

        return read_whole_sweep(source, record, extent)
    from mlfn.ui.views.run import read_run

    return read_run(source, record, extent)


def say(text: str = "") -> None:
    """Write a line of the answer, in colour where that is wanted."""
    click.echo(text, color=colored(sys.stdout))


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of the answer."""
    for line in lines:
        say(line)


def write_table(columns: Sequence[Column]) -> None:
    """Write a table: fitted into a terminal, else aligned text that is never cut."""
    if (width := terminal_width()) is not None:
        from mlfn.ui.terminal.tables import table_lines

        write_lines(table_lines(columns, width))
    else:
        from mlfn.ui import text

        write_lines(text.table_lines(columns))


def terminal_width() -> int | None:
    """Return how many columns the terminal has that answers go to; None where they go elsewhere."""
    if not is_terminal(sys.stdout):
        return None
    import shutil  # 2 ms that a pipe does without

    return shutil.get_terminal_size().columns


def colored(stream: TextIO) -> bool:
    """Return whether to write to `stream` in colour: the setting, else a terminal without NO_COLOR."""
    try:
        choice = settings.current().color
    except MlfnError:  # a misfitting setting is being reported
        choice = "auto"
    if choice != "auto":
        return choice == "always"
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal."""
    return stream.isatty()


def print_children(sweep: SweepView, most: int) -> None:
    """Print a sweep's counts, its best child and a table of so many."""
    from mlfn.ui import text  # most commands print no run

    write_lines(text.sweep_facts(sweep))
    if not sweep.children:
        return
    say()
    write_table(text.sweep_table(sweep, most))
    if len(sweep.children) > most:
        which = f"the first {most}" if sweep.leader is None else f"the best {most} by {sweep.body.select[0]}"
        complain(f"{which} of {len(sweep.children)} children; --json has all.")
