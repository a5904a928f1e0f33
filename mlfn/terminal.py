"""A progress line while this process waits for a run in a terminal; gone when the wait is over."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlfn.cards import duration, progress_text
from mlfn.snapshot import Snapshot, look_briefly

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from mlfn.handle import Run

_one_line = threading.Lock()


@contextmanager
def progress_line(run: Run[Any]) -> Iterator[None]:
    """Show a run's progress on stderr while the block lasts, if a person sits before a terminal there."""
    if not _is_watched() or not _one_line.acquire(blocking=False):
        yield
        return
    try:
        from rich.live import Live

        line = Live(_Line(run), console=_console(), transient=True, refresh_per_second=5, redirect_stdout=False)
        try:
            # Not as a context manager: ctrl-C within its own start would leave the line running.
            line.start(refresh=True)
            yield
        finally:
            line.stop()
    finally:
        _one_line.release()


class _Line:
    """What stands on the line: asked for anew at each drawing."""

    def __init__(self, run: Run[Any]) -> None:
        from rich.spinner import Spinner

        self._run = run
        self._spinner = Spinner("line")

    def __rich__(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        run = look_briefly(self._run)
        grid = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [self._spinner, Text(_who(run), overflow="ellipsis", no_wrap=True)]
        if run.progress is not None:
            if run.progress.fraction is not None:
                cells.append(ProgressBar(total=1.0, completed=run.progress.fraction, width=24))
            cells.append(Text(progress_text(run.progress), overflow="ellipsis", no_wrap=True))
        cells.append(Text(duration(run.elapsed, exact=False), style="dim", no_wrap=True))
        for _ in cells:
            grid.add_column(no_wrap=True)
        grid.add_row(*cells)
        return grid


def _who(run: Snapshot) -> str:
    return f"{run.name} {run.id[:8]} {run.state}"


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stderr)


def _is_watched() -> bool:
    stream = sys.stderr
    if stream is None or os.environ.get("CI") or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    try:
        return stream.isatty() and _color() != "never"  # a notebook's stream is no terminal
    except Exception:  # noqa: BLE001 - a stream of somebody's own, or settings that do not hold: no line then
        return False


def _color() -> str:
    from mlfn import settings

    return settings.current().color
