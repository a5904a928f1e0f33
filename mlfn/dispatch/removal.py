"""Removal of runs that a user names, with the runs below them.

A run goes whole: a sweep with its children, a run with those that its handler has submitted or opened. What a run that stays
or a tagged version needs is refused. Rows go first, all of them at once, and files after them: where the process ends in
between, nothing that is stored lacks a file, and garbage collection finds those that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mlfn.artifacts.store import ArtifactStore
from mlfn.dispatch.claims import all_runs, claims_of, is_claimed, used_by
from mlfn.dispatch.garbage import Garbage, files_of, is_removed
from mlfn.errors import ParameterError
from mlfn.host import failpoints
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord
from mlfn.store.commands import Store
from mlfn.store.rows import Unreadable
from mlfn.store.sweeps import Reader


@frozen
class Removal:
    """What goes with the runs that were named."""

    runs: tuple[RunRecord, ...]
    """Those that were named, each once."""
    below: int
    """How many more go, as they are below one of these."""
    found: tuple[Garbage, ...]
    """Rows and files."""


@frozen
class _Stored:
    """What the runs of a store say of one another."""

    parents: dict[str, str | None]
    children: dict[str, list[str]]
    needs: dict[str, set[str]]
    unfinished: set[str]
    unreadable: set[str]

    @classmethod
    def read(cls, store: Reader) -> _Stored:
        made = cls({}, {}, {}, set(), set())
        for record in all_runs(store):
            if isinstance(record, Unreadable):
                made.unreadable.add(record.id)
                made.needs[record.id] = record.mentioned()
                continue
            made.parents[record.id] = record.parent
            if record.parent is not None:
                made.children.setdefault(record.parent, []).append(record.id)
            if needed := set(used_by(store, record)):
                made.needs[record.id] = needed
            if not record.state.is_terminal:
                made.unfinished.add(record.id)
        return made

    def with_those_below(self, runs: Iterable[str]) -> list[str]:
        found = list(dict.fromkeys(runs))
        seen = set(found)
        for run in found:  # it grows meanwhile
            below = [child for child in self.children.get(run, ()) if child not in seen]
            found += below
            seen.update(below)
        return found

    def topmost(self, run: str) -> str:
        while (parent := self.parents.get(run)) is not None and parent in self.parents:
            run = parent
        return run


def find_removal(
    store: Reader, folder: Path, runs: Iterable[RunRecord], *, now: float, artifacts: ArtifactStore
) -> Removal:
    """Return what goes with these runs.

    Raises ParameterError for one that has not ended, is part of a run that stays, or is needed by one or by a tagged version.
    """
    named = {record.id: record for record in runs}
    stored = _Stored.read(store)
    own = stored.with_those_below(named)
    _refuse_unfinished(store, stored, own)
    _refuse_parts(stored, named, own)
    _refuse_needed(store, stored, own)
    rows = [Garbage("run", run, 0, run=run) for run in own]
    return Removal(tuple(named.values()), len(own) - len(named), (*rows, *files_of(set(own), folder, now, artifacts)))


def remove_found(
    store: Store, folder: Path, removal: Removal, *, others: Iterable[Reader], now: float, artifacts: ArtifactStore
) -> list[Garbage]:
    """Remove what `find_removal` found; return what is gone. Files that a run uses by now stay."""
    own = [item.name for item in removal.found if item.kind == "run"]
    store.remove_runs(own)
    failpoints.pass_each(["removal.rows"])
    gone = set(own) - store.known_runs(own)
    claims = claims_of([store, *others], folder, removal.found, without=())
    removed = []
    for item in removal.found:
        if item.run not in gone or is_claimed(item, claims):
            continue
        if is_removed(folder, artifacts, item, now, gone):
            removed.append(item)
        failpoints.pass_each(["removal.item"])
    return removed


def _refuse_unfinished(store: Reader, stored: _Stored, own: Sequence[str]) -> None:
    for run in own:
        if run in stored.unfinished:
            record = store.get_run(run)
            raise ParameterError(
                f"{record.name} ({run[:8]}) is {record.state}, and only what has ended is removed: `mlfn cancel {run[:8]}` ends it."
            )


def _refuse_parts(stored: _Stored, named: dict[str, RunRecord], own: Sequence[str]) -> None:
    for run, record in named.items():
        if record.parent in stored.parents and record.parent not in own:
            top = stored.topmost(run)[:8]
            raise ParameterError(
                f"{record.name} ({run[:8]}) is below run {record.parent[:8]} and goes with it: `mlfn rm {top}` removes the whole."
            )


def _refuse_needed(store: Reader, stored: _Stored, own: Sequence[str]) -> None:
    going = set(own)
    for row in store.tags():
        if row.run in going:
            raise ParameterError(
                f"{row.name}:{row.tag} was promoted from run {row.run[:8]}; promote another run under that tag first."
            )
    for user, needed in stored.needs.items():
        if user in going or not (found := needed & going):
            continue
        run = min(found)
        if user in stored.unreadable:
            raise ParameterError(
                f"Run {run[:8]} may be needed by run {user[:8]}, which cannot be read; `mlfn gc --broken {user}` removes that one."
            )
        top, whole = stored.topmost(user)[:8], stored.topmost(run)[:8]
        raise ParameterError(
            f"{store.get_run(run).name} ({run[:8]}) is needed by {store.get_run(user).name} ({user[:8]}), which has a value of it; "
            f"`mlfn rm {top} {whole}` removes both."
        )
