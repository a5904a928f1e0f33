"""IPython's side: how runs, functions and listings show themselves, and cards that follow their runs.

A card is a display with an id; an update names the id, and the front end finds the cell that shows it, whichever cell
runs meanwhile. An update is published under the header of the cell that runs now, not of the card's own: JupyterLab looks
at the id alone, and nbclient (nbconvert, papermill) drops what is not of the running cell.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import reprlib
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlfn import cards
from mlfn.identity import new_id
from mlfn.snapshot import Snapshot, clean, from_record, look

if TYPE_CHECKING:
    from mlfn.declaration import Function
    from mlfn.handle import Run
    from mlfn.listing import Runs
    from mlfn.sweep.description import Sweep
    from mlfn.sweep_snapshot import SweepSnapshot

logger = logging.getLogger(__name__)
_PATIENT_AFTER = ((600.0, 4.0), (60.0, 1.0), (0.0, 0.4))  # age of the youngest card -> seconds between looks
_SHARE = 8  # looking takes at most one part of so many of a core
_SHARE_OF_SWEEPS = 60  # their driver is in this process, as a rule
_GIVE_UP_AFTER = 60  # looks at a store that cannot be read


def register() -> bool:
    """Teach the IPython shell of this process, if there is one, to show runs, functions and listings."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is None or getattr(shell, "display_formatter", None) is None:
        return False
    # By name: none of these modules has to be imported for that.
    html = shell.display_formatter.formatters["text/html"]
    html.for_type_by_name("mlfn.handle", "Run", run_html)
    html.for_type_by_name("mlfn.listing", "Runs", runs_html)
    html.for_type_by_name("mlfn.declaration", "Function", function_html)
    html.for_type_by_name("mlfn.sweep.description", "Sweep", description_html)
    if getattr(shell, "kernel", None) is not None:
        live = LiveCards(shell)
        shell.display_formatter.ipython_display_formatter.for_type_by_name("mlfn.handle", "Run", live.show)
    return True


def run_html(run: Run[Any]) -> str:
    """Return a run's card as it is now, or a sweep's."""
    return _safely(lambda: _card_of(_look(run)), run)


def runs_html(runs: Runs) -> str:
    """Return a listing as a table; what the listing itself knows, without another look at the store."""
    return _safely(lambda: cards.notice_card(repr(runs)) if runs.note else _runs_table(runs), runs)


def _runs_table(runs: Runs) -> str:
    shown = [from_record(run._record) for run in runs[: cards.MOST_ROWS]]
    return cards.runs_table(shown, total=len(runs), metric=runs.metric, scores=runs.scores)


def function_html(function: Function[..., Any, Any]) -> str:
    """Return what is declared of a function; captures and opens nothing."""
    return _safely(lambda: _function_card(function), function)


def description_html(sweep: Sweep[Any]) -> str:
    """Return the first rows of what a sweep describes."""
    from mlfn.sweep_cards import description_card

    return _safely(lambda: description_card(sweep), sweep)


