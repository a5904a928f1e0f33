"""Garbage collection at an engine: what dead clients left there that no run of the store claims.

Claimed is the execution of every run that has not ended, and every one that a living client has stored. Of what the store
does not know, only that counts which a client of this data folder created: others may have theirs beside it. The engine is
asked first and the store after, and what is younger than an hour stays: an execution is stored before it is created.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from mlfn.artifacts.home import home_of
from mlfn.backends.places.base import Remains
from mlfn.backends.registry import capabilities, engine_class
from mlfn.dispatch.garbage import GRACE
from mlfn.errors import MlfnError
from mlfn.host.frozen import frozen
from mlfn.store.commands import Store
from mlfn.store.queries import ExecutionRow
from mlfn.store.sweeps import Reader

logger = logging.getLogger(__name__)


@frozen
class Left:
    """Something that can go, and where it lies: the place and what that connects to, as JSON."""

    found: Remains
    place: str
    target: str


def find_left(place: str, stores: Iterable[Reader], folder: Path, *, lives: Callable[[str | None], bool]) -> list[Left]:
    """Return what can go at a place, wherever the runs of the first store went there; `lives` says whether a client does.

    Raises MlfnError where the place cannot be asked.
    """
    if not capabilities(place).outlives_client:
        return []
    every = list(stores)
    targets = {"", *(row.target for store in every for row in store.executions() if _is_at(row, place))}
    there = [
        Left(found, place, target)
        for target in sorted(targets)
        for found in engine_class(place).remains(**json.loads(target or "{}"))
    ]
    known, claimed = _claims(every, lives)
    home = home_of(folder)
    free: dict[str, Left] = {}
    for left in there:
        found = left.found
        is_ours = found.execution is None or found.execution in known or found.home == home
        if is_ours and found.execution not in claimed and found.age >= GRACE:
            free.setdefault(found.name, left)
    return list(free.values())


def remove_left(store: Store, left: Iterable[Left]) -> list[Left]:
    """Remove what `find_left` found, and what the store knows of it; return what is gone."""
    gone = []
    for item in left:
        try:
            engine_class(item.place).remove(item.found, **json.loads(item.target or "{}"))
        except MlfnError as error:  # the next cleaning up sees it again
            logger.warning("%s", error)
            continue
        if item.found.execution is not None:
            store.remove_execution(item.found.execution)
        gone.append(item)
    return gone


def _is_at(row: ExecutionRow, place: str) -> bool:
    """Return whether an execution is at a place, or at an engine that is one of its kind."""
    try:
        return issubclass(engine_class(row.place), engine_class(place))
    except MlfnError:  # its package is not installed here
        return False


def _claims(stores: Iterable[Reader], lives: Callable[[str | None], bool]) -> tuple[set[str], set[str]]:
    """Return the executions that stores know, and those of them that must stay; a row that cannot be read may be any."""
    known: set[str] = set()
    claimed: set[str] = set()
    for store in stores:
        known |= store.execution_ids()
        rows = {row.id: row.client for row in store.executions()}
        claimed |= store.execution_ids() - rows.keys()
        claimed |= {execution for execution, client in rows.items() if lives(client)}
        for client in set(rows.values()):
            claimed |= {record.execution for record in store.unfinished(client) if record.execution is not None}
    return known, claimed
