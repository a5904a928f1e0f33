"""Which runs a listing asks for, and what it found: what `mlfn.runs()`, `mlfn runs` and a page of runs have in common."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from mlfn.errors import NotFoundError, ParameterError, meant, nearest, readable
from mlfn.host.frozen import frozen
from mlfn.host.identity import now
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.queries import Queries, RunFilter
from mlfn.store.sweeps import Reader

_MOST_PROJECTS = 20  # that are named
_FIRST_LOOK = 500  # runs at which a condition looks first
_MOST_NAMES = 500  # runs whose names are looked at for one that was meant
_SHOWN_DIGITS = 8
_DIGITS = re.compile("[0-9a-fA-F]+")


@frozen
class RunQuery:
    """A filter, an order (``newest``, ``oldest`` or a metric) and a limit, all of them checked."""

    wanted: RunFilter
    limit: int
    metric: str | None = None
    descending: bool = True
    where: str | None = None


@frozen
class FoundRuns:
    """The runs that match; `scores` has the metric by which they are ordered, `note` why there are none."""

    records: tuple[RunRecord, ...] = ()
    metric: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def make_query(
    *,
    project: str | None = None,
    name: str | None = None,
    state: str | Sequence[str] | None = None,
    label: Mapping[str, str] | None = None,
    since: float | datetime | str | None = None,
    order: str = "newest",
    limit: int = 100,
    before: int | None = None,
    parent: str | None = None,
    where: str | None = None,
) -> RunQuery:
    """Check the options of a listing; raise ParameterError for one that does not fit."""
    for option, text in (("project", project), ("name", name), ("order", order)):
        if text is not None and not isinstance(text, str):
            raise ParameterError(f"runs({option}={text!r}): a text is allowed.")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ParameterError(f"runs(limit={limit!r}): a whole number, 1 or more, is allowed.")
    way, _, metric = order.partition(".")
    if order not in ("newest", "oldest") and (way not in ("max", "min") or not metric):
        raise ParameterError(f"runs(order={order!r}): 'newest', 'oldest', 'max.NAME' or 'min.NAME' is allowed.")
    wanted = RunFilter(
        project=project,
        name=name,
        states=_states(state),
        labels=_labels(label),
        since=_since(since),
        before=before,
        parent=parent,
        top_level=parent is None and where is None,  # what is swept has the children, not the sweep
    )
    if where is not None:
        from mlfn.handles.run_filter import Where

        Where(where)  # refused before anything is opened
    return RunQuery(wanted, limit, metric or None, descending=way in ("newest", "max"), where=where)


def find_runs(store: Reader, query: RunQuery) -> FoundRuns:
    """Return the runs that a query asks for, those that can be read."""
    records, note = _filtered(store, query) if query.where is not None else (_asked(store, query, query.limit), "")
    scores: dict[str, float] = {}
    if query.metric is not None:
        known = store.scores_among([record.id for record in records])
        scores = {run: own[query.metric] for run, own in known.items() if query.metric in own}
    note = "" if records else note or _why_none(store, query.wanted.project)
    return FoundRuns(tuple(records), query.metric, scores, note)


def _asked(store: Reader, query: RunQuery, limit: int) -> list[RunRecord]:
    if query.metric is None:
        return store.list_runs(query.wanted, limit=limit, newest=query.descending)
    return store.best_runs(query.wanted, query.metric, limit=limit, highest=query.descending)


def _filtered(store: Reader, query: RunQuery) -> tuple[list[RunRecord], str]:
    """Return the runs of which the condition holds, and why there are none; more are looked at until they are enough."""
    from mlfn.handles.run_filter import Where

    where, limit, seen = Where(str(query.where)), max(_FIRST_LOOK, query.limit), 0
    found: list[RunRecord] = []
    while True:
        records = _asked(store, query, limit)
        found += where.matching(store, records[seen:])
        if len(found) >= query.limit or len(records) < limit:
            return found[: query.limit], where.why_none()
        limit, seen = 4 * limit, len(records)


def find_run(store: Reader, named: str) -> RunRecord:
    """Return the run that a text names: by its id or the first digits of it, as the ``last`` one, or by its function or sweep.

    Of several runs of a function or name, the newest one. A name goes before fewer digits of an id than a listing shows.
    """
    is_id = bool(_DIGITS.fullmatch(named))
    if is_id and len(named) >= _SHOWN_DIGITS:
        with contextlib.suppress(NotFoundError):
            return store.resolve_run(named)
    wanted = RunFilter(name=None if named == "last" else named, top_level=True)
    found = store.list_runs(wanted, limit=1) if named else []
    sweeps = (store.find_sweep(project, named) for project in store.projects()) if named != "last" else ()
    found += [store.get_run(sweep) for sweep in sweeps if sweep is not None]
    if found:
        return max(found, key=lambda record: record.seq)
    if is_id:
        return store.resolve_run(named)
    known = {record.name for record in store.list_runs(RunFilter(top_level=True), limit=_MOST_NAMES)}
    raise NotFoundError(
        f"There is no run {named!r}: {meant(named, [*known, 'last'])}Allowed: a run's id or its first digits, the name of a function or "
        "a sweep for the newest run of it, or 'last'. `mlfn runs` lists the runs."
    )


def _labels(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if isinstance(given, Mapping) and all(isinstance(text, str) for pair in given.items() for text in pair):
        return {readable(key): readable(value) for key, value in given.items()}
    raise ParameterError(f"runs(label={given!r}): a mapping of texts is allowed, as in label={{'team': 'risk'}}.")


def _states(state: Any) -> tuple[str, ...]:
    given = list(state) if isinstance(state, Iterable) and not isinstance(state, str) else [state]
    states = [item for item in given if item is not None]
    allowed = [str(item) for item in RunState]
    for item in states:
        if str(item) not in allowed:
            raise ParameterError(f"runs(state={item!r}): {nearest(str(item), allowed)}")
    return tuple(map(str, states))


def _since(since: Any) -> float | None:
    if since is None or (isinstance(since, (int, float)) and not isinstance(since, bool)):
        return since
    if isinstance(since, datetime):
        return since.timestamp()
    if isinstance(since, str) and re.fullmatch(r"\s*[\d.]+\s*[smhd]\s*", since):
        from mlfn.spec.values import parse_seconds

        return now() - parse_seconds(since, option="since")
    try:
        return datetime.fromisoformat(str(since)).timestamp()
    except (TypeError, ValueError):
        raise ParameterError(
            f"runs(since={since!r}): a text such as '2h', '7d' or '2026-03-01 12:30', a datetime, or seconds since the "
            "epoch, is allowed."
        ) from None


def _why_none(store: Queries, project: str | None) -> str:
    """Return which projects there are, where none is called `project`."""
    known = [] if project is None else store.projects()
    if project is None or project in known:
        return ""
    if not known:
        return f"no project is called {project!r}, and none has a run yet."
    near = meant(project, known)
    first = sorted(known, key=lambda name: repr(name) not in near)
    shown = ", ".join(first[:_MOST_PROJECTS]) + (", ..." if len(first) > _MOST_PROJECTS else "")
    return f"no project is called {project!r}{': ' + near if near else '. '}There are: {shown}."
