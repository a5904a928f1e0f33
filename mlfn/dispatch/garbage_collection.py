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

import contextlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from mlfn.artifacts.nested import leaves
from mlfn.artifacts.store import ArtifactStore, run_of
from mlfn.backends.places.local import environments
from mlfn.dispatch.dependencies import parents_of
from mlfn.errors import StorageError
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord
from mlfn.store.commands import Store
from mlfn.store.queries import Queries, RunFilter
from mlfn.store.rows import Fault, Unreadable, warn_skipped

logger = logging.getLogger(__name__)
GRACE = 3600.0
"""Seconds for which a file without a claim is left alone: it may be about to get one."""
TEMPORARY_GRACE = 86400.0
"""Seconds after which the writer of a temporary file is taken for dead."""
UNUSED_GRACE = 30 * 86400.0
"""Seconds without use after which an environment goes; on request, `JUST_USED` is enough."""
JUST_USED = 3 * environments.NOTED_EVERY

_PAGE = 1000
_ID = re.compile(r"[0-9a-f]{32}")
_SHELF = re.compile(r"[0-9a-f]{2}")
_LOG = re.compile(r"[0-9a-f]{32}-\d+\.log")
_PAYLOAD = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\..+\.tmp|\.[0-9a-f]{64}\.[0-9a-f]{8}")


@frozen
class Garbage:
    """One file, folder or run that can go."""

    kind: str
    """``"run"``, ``"artifacts"``, ``"objects"`` (a run's artifacts at a chosen root), ``"log"``, ``"payload"``, ``"worker"``, ``"environment"`` or
    ``"temporary"``."""
    name: str
    """The path below the data folder; of a run, its id; of objects, where they lie."""
    size: int
    """Bytes that it takes, all files of a folder together; 0 of a run, whose files are listed by themselves."""
    run: str | None = None
    """The run that it belonged to."""
    age: float = 0.0
    """Seconds since anything in it was written; since its last use, for an environment."""
    patience: float = GRACE
    """The age from which on it can go."""


Claims = Mapping[str, AbstractSet[str]]
"""What must stay, by kind of garbage: ids of runs for artifacts and logs, names of files and folders for the others."""


def find_garbage(
    stores: Iterable[Queries],
    folder: Path,
    *,
    now: float,
    artifacts: ArtifactStore | None = None,
    older_than: float | None = None,
    all_environments: bool = False,
) -> list[Garbage]:
    """Return what can go, runs first; with `older_than`, runs that ended so many seconds ago and their files, too.

    With `all_environments`, environments that were used lately go as well.

    The first of `stores` is the one whose old runs are looked at.
    """
    every = list(stores)
    unused = JUST_USED if all_environments else UNUSED_GRACE
    found = [
        *_listed(folder, now),
        *(_objects(artifacts, now) if artifacts is not None else ()),
        *_environments(folder, now, unused),
    ]  # before the store is asked: what is claimed meanwhile is seen to be claimed
    old = _old_runs(every[0], now - older_than) if older_than is not None else {}
    claims = _claims(every, folder, found, without=old.keys())
    removed = [Garbage("run", run, 0, run=run, age=now - (record.ended or 0.0)) for run, record in old.items()]
    files = [item for item in found if _may_go(item, claims, old)]
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
    store: Queries,
    folder: Path,
    run: str,
    *,
    others: Iterable[Queries],
    now: float,
    artifacts: ArtifactStore | None = None,
) -> Broken:
    """Return what goes with a run that cannot be read; files that another run uses are not among it."""
    parts = tuple(store.parts_of(run))
    own = (run, *parts)
    every = [*_listed(folder, now), *(_objects(artifacts, now) if artifacts is not None else ())]
    listed = [item for item in every if item.run in own and item.kind in ("artifacts", "objects", "log")]
    claims = _claims([store, *others], folder, every, without=own)
    files = [item for item in listed if not _is_claimed(item, claims)]
    rows = [Garbage("run", one, 0, run=one) for one in own]
    orphans = store.count_runs(RunFilter(parent=run, without_parts=True))
    return Broken(run, tuple(store.faults_of(run)), parts, orphans, (*rows, *files))


