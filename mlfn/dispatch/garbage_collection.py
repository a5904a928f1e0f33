"""Garbage collection in the data folder: find what no run claims, then remove it.

Claimed is: every file of a run that the store knows, and what such a run took over as a parameter from another; every
payload that a stored plan refers to; the folder of every worker that the store knows. A worker that lives while the store
has forgotten it keeps its folder young by its beat. Files with other names are left alone, and links are never followed.
Of an artifact root that was chosen (``artifacts=``), what lies below the data folder's own folder there counts, and no more:
others may keep theirs beside it. Environments of ``requirements=`` can be built again: they go when nothing runs in them and none has been used for long, or
on request.

A payload is written before its plan is stored, a parameter's artifact before its run is, a worker's folder before the
worker is registered. So the disk is listed first and the store asked after, and what is younger than an hour stays,
whatever the store says. A folder belongs to one store; where another has left its ``mlfn.db`` there, that counts too.

A row that cannot be read may claim anything: while there is one, no artifacts go, or payloads where it is a plan's.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from mlfn.artifacts.store import ArtifactStore
from mlfn.dispatch.claims import Claims, all_runs, claims_of, is_claimed, needed_by
from mlfn.dispatch.garbage import JUST_USED, UNUSED_GRACE, Garbage, is_removed, listed, listed_environments, objects
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord
from mlfn.store.commands import Store
from mlfn.store.queries import RunFilter
from mlfn.store.rows import Fault, Unreadable
from mlfn.store.sweeps import Reader

_PAGE = 1000


@frozen
class Wanted:
    """Which terminal runs are to go, too: all that is set must hold of a run and of those below it, as of one that runs all of them."""

    older_than: float | None = None
    """Seconds since each has ended."""
    larger_than: int | None = None
    """Bytes that their files take together."""
    name: str | None = None
    """Of the function of the topmost."""


def find_garbage(
    stores: Iterable[Reader],
    folder: Path,
    *,
    now: float,
    artifacts: ArtifactStore | None = None,
    wanted: Wanted | None = None,
    all_environments: bool = False,
) -> list[Garbage]:
    """Return what can go, runs first; terminal runs that are `wanted` and their files, too.

    With `all_environments`, environments that were used lately go as well.

    The first of `stores` is the one whose runs are looked at.
    """
    every = list(stores)
    unused = JUST_USED if all_environments else UNUSED_GRACE
    found = [
        *listed(folder, now),
        *(objects(artifacts, now) if artifacts is not None else ()),
        *listed_environments(folder, now, unused),
    ]  # before the store is asked: what is claimed meanwhile is seen to be claimed
    chosen = _chosen_runs(every[0], wanted, found, now) if wanted is not None else {}
    claims = claims_of(every, folder, found, without=chosen.keys())
    removed = [Garbage("run", run, 0, run=run, age=now - (record.ended or 0.0)) for run, record in chosen.items()]
    files = [item for item in found if _may_go(item, claims, chosen)]
    whole = {item.run for item in files if item.kind == "artifacts"}
    return removed + [item for item in files if item.kind != "temporary" or item.run not in whole]


@frozen
class Broken:
    """A run of which something cannot be read, and what goes with it."""

    run: str
    faults: tuple[Fault, ...]
    parts: tuple[str, ...]
    """The runs that its handler opened by ``ctx.child``."""
    orphans: int
    """How many other children it has: they stay."""
    found: tuple[Garbage, ...]
    """Rows and files."""


def find_broken(
    store: Reader,
    folder: Path,
    run: str,
    *,
    others: Iterable[Reader],
    now: float,
    artifacts: ArtifactStore | None = None,
) -> Broken:
    """Return what goes with a run that cannot be read; files that another run uses are not among it."""
    parts = tuple(store.parts_of(run))
    own = (run, *parts)
    every = [*listed(folder, now), *(objects(artifacts, now) if artifacts is not None else ())]
    owned = [item for item in every if item.run in own and item.kind in ("artifacts", "objects", "log")]
    claims = claims_of([store, *others], folder, every, without=own)
    files = [item for item in owned if not is_claimed(item, claims)]
    rows = [Garbage("run", one, 0, run=one) for one in own]
    orphans = store.count_runs(RunFilter(parent=run, without_parts=True))
    return Broken(run, tuple(store.faults_of(run)), parts, orphans, (*rows, *files))


def remove_broken(
    store: Store, folder: Path, broken: Broken, *, now: float, artifacts: ArtifactStore | None = None
) -> list[Garbage]:
    """Remove what `find_broken` found, the rows first; return what is gone."""
    store.remove_unreadable(broken.run, with_parts=broken.parts)
    gone = {broken.run, *broken.parts} - store.known_runs([broken.run, *broken.parts])
    return [item for item in broken.found if item.run in gone and is_removed(folder, artifacts, item, now, gone)]


def remove_garbage(
    store: Store, folder: Path, found: Iterable[Garbage], *, now: float, artifacts: ArtifactStore | None = None
) -> list[Garbage]:
    """Remove what `find_garbage` found, runs from the store before their files; return what is gone."""
    items = list(found)
    ended = [item.name for item in items if item.kind == "run"]
    for start in range(0, len(ended), _PAGE):
        store.remove_runs(ended[start : start + _PAGE])
    survivors = store.known_runs(ended)
    return [
        item for item in items if item.run not in survivors and is_removed(folder, artifacts, item, now, set(ended))
    ]


def _may_go(item: Garbage, claims: Claims, chosen: Mapping[str, RunRecord]) -> bool:
    ended = item.kind != "temporary" and item.run in chosen
    return not is_claimed(item, claims) and (ended or item.age >= item.patience)


def _chosen_runs(store: Reader, wanted: Wanted, found: Iterable[Garbage], now: float) -> dict[str, RunRecord]:
    """Return terminal runs that are wanted, less those that a run which stays refers to."""
    chosen: dict[str, RunRecord] = {}
    needs: dict[str, set[str]] = {}
    parents: dict[str, str] = {}
    names: dict[str, str] = {}
    for record in all_runs(store):
        if isinstance(record, Unreadable):  # it stays, and so does all that it may mean
            needs.setdefault(record.id, set()).update(record.mentioned())
            continue
        names[record.id] = record.name
        needs.setdefault(record.id, set()).update(needed_by(store, record))
        if record.parent is not None:  # a sweep and its children stay together
            parents[record.id] = record.parent
            needs[record.id].add(record.parent)
            needs.setdefault(record.parent, set()).add(record.id)
        if record.state.is_terminal and record.ended is not None:
            chosen[record.id] = record
    top = {run: _topmost(run, parents, names) for run in names}
    sizes: dict[str, int] = {}
    for item in found:
        if item.kind != "temporary" and item.run in top:
            sizes[top[item.run]] = sizes.get(top[item.run], 0) + item.size
    tagged = {row.run for row in store.tags()}
    for run, record in list(chosen.items()):
        is_young = wanted.older_than is not None and (record.ended or now) >= now - wanted.older_than
        is_small = wanted.larger_than is not None and sizes.get(top[run], 0) <= wanted.larger_than
        if is_young or is_small or run in tagged or wanted.name not in (None, names[top[run]]):
            del chosen[run]
    staying = [run for run in needs if run not in chosen]
    while staying:
        staying += [needed for needed in needs.get(staying.pop(), ()) if chosen.pop(needed, None) is not None]
    return chosen


def _topmost(run: str, parents: Mapping[str, str], known: Container[str]) -> str:
    while (parent := parents.get(run)) is not None and parent in known:
        run = parent
    return run
