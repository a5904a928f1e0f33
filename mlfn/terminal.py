"""What a terminal shows while this process waits for a run: a line, of a sweep a table, too; gone when the wait is over."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlfn.cards import duration, progress_text
from mlfn.snapshot import Snapshot, look_briefly

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from mlfn.handle import Run
    from mlfn.sweep_snapshot import SweepSnapshot

_SHARE = 100  # looking at a sweep takes at most one part of so many of a core

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
    """A sweep's lines: how many children have ended, and a table of the best few, of those at work and of a failed one."""

    def __init__(self, run: Run[Any]) -> None:
        from rich.spinner import Spinner

        from mlfn.sweep.sweep_run import SweepRun

        self._sweep = run if isinstance(run, SweepRun) else SweepRun(run._record, client=run._client)
        self._shown: SweepSnapshot | None = None
        self._spinner = Spinner("line")
        self._next_look = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.segment import Segment

        from mlfn.sweep_lines import below, head

        sweep = self._looked()
        # What ends in the last column may wrap: the line would not be erased then.
        width = max(1, options.max_width - 1)
        first = head(sweep, width - 1)
        yield Segment(str(self._spinner.render(console.get_time())))
        if first.who:
            yield Segment(f" {first.who}")
        if first.bar and sweep.total:
            yield Segment(" ")
            bar = ProgressBar(total=sweep.total, completed=sweep.done, width=first.bar)
            yield from console.render(bar, options.update(width=first.bar))
        yield Segment(f" {first.counts}")
        if first.elapsed:
            yield Segment(f" {first.elapsed}", console.get_style("dim"))
        for line in below(sweep, width, options.size.height - 2):
            yield Segment.line()
            yield Segment(line.text, console.get_style(line.style) if line.style else None)

    def _looked(self) -> SweepSnapshot:
        """Look at the sweep, unless that has taken too much of the processor of late."""
        from mlfn.sweep_snapshot import glance

        if self._shown is None or time.monotonic() >= self._next_look:
            begun = time.thread_time()
            self._shown = glance(self._sweep, self._shown)
            self._next_look = time.monotonic() + _SHARE * (time.thread_time() - begun)
        return self._shown


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
