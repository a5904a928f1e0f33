"""Progress in a terminal while this process waits for a run: a line, of a sweep a table, too; gone when the wait is over."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlfn.handles.run import Run, known_record
from mlfn.settings import current as settings
from mlfn.ui.views.handles import view_run_briefly, view_sweep_briefly
from mlfn.ui.views.sweep import SweepView
from mlfn.ui.wording import duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_SHARE = 100  # reading a sweep takes at most one part of so many of a core

_one_line = threading.Lock()


@contextmanager
def progress_line(run: Run[Any]) -> Iterator[None]:
    """Show a run's progress on stderr while the block lasts, if that is a terminal."""
    if not _is_watched() or not _one_line.acquire(blocking=False):
        yield
        return
    try:
        from rich.console import Console
        from rich.live import Live

        # Drawing a sweep takes 2 ms, in the process that controls it.
        shown, rate = (_SweepLines(run), 2.5) if known_record(run).sweep else (_Line(run), 5)
        console = Console(file=sys.stderr)
        line = Live(shown, console=console, transient=True, refresh_per_second=rate, redirect_stdout=False)
        try:
            # Not as a context manager: ctrl-C during its start would leave the line running.
            line.start(refresh=True)
            yield
        finally:
            line.stop()
    finally:
        _one_line.release()


class _Line:
    """A run's line, read anew at each drawing."""

    def __init__(self, run: Run[Any]) -> None:
        from rich.spinner import Spinner

        self._run = run
        self._spinner = Spinner("line")

    def __rich__(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table
        from rich.text import Text

        run = view_run_briefly(self._run)
        cells: list[RenderableType] = [
            self._spinner,
            Text(f"{run.name} {run.id[:8]} {run.state}", overflow="ellipsis", no_wrap=True),
        ]
        if run.progress is not None:
            if run.progress.fraction is not None:
                cells.append(ProgressBar(total=1.0, completed=run.progress.fraction, width=24))
            cells.append(Text(run.progress.words, overflow="ellipsis", no_wrap=True))
        cells.append(Text(duration(run.elapsed, exact=False), style="dim", no_wrap=True))
        grid = Table.grid(*(Column(no_wrap=True) for _ in cells), padding=(0, 1))
        grid.add_row(*cells)
        return grid


class _SweepLines:
    """A sweep's lines: how many children have ended, and a table of the best few, of running ones and of a failed one."""

    def __init__(self, run: Run[Any]) -> None:
        from rich.spinner import Spinner

        self._run = run
        self._view: SweepView | None = None
        self._spinner = Spinner("line")
        self._next_read = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.segment import Segment

        from mlfn.ui.terminal.sweep_lines import below, head

        sweep = self._read()
        # A line that ends in the last column may wrap, and would not be erased then.
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

    def _read(self) -> SweepView:
        """Return the view of the sweep, read anew unless reading has taken too much of the processor of late."""
        if self._view is None or time.monotonic() >= self._next_read:
            begun = time.thread_time()
            self._view = view_sweep_briefly(self._run, self._view)
            self._next_read = time.monotonic() + _SHARE * (time.thread_time() - begun)
        return self._view


def _is_watched() -> bool:
    stream = sys.stderr
    if stream is None or os.environ.get("CI") or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    try:
        return stream.isatty() and settings.current().color != "never"  # a notebook's stream is no terminal
    except Exception:  # noqa: BLE001 - a stream of another library, or invalid settings: no line then
        return False
