"""What lies in a data folder, and at an artifact root that was chosen, under names that mlfn gives; and how it is removed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mlfn.artifacts.content import Linked, linked
from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.local import environments
from mlfn.errors import StorageError
from mlfn.host.frozen import frozen

logger = logging.getLogger(__name__)
GRACE = 3600.0
"""Seconds for which a file without a claim is left alone: it may be about to get one."""
TEMPORARY_GRACE = 86400.0
"""Seconds after which the writer of a temporary file is taken for dead."""
UNUSED_GRACE = 30 * 86400.0
"""Seconds without use after which an environment goes; on request, `JUST_USED` is enough."""
JUST_USED = 3 * environments.NOTED_EVERY


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
    """Bytes that it takes, all files of a folder together; 0 of a run, whose files are listed by themselves. `freed_by` counts
    what several share."""
    run: str | None = None
    """The run that it belonged to."""
    age: float = 0.0
    """Seconds since anything in it was written; since its last use, for an environment."""
    patience: float = GRACE
    """The age from which on it can go."""
    linked: tuple[Linked, ...] = ()
    """Of what is artifacts: the files that have other names too."""


def freed_by(items: Iterable[Garbage]) -> int:
    """Return the bytes that removing all of these frees: a file goes with the last of its names."""
    found = list(items)
    names: dict[Linked, int] = {}
    for item in found:
        for file in item.linked:
            names[file] = names.get(file, 0) + 1
    kept = sum(file.size * (count - (count == file.links)) for file, count in names.items())
    return sum(item.size for item in found) - kept


# Listing
# ----------------------------------------------------------------------------------------------------------------------


def listed(folder: Path, now: float) -> Iterator[Garbage]:
    """Yield everything with a name that mlfn gives: garbage, unless something claims it."""
    for entry in _folders(folder / "artifacts", _ID):
        yield _artifacts(folder, entry.path, now, run=entry.name)
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


def objects(artifacts: ArtifactStore, now: float) -> Iterator[Garbage]:
    """Yield what this data folder has put under a chosen artifact root, run by run."""
    for found in artifacts.runs():
        if _ID.fullmatch(found.run):
            age = now - found.written if found.written is not None else 0.0  # what tells no time counts as young
            where = artifacts.folder_of(found.run)
            yield Garbage("objects", where, found.size, run=found.run, age=age, linked=found.linked)


def files_of(runs: Collection[str], folder: Path, now: float, artifacts: ArtifactStore) -> Iterator[Garbage]:
    """Yield the artifacts and logs of some runs."""
    for run in runs:
        if (path := folder / "artifacts" / run).is_dir():
            yield _artifacts(folder, str(path), now, run=run)
        for entry in _files(folder / "logs" / run[:2], _LOG):
            if entry.name.startswith(f"{run}-"):
                yield _garbage("log", folder, entry.path, now, run=run)
    yield from (item for item in objects(artifacts, now) if item.run in runs)


def listed_environments(folder: Path, now: float, unused: float) -> Iterator[Garbage]:
    """Yield environments, which can go where none has used them for `unused` seconds, and remains of others."""
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


def _artifacts(folder: Path, path: str, now: float, *, run: str) -> Garbage:
    found = _garbage("artifacts", folder, path, now, run=run)
    inner = (Path(entry.path) for key in _entries(Path(path)) for entry in _entries(Path(key.path)))
    return replace(found, linked=linked(inner))


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


# Removal
# ----------------------------------------------------------------------------------------------------------------------


def is_removed(folder: Path, artifacts: ArtifactStore | None, item: Garbage, now: float, ended: set[str]) -> bool:
    """Remove it and return whether it is gone: what came into use since it was listed stays, but for what was of `ended` runs."""
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


def _last_touched(kind: str, path: Path) -> float:
    used = environments.last_use(path) if kind == "environment" else None
    return used if used is not None else _weighed(path)[1]
