"""View models of the runs that a handle stands for: what was known before, where the store cannot be read. Never raises."""

from __future__ import annotations

from typing import Any

from mlfn.handles.run import Run, current_record, known_record
from mlfn.ui.views import Source
from mlfn.ui.views.run import RunView, brief_view, read_run, with_notice
from mlfn.ui.views.sweep import SweepView, read_sweep, read_sweep_briefly


def view_of(run: Run[Any], before: RunView | SweepView | None = None) -> RunView | SweepView:
    """Return the view of a run or a sweep; what has not changed since `before` is kept."""
    if known_record(run).sweep:
        return view_sweep(run, before if isinstance(before, SweepView) else None)
    return view_run(run)


def view_run(run: Run[Any]) -> RunView:
    """Return the view of a run."""
    try:
        return read_run(_source(run), run.record)
    except Exception as error:  # noqa: BLE001 - a store can fail in any way; what is known is still shown
        return with_notice(brief_view(known_record(run)), error)


def view_run_briefly(run: Run[Any]) -> RunView:
    """Return the view that the row of a run gives, for a line that vanishes: its outcome does not count as seen."""
    try:
        return brief_view(current_record(run))
    except Exception as error:  # noqa: BLE001 - as above
        return with_notice(brief_view(known_record(run)), error)


def view_sweep(run: Run[Any], before: SweepView | None = None) -> SweepView:
    """Return the view of a sweep; what has not changed since `before` is kept."""
    return read_sweep(_source(run), view_run(run), before)


def view_sweep_briefly(run: Run[Any], before: SweepView | None = None) -> SweepView:
    """Return counts, pace and a few children, for a line that vanishes."""
    return read_sweep_briefly(_source(run), view_run_briefly(run), before)


def _source(run: Run[Any]) -> Source:
    session = run.__mlfn_session__
    return Source(session.store, session.folder)
