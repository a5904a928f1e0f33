"""What takes room, as `mlfn doctor` says it: the store, each part of the data folder, a chosen root of artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.errors import MlfnError
from mlfn.host.disk import Room, files_below, room_of
from mlfn.host.frozen import frozen
from mlfn.settings.sources import without_password
from mlfn.store.sweeps import Reader
from mlfn.ui.cli.printing import write_table
from mlfn.ui.text import Column, Way
from mlfn.ui.wording import amount, from_home

_PARTS = ("artifacts", "payloads", "logs", "environments", "workers")


@frozen
class Part:
    """One user of room, and where it lies."""

    name: str
    room: Room
    where: str

    def document(self) -> dict[str, Any]:
        """Return it for machines."""
        return {"name": self.name, "bytes": self.room.size, "all": self.room.is_all, "where": self.where}


def parts(folder: Path, store: Callable[[], Reader], root: str) -> Iterator[Part]:
    """Yield what takes room; what cannot be looked at is left out, as the checks say why."""
    with suppress(MlfnError):
        opened = store()
        try:
            yield Part("store", Room(opened.size(), 1, is_all=True), opened.label)
        finally:
            opened.close()
    for name in _PARTS:
        yield Part(name, room_of(files_below(folder / name)), str(folder / name))
    if root and not root.startswith("memory:"):
        from mlfn.artifacts.home import home_of
        from mlfn.artifacts.store import ArtifactStore

        with suppress(MlfnError):
            home = home_of(folder)
            found = room_of(ArtifactStore(root, home=home).files())
            yield Part("artifact root", found, f"{without_password(root).rstrip('/')}/{home}")


def write_parts(found: list[Part]) -> None:
    """Write a line for each."""
    sizes = [f"{'' if part.room.is_all else 'over '}{amount(part.room.size)}" for part in found]
    names, places = [part.name for part in found], [from_home(part.where) for part in found]
    write_table([Column("USED BY", names), Column("SIZE", sizes), Column("WHERE", places, Way.CUT)])
