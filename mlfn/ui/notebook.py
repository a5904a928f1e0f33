"""Runs, functions and listings in IPython, and cards that follow their runs.

A card is a display with an id; an update names the id, and the front end finds the cell that shows it, whichever cell
runs meanwhile. An update is sent with the running cell as its parent header, not with the card's cell: JupyterLab goes
by the id alone, and nbclient (nbconvert, papermill) drops what is not of the running cell.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mlfn.errors import NotFoundError
from mlfn.host.identity import new_id
from mlfn.ui import short_tracebacks
from mlfn.ui.html import cards
from mlfn.ui.views.handles import view_of, view_run
from mlfn.ui.views.run import RunView
from mlfn.ui.views.sweep import SweepView
from mlfn.ui.wording import clean

if TYPE_CHECKING:
    from mlfn.functions.declaration import Function
    from mlfn.handles.finders import Runs
    from mlfn.handles.outputs import Metrics, Outputs
    from mlfn.handles.run import Run
    from mlfn.handles.service import Service
    from mlfn.handles.version import Version
    from mlfn.sweep.description import Sweep

logger = logging.getLogger(__name__)
_PAUSES = ((600.0, 4.0), (60.0, 1.0), (0.0, 0.4))  # age of the youngest card -> seconds between refreshes
_SHARE = 8  # refreshing takes at most one part of so many of a core
_SHARE_OF_SWEEPS = 60  # their controller is in this process, as a rule
_MOST_FAILURES = 60  # refreshes from a store that cannot be read


def register() -> bool:
    """Register in the IPython shell of this process, if it has one, how runs, functions and listings are shown."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is None or getattr(shell, "display_formatter", None) is None:
        return False
    # By name: none of these modules has to be imported for that.
    html = shell.display_formatter.formatters["text/html"]
    html.for_type_by_name("mlfn.handles.run", "Run", run_html)
    html.for_type_by_name("mlfn.handles.finders", "Runs", runs_html)
    html.for_type_by_name("mlfn.functions.declaration", "Function", function_html)
    html.for_type_by_name("mlfn.sweep.description", "Sweep", description_html)
    html.for_type_by_name("mlfn.handles.version", "Version", version_html)
    html.for_type_by_name("mlfn.handles.service", "Service", service_html)
    html.for_type_by_name("mlfn.handles.outputs", "Outputs", outputs_html)
    html.for_type_by_name("mlfn.handles.outputs", "Metrics", metrics_html)
    short_tracebacks.install(shell)
    if getattr(shell, "kernel", None) is not None:
        live = LiveCards(shell)
        shell.display_formatter.ipython_display_formatter.for_type_by_name("mlfn.handles.run", "Run", live.show)
    return True


def run_html(run: Run[Any]) -> str:
    """Return a run's card as it is now, or a sweep's."""
    return _safely(lambda: _card_of(view_of(run)), run)


def runs_html(runs: Runs) -> str:
    """Return a listing as a table, of what the listing holds: the store is not read again."""
    from mlfn.handles.run import known_record
    from mlfn.ui.views.listing import MOST_RUNS, listing_of

    def table() -> str:
        shown, note = map(known_record, runs[:MOST_RUNS]), repr(runs) if runs.note else ""
        return cards.runs_table(listing_of(shown, total=len(runs), metric=runs.metric, scores=runs.scores, note=note))

    return _safely(table, runs)


def function_html(function: Function[..., Any, Any]) -> str:
    """Return what is declared of a function; captures and opens nothing."""
    from mlfn.ui.views.function import view_function

    return _safely(lambda: cards.function_card(view_function(function)), function)


def description_html(sweep: Sweep[Any]) -> str:
    """Return the first rows of what a sweep describes."""
    from mlfn.ui.views.description import view_description

    return _safely(lambda: cards.description_card(view_description(sweep)), sweep)


def outputs_html(outputs: Outputs) -> str:
    """Return the outputs of a run as they are now."""
    return _safely(lambda: cards.outputs_card(view_run(cast("Run[Any]", outputs._run))), outputs)


def metrics_html(metrics: Metrics) -> str:
    """Return the metrics of a run as they are now."""
    return _safely(lambda: cards.metrics_card(view_run(cast("Run[Any]", metrics._run))), metrics)


def version_html(version: Version[Any]) -> str:
    """Return a promoted version."""
    from mlfn.ui.views.values import parameter

    def card() -> str:
        return cards.version_card(
            view_run(version.run),
            title=f"{version.name}:{version.tag}",
            subtitle=f"version {version.hash[:12]} of project {version.project}, promoted from run {version.run.id[:8]}",
            defaults=[parameter(*item) for item in version.spec["defaults"].items()],
        )

    return _safely(card, version)


