"""What is to be recorded: changes are gathered, applied in one fenced transaction, and only then acted on.

What the store cannot take now (a full disk, a server that is away) is kept, and nothing new may come before it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from mlfn.errors import StorageError
from mlfn.store.changes import Change, Engaged
from mlfn.store.sql import SqlStore, UsurpedError

logger = logging.getLogger(__name__)
Then = Callable[[int], object]  # gets the store's answer: 0 for a change that came too late
Entry = tuple[Change, Then | None]
Heard = tuple[Change, Then | None, str | None]  # and the worker that said it, where one did


class Recording:
    """The changes of one client, in order; used by one thread.

    `held` says which workers are at work for this client. `instead` says what to record for a change that no store can
    take; None leaves it out where nobody waits for its answer. `yielded` is told of workers that another client reads
    now: it lets go of them and returns the runs that went with them.
    """

    def __init__(
        self,
        store: SqlStore,
        client: str,
        *,
        held: Callable[[], Iterable[str]],
        instead: Callable[[Change, Exception], Entry | None],
        yielded: Callable[[AbstractSet[str]], AbstractSet[str]],
    ) -> None:
        self._store = store
        self._client = client
        self._held = held
        self._instead = instead
        self._yielded = yielded
        self._outbox: list[Heard] = []
        self._consumed: dict[str, int] = {}
        self._departed: list[Then] = []
        self._told: deque[tuple[Then, int]] = deque()  # recorded, and now to be acted on

    @property
    def is_behind(self) -> bool:
        """Whether something has to be recorded, or acted on, before there can be anything new."""
        return bool(self._outbox or self._told or self._departed)

    def add(self, change: Change, then: Then | None = None, *, said_by: str | None = None) -> None:
        """Have a change recorded with the next batch, and `then` called with the store's answer.

        `said_by` names the worker in whose journal it stands: it is left out if another client comes to read that.
        """
        self._outbox.append((change, then, said_by))

    def read(self, worker: str, consumed: int) -> None:
        """Note with the next batch up to where a worker's journal is in it."""
        self._consumed[worker] = consumed

    def afterwards(self, action: Then) -> None:
        """Have something done once all that is known now is recorded."""
        self._departed.append(action)

    def flush(self) -> None:
        """Make what was gathered last, then act on it; what a full disk refuses is kept and tried again."""
        if (self._outbox or self._consumed) and not self._apply():
            return
        if self._departed:
            self._told.extend((action, 0) for action in self._departed)
            self._departed = []
        while self._told:
            self._tell(*self._told.popleft())

    def _apply(self) -> bool:
        """Record the batch; False when it had to be changed first, and is to be tried again."""
        changes = [change for change, *_ in self._outbox]
        try:
            answers = self._store.apply(changes, consumed=self._consumed, client=self._client)
        except StorageError:
            raise
        except UsurpedError as error:
            self._yield(error)
            return False
        except Exception:
            if not self._replace_refused(changes):
                raise
            return False
        thens = [then for _, then, _ in self._outbox]
        self._told.extend((then, answer) for then, answer in zip(thens, answers, strict=True) if then is not None)
        self._outbox, self._consumed = [], {}
        return True

    def _tell(self, then: Then, answer: int) -> None:
        try:
            then(answer)
        except StorageError:
            self._told.appendleft((then, answer))
            raise
        except Exception:
            logger.exception("what was recorded could not be acted on")

    def _replace_refused(self, changes: list[Change]) -> bool:
        """Take out what no store would ever take, so that one value that does not fit does not hold up all others."""
        replaced = False
        for index, error in sorted(self._store.refusals(changes).items(), reverse=True):
            logger.error("the store cannot take %r: %s", changes[index], error)
            entry = self._instead(changes[index], error)
            if entry is not None:
                self._outbox[index] = (*entry, self._outbox[index][2])
            elif self._outbox[index][1] is None:
                del self._outbox[index]
            else:
                continue
            replaced = True
        return replaced

    def _yield(self, error: UsurpedError) -> None:
        """Leave out what concerns workers that another client has taken over: it records the ends of their runs."""
        kept = {row.id for row in self._store.workers(self._client)}
        kept |= {change.worker for change, *_ in self._outbox if isinstance(change, Engaged)}
        gone = {*self._consumed, *self._held()} - kept
        if not gone:
            raise error
        runs = self._yielded(gone)
        self._consumed = {worker: offset for worker, offset in self._consumed.items() if worker not in gone}
        self._outbox = [
            heard for heard in self._outbox if heard[2] not in gone and getattr(heard[0], "run", None) not in runs
        ]
