"""The view model of a listing of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from mlfn.handles.run_query import RunQuery, find_runs
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord
from mlfn.ui.views import Source
from mlfn.ui.views.run import RunView, brief_view, listed_view

MOST_RUNS = 50


@frozen
class ListingView:
    """Runs; `scores` has the metric by which they are ordered, by run; `note` says why there are none."""

    runs: tuple[RunView, ...]
    total: int
    metric: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def read_listing(source: Source, query: RunQuery) -> ListingView:
    """Return the runs that a query asks for."""
    found = find_runs(source.store, query)
    runs = tuple(listed_view(source, record) for record in found.records)
    return ListingView(runs, len(runs), found.metric, found.scores, found.note)


def listing_of(
    records: Iterable[RunRecord], *, total: int, metric: str | None, scores: Mapping[str, float], note: str
) -> ListingView:
    """Return the view of a listing that was read before."""
    return ListingView(tuple(map(brief_view, records)), total, metric, scores, note)
