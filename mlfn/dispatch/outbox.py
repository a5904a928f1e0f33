"""The outbox: events become changes, which are gathered, applied in one fenced transaction, and only then acted on.

While the store cannot be written (a full disk, an unreachable server), the batch is kept and nothing new is added.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from mlfn.errors import StorageError
from mlfn.spec.record import Outcome, Output
from mlfn.store import changes
from mlfn.store.commands import OwnershipLostError, Store

logger = logging.getLogger(__name__)
Callback = Callable[[int], object]  # gets the store's answer: 0 for a change that came too late
Entry = tuple[changes.Change, Callback | None]
Pending = tuple[changes.Change, Callback | None, str | None]  # and the execution in whose journal it stands


class Outbox:
    """The changes of one client, in order; used by one thread.

    `busy` returns the executions of this client. `replacement` returns what to record in place of a change that no store can
    take; None drops it, unless it has a callback. `usurped` is called with executions that another client has taken over; it
    drops them and returns their runs.
    """

    def __init__(
        self,
        store: Store,
        client: str,
        *,
        busy: Callable[[], Iterable[str]],
        replacement: Callable[[changes.Change, Exception], Entry | None],
        usurped: Callable[[AbstractSet[str]], AbstractSet[str]],
    ) -> None:
        self._store = store
        self._client = client
        self._busy = busy
        self._replacement = replacement
        self._usurped = usurped
        self._changes: list[Pending] = []
        self._cursors: dict[str, str | None] = {}
        self._after_flush: list[Callback] = []
        self._callbacks: deque[tuple[Callback, int]] = deque()  # their changes are recorded

    @property
    def has_pending(self) -> bool:
        """Whether changes or callbacks are left over from an earlier flush."""
        return bool(self._changes or self._callbacks or self._after_flush)

    def add(self, change: changes.Change, callback: Callback | None = None, *, execution: str | None = None) -> None:
        """Record a change with the next batch, then call back with the store's answer.

        `execution` names that in whose journal it stands: it is dropped if another client takes that over.
        """
        self._changes.append((change, callback, execution))

    def acknowledge(self, execution: str, cursor: str | None) -> None:
        """Record with the next batch up to where an execution's journal is in it.

        None leaves that as it is: the batch then only depends on the execution being this client's.
        """
        if cursor is not None or execution not in self._cursors:
            self._cursors[execution] = cursor

    def after_flush(self, action: Callback) -> None:
        """Call back once every change added so far is recorded."""
        self._after_flush.append(action)

    def flush(self) -> None:
        """Record the batch, then act on it; raise StorageError and keep it where the store cannot be written."""
        if (self._changes or self._cursors) and not self._apply():
            return
        if self._after_flush:
            self._callbacks.extend((action, 0) for action in self._after_flush)
            self._after_flush = []
        callbacks = self._callbacks
        while callbacks:
            callback, answer = callbacks[0]
            try:
                callback(answer)
            except StorageError:
                raise  # it stays first
            except Exception:
                logger.exception("a callback of a recorded change failed")
            except BaseException:
                callbacks.popleft()
                raise
            callbacks.popleft()

    def _apply(self) -> bool:
        """Record the batch; False when it had to be changed, and must be applied again."""
        batch = [change for change, _, _ in self._changes]
        try:
            answers = self._store.apply(batch, cursors=self._cursors, client=self._client)
        except StorageError:
            raise
        except OwnershipLostError as error:
            self._drop_usurped(error)
            return False
        except Exception:
            if not self._replace_refused(batch):
                raise
            return False
        for (_, callback, _), answer in zip(self._changes, answers, strict=True):
            if callback is not None:
                self._callbacks.append((callback, answer))
        self._changes, self._cursors = [], {}
        return True

    def _replace_refused(self, batch: list[changes.Change]) -> bool:
        """Replace the changes that no store can take, so that one of them does not block the others."""
        replaced = False
        for index, error in sorted(self._store.refusals(batch).items(), reverse=True):
            logger.error("the store cannot take %r: %s", batch[index], error)
            entry = self._replacement(batch[index], error)
            if entry is not None:
                self._changes[index] = (*entry, self._changes[index][2])
            elif self._changes[index][1] is None:
                del self._changes[index]
            else:
                continue
            replaced = True
        return replaced

    def _drop_usurped(self, error: OwnershipLostError) -> None:
        """Drop the changes of executions that another client has taken over: it records how their runs end."""
        kept = {row.id for row in self._store.executions(self._client)}
        kept |= {change.execution for change, *_ in self._changes if isinstance(change, changes.ExecutionCreated)}
        gone = {*self._cursors, *self._busy()} - kept
        if not gone:
            raise error
        runs = self._usurped(gone)
        self._cursors = {execution: cursor for execution, cursor in self._cursors.items() if execution not in gone}
        self._changes = [
            item for item in self._changes if item[2] not in gone and getattr(item[0], "run", None) not in runs
        ]


def change_of(event: Mapping[str, Any]) -> changes.Change | None:
    """Return the change to record for an event; None for the attempt's own end, which its controller decides on."""
    run, attempt, time, what = event["run"], event["attempt"], event["time"], event["event"]
    if what == "started":
        return changes.Started(run, attempt, time)
    if what == "metrics":
        points = tuple((name, step, value, moment) for name, step, value, moment in event["points"])
        return changes.MetricsLogged(run, attempt, event["first"], points)
    if what == "metric":
        point = (event["name"], event["step"], event["value"], time)
        return changes.MetricsLogged(run, attempt, event["number"], (point,))
    if what == "output":
        return changes.OutputLogged(run, attempt, Output(**event["output"]))
    if what == "page":
        return changes.PageNoted(run, attempt, event["url"], time)
    if what == "progress":
        return changes.Progressed(run, attempt, event["progress"])
    if what == "child":
        return changes.ChildStarted(run, event["parent"], event["parent_attempt"], event["params"], time)
    if what == "child_end":
        return changes.Finished(run, attempt, Outcome.from_json(event), time)
    if what == "best":
        return changes.BestMarked(event["child"], run, attempt)
    return None
