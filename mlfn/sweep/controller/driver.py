"""The driver of one sweep in this process: starts its loop, answers for the parent run, and ends with it."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable

from mlfn.dispatch.inflight import InflightRun
from mlfn.dispatch.session import Session
from mlfn.host.identity import now
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import CancelRequested
from mlfn.sweep.controller.loop import LeaseLostError, SweepLoop, SweepSetup

logger = logging.getLogger(__name__)


class Driver:
    """Runs one sweep's loop, in a thread of its own or, inline, in the caller's."""

    def __init__(self, session: Session, record: RunRecord, setup: SweepSetup) -> None:
        self._session = session
        self._record = record
        self._loop = SweepLoop(session, record, setup)
        self._lock = threading.Lock()
        self._inflight = InflightRun(record.id, record.name, record.plan, record.params, record.labels)
        self._inflight.attempt, self._inflight.state = record.attempt, RunState.RUNNING
        self._thread: threading.Thread | None = None

    def start(self) -> InflightRun | None:
        """Drive in a thread, and return the sweep's inflight run; inline, drive until the sweep is over."""
        self._session.add_driver(self._record.id, self)
        importlib.import_module("concurrent.futures.thread")  # pandas needs it, and it cannot be loaded at exit
        if self._loop.is_inline:
            self._drive()
            return None
        self._thread = threading.Thread(target=self._drive, name=f"mlfn-sweep-{self._record.id[:8]}", daemon=True)
        self._thread.start()
        return self._inflight

    def inflight(self, run: str) -> InflightRun | None:
        """Return the sweep's inflight run, while it is not over."""
        return self._inflight if run == self._inflight.run and not self._inflight.done.is_set() else None

    def unfinished(self) -> list[InflightRun]:
        """Return the sweep's inflight run unless it is over."""
        return [] if self._inflight.done.is_set() else [self._inflight]

    def cancel(self, run: str) -> None:
        """Request the cancellation of the sweep and of its children."""
        self._session.store.apply([CancelRequested(run, now())])
        self._loop.cancel()

    def after_fork(self) -> None:
        """Release, in a forked child, those that wait for the sweep."""
        self._inflight.after_fork()

    def on_done(self, inflight: InflightRun, callback: Callable[[], object]) -> None:
        """Call back when the sweep is over; at once if it is."""
        with self._lock:
            if not inflight.done.is_set():
                inflight.callbacks.append(callback)
                return
        callback()

    def close(self) -> None:
        """Release the lease; another process can resume the sweep."""
        self._loop.leave()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def _drive(self) -> None:
        try:
            self._loop.run()
        except LeaseLostError:
            pass  # another driver has the sweep, or will have it
        finally:
            self._finish()

    def _finish(self) -> None:
        state, _ = self._session.store.states([self._record.id]).get(self._record.id, (RunState.FAILED, None))
        with self._lock:
            self._inflight.state = state
            self._inflight.done.set()
        self._session.remove_driver(self._record.id)
        for callback in self._inflight.callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback of sweep %s failed", self._record.id)
