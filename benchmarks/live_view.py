"""What a live view costs its sweep: ``python benchmarks/live_view.py`` runs one sweep with it and without it, in turns.

The terminal's lines are drawn for a terminal that nobody reads; the card is looked at and drawn as in a notebook.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("MLFN_DATA", tempfile.mkdtemp(prefix="mlfn-bench-"))

from timing import emit

CHILDREN = int(os.environ.get("CHILDREN", "2000"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))


@contextmanager
def terminal(sweep: Any) -> Iterator[None]:
    from rich.console import Console

    from mlfn.ui.terminal import progress as ours

    ours._is_watched = lambda: True
    ours._console = lambda: Console(file=io.StringIO(), force_terminal=True, width=140)
    with ours.progress_line(sweep):
        yield


@contextmanager
def card(sweep: Any) -> Iterator[None]:
    """Show the card in a thread, as a kernel does."""
    from mlfn.ui.notebook import LiveCards

    class Shell:
        class events:  # noqa: N801 - as IPython calls it
            register = staticmethod(lambda *_: None)

        class display_pub:  # noqa: N801
            publish = staticmethod(lambda *_, **__: None)

    live = LiveCards(Shell())
    live.show(sweep)
    try:
        yield
    finally:
        live._stop()


def once(view: Callable[[Any], Any]) -> tuple[float, float, float]:
    """Return seconds, seconds of CPU in the client, and how many of these in the threads that the view began."""
    from noop import noop

    begun, worked = time.perf_counter(), time.process_time()
    sweep = noop.grid(i=range(CHILDREN)).with_options(select="max.return").submit()
    over = threading.Event()
    sweep.add_done_callback(lambda _: over.set())
    before = set(threading.enumerate())
    with view(sweep):
        own = [thread for thread in threading.enumerate() if thread not in before and _is_of_view(thread)]
        over.wait()
        taken = time.perf_counter() - begun
        clocks = [time.pthread_getcpuclockid(thread.ident) for thread in own if thread.ident and thread.is_alive()]
        spent = sum(map(time.clock_gettime, clocks))
    return taken, time.process_time() - worked, spent


def _is_of_view(thread: threading.Thread) -> bool:
    return thread.name == "mlfn-cards" or type(thread).__module__ == "rich.live"


def main() -> None:
    """Print by how much each view makes a sweep slower, and its client busier: the medians of paired rounds.

    The share is the CPU of the view's own thread by the sweep's time: on a machine that has other work, it alone holds still.
    """
    views: dict[str, Callable[[Any], Any]] = {"terminal": terminal, "card": card}
    once(nullcontext)
    found: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        for name, view in views.items():
            pair = [view, nullcontext] if turn % 2 else [nullcontext, view]
            taken = {each: once(each) for each in pair}
            found.setdefault(f"{name}_share_percent", []).append(100 * taken[view][2] / taken[view][0])
            for at, what in enumerate(("slower", "busier")):
                found.setdefault(f"{name}_{what}_percent", []).append(
                    100 * (taken[view][at] / taken[nullcontext][at] - 1)
                )
    for name, each in found.items():
        print(name, [round(one, 1) for one in each], file=sys.stderr)
    emit(**{name: statistics.median(each) for name, each in found.items()})


if __name__ == "__main__":
    main()