def service_html(service: Service) -> str:
    """Return a service as it is now."""
    from mlfn.ui.views.service import view_service

    def card() -> str:
        try:
            return cards.service_card(view_service(service))
        except NotFoundError:
            return cards.notice_card(f"The service {service.name} was deleted.")

    return _safely(card, service)


@dataclass
class _Card:
    run: Run[Any]
    display: str
    view: RunView | SweepView
    html: str
    since: float
    in_document: bool  # whether the newest state was published while a cell ran
    failures: int = 0

    @property
    def is_over(self) -> bool:
        return self.view.state.is_terminal or self.failures > _MOST_FAILURES


class LiveCards:
    """The cards of one kernel: shown at once, then kept up to date by a thread, and at each cell's end."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._cards: dict[str, _Card] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._cell_runs = True  # the cell that made this
        shell.events.register("pre_run_cell", self._cell_begins)
        shell.events.register("post_run_cell", self._cell_ends)

    def show(self, run: Run[Any]) -> None:
        """Show a run's card where the running cell is, and follow the run until it ends."""
        view = view_of(run)
        html = _safely(lambda: _card_of(view), run)
        with self._lock:
            new = _Card(run, f"mlfn-{new_id()[:16]}", view, html, time.monotonic(), in_document=True)
            card = self._cards.get(run.id, new)
            if not card.is_over:
                self._cards[run.id] = card
                self._follow()
            self._publish(card, html, update=False)

    def _follow(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            if self._thread is None:
                # Registered after the session's own, so called before it: the store is still open then.
                atexit.register(self._stop)
            # In an empty context, where ipykernel finds no cell but the running one.
            context = contextvars.Context()
            self._thread = threading.Thread(target=context.run, args=(self._keep_up,), name="mlfn-cards", daemon=True)
            self._thread.start()

    def _keep_up(self) -> None:
        pause = _PAUSES[-1][1]
        while not self._stopping.wait(pause):
            begun = time.monotonic()
            with self._lock:
                followed = [card for card in self._cards.values() if not card.is_over]
                if not followed:
                    self._thread = None
                    return
            for card in followed:
                self._refresh(card)
            age = begun - max(card.since for card in followed)
            spent = time.monotonic() - begun
            share = _SHARE_OF_SWEEPS if any(isinstance(card.view, SweepView) for card in followed) else _SHARE
            pause = max(next(span for limit, span in _PAUSES if age >= limit), spent * share)

    def _refresh(self, card: _Card) -> None:
        with self._lock:
            if card.is_over:
                return
            card.view = view_of(card.run, card.view)
            card.failures = card.failures + 1 if card.view.notice else 0
            html = _safely(lambda: _card_of(card.view), card.run)
            if html != card.html:
                self._publish(card, html, update=True)

    def _publish(self, card: _Card, html: str, *, update: bool) -> None:
        card.html = html
        card.in_document = self._cell_runs
        data = {"text/plain": _plain(card.view), "text/html": html}
        try:
            self._shell.display_pub.publish(data, metadata={}, transient={"display_id": card.display}, update=update)
        except Exception:
            logger.debug("a card could not be published", exc_info=True)

    def _cell_begins(self, _: object = None) -> None:
        self._cell_runs = True

    def _cell_ends(self, _: object = None) -> None:
        """Refresh every card before the cell counts as done: a document saved then has the last state."""
        with self._lock:
            for card in list(self._cards.values()):
                self._refresh(card)
                if not card.in_document:
                    self._publish(card, card.html, update=True)
                if card.is_over:
                    del self._cards[card.run.id]
            self._cell_runs = False

    def _stop(self) -> None:
        self._stopping.set()
        if (thread := self._thread) is not None:
            thread.join(2)


def _safely(make: Any, shown: object) -> str:
    try:
        return str(make())
    except Exception as error:  # a repr never raises, whatever it meets
        logger.debug("a card could not be drawn", exc_info=True)
        return cards.notice_card(f"{type(shown).__name__}: it cannot be shown ({type(error).__name__}).")


def _card_of(view: RunView | SweepView) -> str:
    return cards.run_card(view) if isinstance(view, RunView) else cards.sweep_card(view)


def _plain(view: RunView | SweepView) -> str:
    run, kind = (view, "Run") if isinstance(view, RunView) else (view.run, "SweepRun")
    return clean(f"<mlfn.{kind} {run.id[:8]} {run.name} {run.state}>")
