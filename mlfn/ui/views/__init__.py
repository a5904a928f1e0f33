"""View models: what is to be seen of a run, sweep, function or listing, made once from a store and its data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlfn.host.frozen import frozen
from mlfn.host.identity import is_alive
from mlfn.spec.record import Attempt, RunRecord
from mlfn.store.sweeps import Reader

if TYPE_CHECKING:
    from mlfn.backends.logs import AttemptLog


@frozen
class Source:
    """A store and its data folder; readers of it change neither."""

    store: Reader
    folder: Path

    def is_abandoned(self, record: RunRecord) -> bool:
        """Return whether a run has not ended and the client that owned it is dead."""
        if record.state.is_terminal:
            return False
        row = next((row for row in self.store.clients() if row[0] == record.owner), None)
        return row is None or not is_alive(row)

    def log(self, attempt: Attempt) -> AttemptLog:
        """Return the log of an attempt."""
        from mlfn.backends.logs import AttemptLog  # a listing shows none

        return AttemptLog(self.store, self.folder, attempt)