def remove_broken(
    store: Store, folder: Path, broken: Broken, *, now: float, artifacts: ArtifactStore | None = None
) -> list[Garbage]:
    """Remove what `find_broken` found, the rows first; return what is gone."""
    store.remove_unreadable(broken.run, with_parts=broken.parts)
    gone = {broken.run, *broken.parts} - store.known_runs([broken.run, *broken.parts])
    return [item for item in broken.found if item.run in gone and _removed(folder, artifacts, item, now, gone)]


def remove_garbage(
    store: Store, folder: Path, found: Iterable[Garbage], *, now: float, artifacts: ArtifactStore | None = None
) -> list[Garbage]:
    """Remove what `find_garbage` found, runs from the store before their files; return what is gone."""
    items = list(found)
    ended = [item.name for item in items if item.kind == "run"]
    for start in range(0, len(ended), _PAGE):
        store.remove_runs(ended[start : start + _PAGE])
    survivors = store.known_runs(ended)
    return [item for item in items if item.run not in survivors and _removed(folder, artifacts, item, now, set(ended))]


def _removed(folder: Path, artifacts: ArtifactStore | None, item: Garbage, now: float, ended: set[str]) -> bool:
    if item.kind == "run":
        return True
    if item.kind == "objects" and artifacts is not None:
        return _removed_objects(artifacts, item)
    path = folder / item.name
    try:
        age = now - _last_touched(item.kind, path)
        if age < item.patience and (item.run is None or item.run not in ended):
            return False  # it is in use again
        if item.kind == "environment":
            environments.remove(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:  # gone already, or not ours to remove: the next cleaning up sees it again
        return not os.path.lexists(path)
    return True


def _removed_objects(artifacts: ArtifactStore, item: Garbage) -> bool:
    try:
        artifacts.remove(str(item.run))
    except StorageError as error:  # the next cleaning up sees them again
        logger.warning("%s", error)
        return False
    return True


def _may_go(item: Garbage, claims: Claims, old: Mapping[str, RunRecord]) -> bool:
    ended = item.kind != "temporary" and item.run in old
    return not _is_claimed(item, claims) and (ended or item.age >= item.patience)


def _is_claimed(item: Garbage, claims: Claims) -> bool:
    return (item.run or Path(item.name).name) in claims.get(item.kind, ())


def _last_touched(kind: str, path: Path) -> float:
    used = environments.last_use(path) if kind == "environment" else None
    return used if used is not None else _weighed(path)[1]


# Candidates
# ----------------------------------------------------------------------------------------------------------------------


def _listed(folder: Path, now: float) -> Iterator[Garbage]:
    """Yield everything with a name that mlfn gives: garbage, unless something claims it."""
    for entry in _folders(folder / "artifacts", _ID):
        yield _garbage("artifacts", folder, entry.path, now, run=entry.name)
        for path in _temporaries(Path(entry.path)):
            yield _garbage("temporary", folder, path, now, run=entry.name)
    for shelf in _folders(folder / "logs", _SHELF):
        for entry in _files(Path(shelf.path), _LOG):
            if entry.name.startswith(shelf.name):
                yield _garbage("log", folder, entry.path, now, run=entry.name.partition("-")[0])
    for entry in _files(folder / "payloads", _PAYLOAD):
        yield _garbage("payload", folder, entry.path, now)
    for entry in _files(folder / "payloads", _TEMPORARY):
        yield _garbage("temporary", folder, entry.path, now)
    for entry in _folders(folder / "workers", _ID):
        yield _garbage("worker", folder, entry.path, now)


def _objects(artifacts: ArtifactStore, now: float) -> Iterator[Garbage]:
    for found in artifacts.runs():
        if _ID.fullmatch(found.run):
            age = now - found.written if found.written is not None else 0.0  # what tells no time counts as young
            yield Garbage("objects", artifacts.folder_of(found.run), found.size, run=found.run, age=age)


def _environments(folder: Path, now: float, unused: float) -> Iterator[Garbage]:
    home = folder / "environments"
    for entry in _folders(home, environments.NAME):
        path = Path(entry.path)
        used = environments.last_use(path)
        found = _garbage("environment", folder, entry.path, now)
        # One that is not complete is being built, or was when its builder died: as old as its newest file.
        yield found if used is None else replace(found, age=now - used, patience=unused)
    for entry in [*_folders(home, environments.REMAINS), *_files(home, environments.REMAINS)]:
        yield _garbage("temporary", folder, entry.path, now)


def _folders(folder: Path, names: re.Pattern[str]) -> list[os.DirEntry[str]]:
    return [e for e in _entries(folder) if names.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]


def _files(folder: Path, names: re.Pattern[str]) -> list[os.DirEntry[str]]:
    return [e for e in _entries(folder) if names.fullmatch(e.name) and e.is_file(follow_symlinks=False)]


def _temporaries(folder: Path) -> Iterator[str]:
    """Yield temporary files and folders of a run's artifacts: they lie beside the contents, no deeper."""
    for key in _entries(folder):
        if key.is_dir(follow_symlinks=False):
            yield from (entry.path for entry in _entries(Path(key.path)) if _TEMPORARY.fullmatch(entry.name))


def _garbage(kind: str, folder: Path, path: str, now: float, *, run: str | None = None) -> Garbage:
    size, newest = _weighed(Path(path))
    patience = TEMPORARY_GRACE if kind == "temporary" else GRACE
    return Garbage(kind, os.path.relpath(path, folder), size, run=run, age=now - newest, patience=patience)


def _weighed(path: Path) -> tuple[int, float]:
    """Return the size of a file or of all in a folder, and when the newest of it was written."""
    info = path.lstat()
    size, newest = info.st_size, info.st_mtime
    if stat.S_ISDIR(info.st_mode):
        size = 0
        for entry in _entries(path):
            with contextlib.suppress(OSError):
                inner, moment = _weighed(Path(entry.path))
                size, newest = size + inner, max(newest, moment)
    return size, newest


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


# Claims
# ----------------------------------------------------------------------------------------------------------------------


def _claims(stores: Iterable[Queries], folder: Path, found: Iterable[Garbage], *, without: Iterable[str]) -> Claims:
    runs: set[str] = set()
    artifacts: set[str] = set()
    payloads: set[str] = set()
    workers: set[str] = set()
    gone = frozenset(without)
    for store in stores:
        for record in _all_runs(store):
            if record.id in gone:
                continue
            runs.add(record.id)
            if isinstance(record, Unreadable):
                warn_skipped(record.fault)
                artifacts.update(str(item.run) for item in found if item.kind in ("artifacts", "objects"))
            else:
                artifacts.update(_used(record))
        known = store.payload_digests()
        payloads |= {entry.name for entry in _files(folder / "payloads", _PAYLOAD)} if known is None else known
        workers.update(store.execution_ids())
    return {
        "log": runs,
        "artifacts": artifacts | runs,
        "objects": artifacts | runs,
        "payload": payloads,
        "worker": workers,
        "environment": set(environments.names_in_use(folder / "environments")),
    }


def _all_runs(store: Queries) -> Iterator[RunRecord | Unreadable]:
    before: int | None = None
    while True:
        page, before = store.page(before=before, limit=_PAGE)
        if not page:
            return
        yield from page


def _used(record: RunRecord) -> Iterator[str]:
    """Yield the runs whose artifacts are parameters of this one, or its outputs."""
    yield from _needed(record)
    for value in record.params.values():
        for leaf in leaves(value):
            if isinstance(path := leaf.get("path"), str):
                yield run_of(path)


def _needed(record: RunRecord) -> list[str]:
    """Return the runs that this one refers to as upstream runs, or as the one whose outcome it reuses."""
    return [*parents_of(record.params), *([record.reused] if record.reused else [])]


def _old_runs(store: Queries, limit: float) -> dict[str, RunRecord]:
    """Return terminal runs that ended before `limit`, less those that a run which stays refers to."""
    old: dict[str, RunRecord] = {}
    needs: dict[str, set[str]] = {}
    for record in _all_runs(store):
        if isinstance(record, Unreadable):  # it stays, and so does all that it may mean
            needs.setdefault(record.id, set()).update(record.mentioned())
            continue
        needs.setdefault(record.id, set()).update(_needed(record))
        if record.parent is not None:  # a sweep and its children stay together
            needs[record.id].add(record.parent)
            needs.setdefault(record.parent, set()).add(record.id)
        if record.state.is_terminal and record.ended is not None and record.ended < limit:
            old[record.id] = record
    tagged = {row.run for row in store.tags()}
    staying = [run for run in needs if run not in old or run in tagged]
    for run in tagged:
        old.pop(run, None)
    while staying:
        staying += [needed for needed in needs.get(staying.pop(), ()) if old.pop(needed, None) is not None]
    return old
