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
    from mlfn.sweep_snapshot import SweepSnapshot

_one_line = threading.Lock()


@contextmanager
def progress_line(run: Run[Any]) -> Iterator[None]:
    """Show a run's progress on stderr while the block lasts, if a person sits before a terminal there."""
    if not _is_watched() or not _one_line.acquire(blocking=False):
        yield
        return
    try:
        from rich.live import Live

        shown = _SweepLines(run) if run._record.sweep else _Line(run)
        # Drawing takes 2 ms, in a process that drives the sweep.
        rate = 2.5 if run._record.sweep else 5
        line = Live(shown, console=_console(), transient=True, refresh_per_second=rate, redirect_stdout=False)
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


class _SweepLines:
    """A sweep's two lines: how many children have ended, and the best one so far."""

    def __init__(self, run: Run[Any]) -> None:
        from rich.spinner import Spinner

        from mlfn.sweep.sweep_run import SweepRun

        self._sweep = run if isinstance(run, SweepRun) else SweepRun(run._record, client=run._client)
        self._shown: SweepSnapshot | None = None
        self._spinner = Spinner("line")

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        from mlfn.sweep_cards import best_text, count_text
        from mlfn.sweep_snapshot import glance

        self._shown = sweep = glance(self._sweep, self._shown)
        cells: list[RenderableType] = [self._spinner, Text(_who(sweep.run), overflow="ellipsis", no_wrap=True)]
        if sweep.total:
            cells.append(ProgressBar(total=sweep.total, completed=sweep.done, width=16))
        cells.append(Text(count_text(sweep), overflow="ellipsis", no_wrap=True))
        cells.append(Text(duration(sweep.run.elapsed, exact=False), style="dim", no_wrap=True))
        grid = Table.grid(padding=(0, 1))
        for _ in cells:
            grid.add_column(no_wrap=True)
        grid.add_row(*cells)
        best = best_text(sweep)
        return Group(grid, Text(f"  {best}", overflow="ellipsis", no_wrap=True)) if best else grid


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
