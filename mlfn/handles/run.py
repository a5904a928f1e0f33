"""`Run`: a stored run, from any process that sees its store."""

from __future__ import annotations

import codecs
import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from mlfn import errors
from mlfn.artifacts import nested
from mlfn.artifacts.store import run_of
from mlfn.backends.logs import AttemptLog
from mlfn.dispatch import hooks
from mlfn.dispatch.dependencies import origin_of_failure
from mlfn.dispatch.inflight import InflightRun
from mlfn.dispatch.session import Session
from mlfn.dispatch.submit import resubmit, stored_defaults
from mlfn.errors import MlfnError, NotFoundError, ParameterError, ResultTimeoutError
from mlfn.handles.children import Children
from mlfn.handles.outputs import Artifacts, Metrics, OutputReference, Outputs, stored_outputs
from mlfn.handles.remote_errors import rebuild
from mlfn.spec.record import PAGE, Attempt, Outcome, Output, RunRecord, RunState

if TYPE_CHECKING:
    from mlfn.handles.version import Version

R = TypeVar("R")
_FIRST_LOOK = 0.005  # seconds between checks of another process's run; grows to the last
_LAST_LOOK = 0.25
_NEXT_LOOK = 0.05  # for a log that has not begun


class Run(Generic[R]):
    """A submitted run. It outlives this handle: `mlfn.run(id)` finds it again from any process."""

    __mlfn_run__ = True

    def __init__(self, record: RunRecord, inflight: InflightRun | None = None, *, session: Session) -> None:
        self._record = record
        self._session = session
        self._inflight = inflight
        self._outcome: Outcome | None = None  # how it ended, where this process saw it: asking the store takes longer

    @property
    def __mlfn_session__(self) -> Session:
        return self._session

    @property
    def id(self) -> str:
        """32 hexadecimal digits; the first eight name it well enough."""
        return self._record.id

    @property
    def name(self) -> str:
        """The function's name."""
        return self._record.name

    @property
    def project(self) -> str:
        """The project that it belongs to."""
        return self._record.project

    @property
    def url(self) -> str:
        """The folder of its artifacts; made with the first of them: a run whose values are all small has none."""
        artifacts = self._session.artifacts
        first = next((output.path for output in stored_outputs(self) if output.path is not None), None)
        # As another data folder may have put them there, below a folder of its own.
        own = first is not None and run_of(first) == self.id
        where = (
            artifacts.uri(first.rpartition("/")[0].rpartition("/")[0])
            if own and first
            else artifacts.folder_of(self.id)
        )
        return where if "://" in where else Path(where).as_uri()

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its function when it was submitted."""
        return self._record.labels

    @property
    def state(self) -> RunState:
        """Where it is now."""
        state = self._seen_state()
        self._session.mark_observed(self.id, state)
        return state

    @property
    def record(self) -> RunRecord:
        """What the store says about it now."""
        record = self._look()
        self._session.mark_observed(record.id, record.state)
        return record

    @property
    def params(self) -> dict[str, Any]:
        """What its function was called with, defaults included; an output of another run stands as a reference.

        A default that is no plain value is read from the code of the run, and left out where that cannot be loaded.
        """
        given = {name: self._param(value) for name, value in self._record.params.items()}
        defaults = stored_defaults(self._session, self._record)
        return {**given, **{name: value for name, value in defaults.items() if name not in given}}

    @property
    def iteration(self) -> int:
        """Its number among the children of its sweep or run, from 1; 0 for a run of its own."""
        return self._record.iteration

    @property
    def parent(self) -> str | None:
        """The id of the run that it belongs to: its sweep, or the run whose handler opened or submitted it."""
        return self._record.parent

    @property
    def children(self) -> Children[Run[R]]:
        """Its numbered children so far, those of a sweep or opened by ``ctx.child``: ``run.children[1]`` is the first."""
        return Children(self, self._session.store.children(self.id), self._other)

    @property
    def reused(self) -> str | None:
        """The id of the run whose outcome it took over (``memo=True``), without running itself."""
        return self.record.reused

    @property
    def outputs(self) -> Outputs:
        """Its named outputs: ``run.outputs["accuracy"]`` is a value, ``run.outputs.model`` a reference."""
        return Outputs(self)

    @property
    def artifacts(self) -> Artifacts:
        """Those of its outputs that are files, by name."""
        files = [output.key for output in stored_outputs(self) if output.path is not None]
        return Artifacts(self, {key: OutputReference(self, key) for key in files})

    @property
    def metrics(self) -> Metrics:
        """The series it logged: ``run.metrics["loss"]`` is the last value, ``.history("loss")`` all of them."""
        return Metrics(self)

    @property
    def error(self) -> str | None:
        """Why it failed, with the user's own frames; None unless it failed."""
        record = self.record
        if record.state is not RunState.FAILED or record.failure is None:
            return None
        return record.failure.traceback or f"{record.failure.type}: {record.failure.message}"

    @property
    def attempts(self) -> list[Attempt]:
        """Every try at it, first one first."""
        return self._session.store.attempts(self.id)

    @property
    def progress(self) -> Mapping[str, Any] | None:
        """What it last said of its progress: done, total, text."""
        return self.record.progress

    @property
    def page(self) -> str | None:
        """The address at which its engine shows what it does, as Dask's dashboard and Spark's UI; None where there is none.

        It is there while the engine is: with the run for one that is the run's own.
        """
        events = self._session.store.events(self.id)
        return next((detail for _, _, what, detail in reversed(events) if what == PAGE), None)

    def done(self) -> bool:
        """Return whether it is terminal."""
        if self._inflight is not None and not self._inflight.done.is_set():
            return False
        return self._seen_state().is_terminal

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is terminal; False when `timeout` seconds passed first.

        Waiting for a run whose owner is dead resumes it in this process.
        """
        timeout = hooks.seconds("wait", timeout)
        try:
            return self._wait_shown(timeout)
        except KeyboardInterrupt as error:
            raise error.with_traceback(None)  # noqa: B904 - where in threading it waited says nothing

    def _wait_shown(self, timeout: float | None) -> bool:
        progress_display = hooks.progress_display
        if progress_display is None or (timeout is not None and timeout <= hooks.PATIENCE):
            return self._wait(timeout)
        if self._wait(hooks.PATIENCE):
            return True
        with progress_display(self):
            return self._wait(None if timeout is None else timeout - hooks.PATIENCE)

    def _wait(self, timeout: float | None) -> bool:
        limit = None if timeout is None else time.monotonic() + timeout
        if self._inflight is not None:
            if not self._inflight.done.wait(timeout):
                return False
            self._outcome, self._inflight = self._inflight.outcome, None
        pause = _FIRST_LOOK
        while not self._seen_state().is_terminal:
            inflight = self._session.inflight(self.id) or self._resume()
            left = math.inf if limit is None else limit - time.monotonic()
            if left <= 0:
                return False
            if inflight is not None:
                inflight.done.wait(min(1.0, left))
            else:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, _LAST_LOOK)
        return True

    def result(self, timeout: float | None = None) -> R:
        """Return what the function returned, or raise what it raised.

        Raises ResultTimeoutError after `timeout` seconds (the run goes on), RunCancelledError, or the leaf of
        `RunError` that says how else it ended.
        """
        timeout = hooks.seconds("result", timeout)
        if not self.wait(timeout):
            raise ResultTimeoutError(
                f"{self.name} ({self.id[:8]}) is still {self.state} after {timeout:g} s; it goes on: call result() again, "
                f"or end it with cancel()."
            )
        if self._outcome is not None and self._outcome.state is RunState.SUCCEEDED:
            return cast("R", self._unpacked(self._outcome.returns, self._outcome.outputs))
        if (failure := self._exception()) is not None:
            raise failure
        return cast("R", self._unpacked(self.record.returns, stored_outputs(self)))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception that `result` would raise, or None."""
        timeout = hooks.seconds("exception", timeout)
        if not self.wait(timeout):
            raise ResultTimeoutError(f"{self.name} ({self.id[:8]}) is still {self.state} after {timeout:g} s.")
        return self._exception()

    def add_done_callback(self, callback: Callable[[Run[R]], object]) -> None:
        """Call ``callback(run)`` once it is terminal; at once if it is already."""
        controller = self._session.controller_of(self.id)
        if controller is not None and self._inflight is not None:
            controller.on_done(self._inflight, lambda: callback(self))
            return
        if self.done():
            callback(self)
            return
        threading.Thread(target=lambda: (self.wait(), callback(self)), daemon=True).start()

    def __await__(self) -> Generator[Any, None, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        import asyncio  # loaded already where something is awaited
        from concurrent.futures import Future

        over: Future[None] = Future()
        over.set_running_or_notify_cancel()  # who awaits it may be cancelled: the run is not
        self.add_done_callback(lambda _: over.set_result(None))
        await asyncio.wrap_future(over)
        return self.result()

    def cancel(self) -> bool:
        """End it and wait until that is confirmed; False if it had ended otherwise before.

        The handler gets SIGTERM (an exception that no ``except Exception`` swallows; its ``finally`` runs), and SIGKILL
        after the grace time. Raises ParameterError for one that is inline in a thread that still runs it.
        """
        if not self._seen_state().is_terminal:
            self._session.cancel(self._look())
            self.wait()
        return self.state is RunState.CANCELLED

    def rerun(self, /, **params: Any) -> Run[R]:
        """Submit the same function version again, with `params` in place of some of the old ones."""
        return Run(*resubmit(self._session, self.record, params), session=self._session)

    def promote(self, tag: str) -> Version[Run[R]]:
        """Store its function as a version that has its parameters as defaults and its outputs, and let `tag` name it.

        Of a sweep's child, what was swept becomes the defaults; ``mlfn.get_function("name:tag")`` finds the version again.
        """
        from mlfn.handles.version import promote

        return promote(self, tag, session=self._session)

    @overload
    def logs(self, *, follow: Literal[False] = ..., attempt: int | None = ..., rank: int | None = ...) -> str: ...
    @overload
    def logs(self, *, follow: Literal[True], attempt: int | None = ..., rank: int | None = ...) -> Iterator[str]: ...
    def logs(self, *, follow: bool = False, attempt: int | None = None, rank: int | None = None) -> Iterator[str] | str:
        """Return what it wrote to stdout and stderr; with `follow`, an iterator over chunks until it ends.

        Of `attempt`, counted from 1; without it of the last alone, and `attempts` says how many there were. Where it has
        several ranks, each line begins with its rank's number, as in ``[1] epoch 3``; with `rank`, only what that one wrote.
        """
        if attempt is not None:
            self._refuse_unknown_attempt(attempt)
        chunks = self._chunks(attempt, follow=follow)
        if rank is not None:
            from mlfn.backends.logs import checked_of_rank

            plan = self._session.store.get_plan(self._record.plan)
            chunks = iter(checked_of_rank(chunks, rank, self._record, plan))
        return chunks if follow else "".join(chunks)

    def _refuse_unknown_attempt(self, attempt: Any) -> None:
        if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1:
            raise ParameterError(f"logs(attempt={attempt!r}): a whole number, 1 or more, is allowed.")
        over = self.done()  # asked first: the next attempt may begin meanwhile
        made = len(self.attempts)
        if attempt > made + (not over):
            raise NotFoundError(
                f"{self.name} ({self.id[:8]}) has no attempt {attempt}: it has had {made}"
                f"{' so far' if not over else ''}; leave attempt= out for the last."
            )

    def log_path(self, attempt: int | None = None) -> Path | None:
        """Return the log file of an attempt (the last by default); None where nothing was written, or its place keeps it."""
        log = self._log(attempt)
        return log.path if log is not None else None

    def _log(self, attempt: int | None) -> AttemptLog | None:
        found = [item for item in self.attempts if attempt in (None, item.attempt)]
        return AttemptLog(self._session.store, self._session.folder, found[-1]) if found else None

    def __mlfn_refused__(self) -> str:
        """Return why it is no parameter of another run, and what is."""
        names = self._session.store.get_plan(self._record.plan).outputs
        shown = " or ".join(f"run.outputs.{name}" for name in names) or (
            'getattr(run.outputs, "return"), which is its only one; @mlfn.handler(outputs=["model"]) would name it'
        )
        return f"a whole run: pass an output of it, {shown}"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"a run does not travel: pass its id ({self.id!r}) for mlfn.run(), or the value of an output")

    def __repr__(self) -> str:
        try:
            state = self.state
        except MlfnError:  # a repr must not fail: what was last known is shown
            state = self._record.state
        return f"<mlfn.Run {self.id[:8]} {self.name} {state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def _look(self) -> RunRecord:
        if not self._record.state.is_terminal:
            self._record = self._session.store.get_run(self.id)
            if self._record.is_claimed and self._session.is_abandoned(self._record):
                self._session.reconcile(self._record.owner)
                self._record = self._session.store.get_run(self.id)
        return self._record

    def _seen_state(self) -> RunState:
        """Return its state without marking its failure as observed."""
        return self._outcome.state if self._outcome is not None else self._look().state

    def _resume(self) -> InflightRun | None:
        return None if self._session.owner_lives(self._record.owner) else self._session.resume(self._look())

    def _other(self, record: RunRecord) -> Run[R]:
        return Run(record, session=self._session)

    def _child(self, run: str) -> Run[R]:
        return self._other(self._session.store.get_run(run))

    def _children(self, runs: Sequence[str]) -> list[Run[R]]:
        """Return those that can be read."""
        return [self._other(record) for record in self._session.store.readable_runs(runs).values()]

    def _param(self, value: Mapping[str, Any]) -> Any:
        # The handler that opened it packed its parameters, else a client did.
        codec = self._session.codec(None if self._record.part_of is None else self.id)

        def leaf(stored: Mapping[str, Any]) -> Any:
            if "output" in stored:
                return OutputReference(self._child(stored["output"]["run"]), stored["output"]["key"])
            if "input" in stored:
                return stored["input"]
            return nested.StoredReference(stored) if nested.is_late(stored) else codec.decode(stored)

        return nested.decode(value, leaf)

    def _unpacked(self, returns: Mapping[str, Any] | None, outputs: Iterable[Output]) -> Any:
        if returns is None:  # a child that a handler opened returns nothing
            return None
        stored = {output.key: output for output in outputs}
        values = [self._session.codec(self.id).value(stored[key]) for key in returns["keys"]]
        if "as" not in returns:
            return values[0]
        return tuple(values) if returns["as"] == "tuple" else values

    def _exception(self) -> BaseException | None:
        record = self.record
        if record.state is RunState.PRUNED:
            why = (
                "was stopped early by its sweep"
                if record.parent
                else "raised mlfn.Pruned itself, and belongs to no sweep"
            )
            return errors.RunPrunedError(f"{self.name} ({self.id[:8]}) {why}; metrics has what it logged.")
        if record.state is RunState.CANCELLED:
            return errors.RunCancelledError(f"{self.name} ({self.id[:8]}) was cancelled.")
        if record.state is not RunState.FAILED or record.failure is None:
            return None
        error = rebuild(record.failure, self._session.codec(self.id), where=f"{self.name} ({self.id[:8]})")
        if type(error) is errors.ParentFailedError:
            origin = origin_of_failure(self._session.store, self.id)
            if origin is not None and origin.id != self.id:
                error.__cause__ = self._other(origin).exception() or error.__cause__
        return error

    def _chunks(self, attempt: int | None, *, follow: bool) -> Iterator[str]:
        log, offset, text = None, 0, codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            over = not follow or self.done()  # asked before reading: what was written before the end is then read
            log = log if offset else self._log(attempt)
            while log is not None and (chunk := log.read(offset)):
                offset += len(chunk)
                yield text.decode(chunk)
            if over:
                if rest := text.decode(b"", final=True):  # a character that was cut off
                    yield rest
                return
            self.wait(log.pause if log is not None else _NEXT_LOOK)


def known_record(run: Run[Any]) -> RunRecord:
    """Return what a handle knows of its run; the store is not read."""
    return run._record


def current_record(run: Run[Any]) -> RunRecord:
    """Return what the store says about a run now; unlike `Run.record`, that does not count as having seen how it ended."""
    return run._look()
