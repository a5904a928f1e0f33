"""Commands: everything that changes what a store holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mlfn.errors import StoreError
from mlfn.host.identity import ProcessIdentity
from mlfn.store.changes import Change
from mlfn.store.queries import Queries, TagRow
from mlfn.store.sweeps import SweepQueries


class OwnershipLostError(StoreError):
    """Another client has adopted an execution of this one, whose heartbeat had lapsed."""


class Commands(Protocol):
    """What a dispatcher, a sweep's driver and garbage collection write.

    Every command is one transaction, durable when it returns. It may be sent again after an error: what was recorded
    before is not recorded twice.
    """

    def apply(
        self, changes: Sequence[Change], *, cursors: Mapping[str, str | None] | None = None, client: str | None = None
    ) -> list[int]:
        """Apply all of `changes` or none, in order, and return a number for each: 0 for one that came too late.

        A change to a run names the attempt and the state that it starts from; where the run has left those, nothing is
        written. A `Claimed` is answered with the attempt's number.

        `cursors` maps executions of `client` to texts that say up to where their reports are received, stored in the
        same transaction; None leaves the text as it is. OwnershipLostError where an execution belongs to another client
        by now.
        """
        ...

    def refusals(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Return, by index, which of `changes` this store could never take, and why; nothing is changed."""
        ...

    def add_function(self, digest: str, *, project: str, name: str, spec: str, time: float) -> None:
        """Store a function version; a known hash changes nothing but a damaged spec, which is repaired."""
        ...

    def add_plan(self, digest: str, *, function: str, body: str) -> None:
        """Store what runs of one function version have in common; a known hash repairs a damaged body."""
        ...

    def move_tag(self, row: TagRow, *, time: float) -> None:
        """Let a tag name another version from now on."""
        ...

    def register_client(self, client: str, process: ProcessIdentity, *, time: float) -> None:
        """Add a client, or renew its heartbeat."""
        ...

    def remove_client(self, client: str) -> None:
        """Remove a client that has shut down."""
        ...

    def adopt_execution(self, execution: str, *, client: str, former: str) -> bool:
        """Make `client` the owner of an execution that holds no run; False if `former` does not own it any more."""
        ...

    def remove_execution(self, execution: str) -> None:
        """Remove an execution that has ended and whose reports are all recorded."""
        ...

    def remove_runs(self, runs: Sequence[str]) -> None:
        """Delete those of the runs that are terminal, with all their rows."""
        ...

    def remove_unreadable(self, run: str, *, with_parts: Sequence[str]) -> None:
        """Delete a run in whatever state, with its parts and all their rows; its other children lose their parent."""
        ...


class Store(Commands, Queries, SweepQueries, Protocol):
    """All three protocols in one object, as a dispatcher holds it."""
