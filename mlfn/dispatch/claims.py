"""What of a data folder must stay: what runs, plans and workers in a store refer to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from mlfn.artifacts.nested import leaves, parents_of
from mlfn.artifacts.store import run_of
from mlfn.backends.places.local import environments
from mlfn.dispatch.garbage import Garbage
from mlfn.errors import NotFoundError, StoreCorruptError
from mlfn.spec.record import RunRecord
from mlfn.store.rows import Unreadable, ids_in, warn_skipped
from mlfn.store.sweeps import Reader

_PAGE = 1000

Claims = Mapping[str, AbstractSet[str]]
"""What must stay, by kind of garbage: ids of runs for artifacts and logs, names of files and folders for the others."""


def claims_of(stores: Iterable[Reader], folder: Path, found: Iterable[Garbage], *, without: Iterable[str]) -> Claims:
    """Return what the runs of these stores claim, but for those `without`; a row that cannot be read may claim all that was found."""
    runs: set[str] = set()
    artifacts: set[str] = set()
    payloads: set[str] = set()
    workers: set[str] = set()
    gone = frozenset(without)
    for store in stores:
        for record in all_runs(store):
            if record.id in gone:
                continue
            runs.add(record.id)
            if isinstance(record, Unreadable):
                warn_skipped(record.fault)
                artifacts.update(str(item.run) for item in found if item.kind in ("artifacts", "objects"))
            else:
                artifacts.update(used_by(store, record))
        known = store.payload_digests()
        payloads |= {Path(item.name).name for item in found} if known is None else known
        workers.update(store.execution_ids())
    return {
        "log": runs,
        "artifacts": artifacts | runs,
        "objects": artifacts | runs,
        "payload": payloads,
        "worker": workers,
        "environment": set(environments.names_in_use(folder / "environments")),
    }


def all_runs(store: Reader) -> Iterator[RunRecord | Unreadable]:
    """Yield every run, newest first."""
    before: int | None = None
    while True:
        page, before = store.page(before=before, limit=_PAGE)
        if not page:
            return
        yield from page


def used_by(store: Reader, record: RunRecord) -> Iterator[str]:
    """Yield the runs whose artifacts a run needs."""
    yield from needed_by(store, record)
    for value in record.params.values():
        for leaf in leaves(value):
            if isinstance(path := leaf.get("path"), str):
                yield run_of(path)


def needed_by(store: Reader, record: RunRecord) -> Iterator[str]:
    """Yield the runs that a run refers to: as upstream runs, or as the one whose outcome it reuses.

    A sweep that is not over may yet make children of all that its description mentions.
    """
    yield from parents_of(record.params)
    if record.reused:
        yield record.reused
    if record.sweep and not record.state.is_terminal:
        with suppress(NotFoundError, StoreCorruptError):
            yield from ids_in(json.dumps(store.get_sweep_body(record.id))) - {record.id}


def is_claimed(item: Garbage, claims: Claims) -> bool:
    """Return whether something must stay."""
    return (item.run or Path(item.name).name) in claims.get(item.kind, ())