@dataclass
class _Card:
    run: Run[Any]
    display: str
    shown: Snapshot | SweepSnapshot
    html: str
    since: float
    in_document: bool  # whether the newest state was published while a cell ran
    failures: int = 0

    @property
    def is_over(self) -> bool:
        return self.shown.state.is_terminal or self.failures > _GIVE_UP_AFTER


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
        snapshot = _look(run)
        html = _safely(lambda: _card_of(snapshot), run)
        with self._lock:
            card = self._cards.get(run.id)
            if card is None:
                display = f"mlfn-{new_id()[:16]}"
                card = _Card(run, display, snapshot, html, time.monotonic(), in_document=True)
            if not card.is_over:
                self._cards[run.id] = card
                self._follow()
            self._publish(card, html, update=False)

    def _follow(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            if self._thread is None:
                # After the client's own, so before it: the store is still open then.
                atexit.register(self._stop)
            # In an empty context, where ipykernel finds no cell but the running one.
            context = contextvars.Context()
            self._thread = threading.Thread(target=context.run, args=(self._keep_up,), name="mlfn-cards", daemon=True)
            self._thread.start()

    def _keep_up(self) -> None:
        pause = _PATIENT_AFTER[-1][1]
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
            share = _SHARE_OF_SWEEPS if any(card.run._record.sweep for card in followed) else _SHARE
            pause = max(next(span for limit, span in _PATIENT_AFTER if age >= limit), spent * share)

    def _refresh(self, card: _Card) -> None:
        with self._lock:
            if card.is_over:
                return
            card.shown = _look(card.run, card.shown)
            card.failures = card.failures + 1 if card.shown.notice else 0
            html = _safely(lambda: _card_of(card.shown), card.run)
            if html != card.html:
                self._publish(card, html, update=True)

    def _publish(self, card: _Card, html: str, *, update: bool) -> None:
        card.html = html
        card.in_document = self._cell_runs
        data = {"text/plain": clean(_plain(card.shown)), "text/html": html}
        try:
            self._shell.display_pub.publish(data, metadata={}, transient={"display_id": card.display}, update=update)
        except Exception:
            logger.debug("a card could not be published", exc_info=True)

    def _cell_begins(self, _: object = None) -> None:
        self._cell_runs = True

    def _cell_ends(self, _: object = None) -> None:
        """Bring every card up to date before the cell counts as done: a document saved then has the last state."""
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
        thread = self._thread
        if thread is not None:
            thread.join(2)


def _safely(make: Any, shown: object) -> str:
    try:
        return str(make())
    except Exception as error:  # a repr never raises, whatever it meets
        logger.debug("a card could not be drawn", exc_info=True)
        return cards.notice_card(f"{type(shown).__name__}: it cannot be shown ({type(error).__name__}).")


def _look(run: Run[Any], before: Snapshot | SweepSnapshot | None = None) -> Snapshot | SweepSnapshot:
    if not run._record.sweep:
        return look(run)
    from mlfn.sweep.sweep_run import SweepRun
    from mlfn.sweep_snapshot import SweepSnapshot, look_at_sweep

    sweep = run if isinstance(run, SweepRun) else SweepRun(run._record, client=run._client)
    return look_at_sweep(sweep, before if isinstance(before, SweepSnapshot) else None)


def _card_of(shown: Snapshot | SweepSnapshot) -> str:
    if isinstance(shown, Snapshot):
        return cards.run_card(shown)
    from mlfn.sweep_cards import sweep_card

    return sweep_card(shown)


def _plain(run: Snapshot | SweepSnapshot) -> str:
    kind = "Run" if isinstance(run, Snapshot) else "SweepRun"
    return f"<mlfn.{kind} {run.id[:8]} {run.name} {run.state}>"


def _function_card(function: Function[..., Any, Any]) -> str:
    options = function._options
    place = function._place
    facts = [
        ("kind", _words(options.get("kind", "job"))),
        ("place", place[0] if place else "as set (local by default)"),
    ]
    facts += [(name, _words(value)) for name, value in (place[1] if place else {}).items()]
    facts += [(name, _option(name, value)) for name, value in options.items() if name not in ("name", "kind")]
    if function._outputs:
        facts.append(("outputs", ", ".join(function._outputs)))
    if function._prepared is not None:  # as submitted last; making it anew would capture the code
        facts.append(("hash", f"{function._prepared.plan.function[:12]} (as last submitted)"))
    doc = (getattr(function, "__doc__", None) or "").strip().split("\n\n")[0]
    return cards.function_card(function._name, facts=facts, parameters=_parameters(function), doc=doc[:600])


def _parameters(function: Function[..., Any, Any]) -> list[tuple[str, str, str]]:
    from mlfn.signature import shown_annotation

    try:
        signature = function._signed()
    except Exception:  # noqa: BLE001 - what cannot be read is said when it is submitted
        return []
    stars = {signature.shape.varargs: "*", signature.shape.varkw: "**"}
    return [
        (
            f"{stars.get(name, '')}{name}",
            shown_annotation(signature.annotations[name]) if name in signature.annotations else "",
            "" if parameter.default is parameter.empty else _short_repr(parameter.default),
        )
        for name, parameter in signature.parameters.items()
    ]


def _option(name: str, value: object) -> str:
    # A document is passed on more readily than a store: it gets the names of variables, not what they hold.
    return ", ".join(map(str, value)) if name == "env" and isinstance(value, Mapping) else _words(value)


def _words(value: object) -> str:
    """Return an option as people write it: its text, or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, (str, int, float)) for item in value):
        return _cut(", ".join(map(str, value)))
    if isinstance(value, Mapping) and value and all(isinstance(item, str) for pair in value.items() for item in pair):
        return _cut(", ".join(f"{key}={text}" for key, text in value.items()))
    return _short_repr(value)


def _short_repr(value: object) -> str:
    try:
        text = _SHORT.repr(value)
    except Exception:  # noqa: BLE001 - a repr of somebody else's
        text = f"<{type(value).__name__}>"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:119]}…"


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 8
_SHORT.maxstring = _SHORT.maxother = 120
