"""`Run`: a stored run, from any process that sees its store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from mlfn import errors, waiting
from mlfn.children import Children
from mlfn.client import Client
from mlfn.errors import MlfnError, NotFoundError, ParameterError, ResultTimeoutError
from mlfn.failures import rebuild
from mlfn.outputs import Artifacts, Metrics, OutputReference, Outputs
from mlfn.parents import origin_of_failure
from mlfn.spec.record import Attempt, Outcome, Output, RunRecord, RunState
from mlfn.submission import resubmit, stored_defaults
from mlfn.ticket import Ticket

if TYPE_CHECKING:
    from mlfn.version import Version

R = TypeVar("R")
_FIRST_LOOK = 0.005  # seconds between looks at another process's run; grows to the last
_LAST_LOOK = 0.25


class Run(Generic[R]):
    """A submitted run. It outlives this handle: `mlfn.run(id)` finds it again from any process."""

    __mlfn_run__ = True

    def __init__(self, record: RunRecord, ticket: Ticket | None = None, *, client: Client) -> None:
        self._record = record
        self._client = client
        self._ticket = ticket
        self._outcome: Outcome | None = None  # how it ended, where this process saw it: asking the store takes longer

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
        return (self._client.folder / "artifacts" / self.id).as_uri()

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its function when it was submitted."""
        return self._record.labels

    @property
    def state(self) -> RunState:
        """Where it is now."""
        state = self._seen_state()
        self._client.hears(self.id, state)
        return state

    @property
    def record(self) -> RunRecord:
        """What the store says about it now."""
        record = self._look()
        self._client.hears(record.id, record.state)
        return record

    @property
    def params(self) -> dict[str, Any]:
        """What its function was called with, defaults included; an output of another run stands as a reference.

        A default that is no plain value is read from the code of the run, and left out where that cannot be loaded.
        """
        given = {name: self._param(value) for name, value in self._record.params.items()}
        defaults = stored_defaults(self._client, self._record)
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
    def children(self) -> Children[R]:
        """Its numbered children so far, those of a sweep or opened by ``ctx.child``: ``run.children[1]`` is the first."""
        return Children(self, self._client.store.children(self.id))

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
        found = {output.key: OutputReference(self, output.key) for output in self._outputs() if output.path is not None}
        return Artifacts(self, found)

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
        return self._client.store.attempts(self.id)

    @property
    def progress(self) -> Mapping[str, Any] | None:
        """What it last said of its progress: done, total, text."""
        return self.record.progress

    def done(self) -> bool:
        """Return whether it is terminal."""
        if self._ticket is not None and not self._ticket.done.is_set():
            return False
        return self._seen_state().is_terminal

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is terminal; False when `timeout` seconds passed first.

        A run whose owner is dead is carried on by whoever waits for it.
        """
        timeout = waiting.seconds("wait", timeout)
        observer = waiting.observer
        if observer is None or (timeout is not None and timeout <= waiting.PATIENCE):
            return self._wait(timeout)
        if self._wait(waiting.PATIENCE):
            return True
        with observer(self):
            return self._wait(None if timeout is None else timeout - waiting.PATIENCE)

    def _wait(self, timeout: float | None) -> bool:
        limit = None if timeout is None else time.monotonic() + timeout
        if self._ticket is not None:
            if not self._ticket.done.wait(timeout):
                return False
            self._outcome, self._ticket = self._ticket.outcome, None
        pause = _FIRST_LOOK
        while not self._seen_state().is_terminal:
            left = None if limit is None else limit - time.monotonic()
            if left is not None and left <= 0:
                return False
            ticket = self._client.ticket(self.id) or self._carry_on()
            span = pause if left is None else min(pause, left)
            if ticket is not None:
                ticket.done.wait(min(1.0, left) if left is not None else 1.0)
            else:
                time.sleep(span)
                pause = min(pause * 1.5, _LAST_LOOK)
        return True

    def result(self, timeout: float | None = None) -> R:
        """Return what the function returned, or raise what it raised.

        Raises ResultTimeoutError after `timeout` seconds (the run goes on), RunCancelledError, or the leaf of
        `RunError` that says how else it ended.
        """
        timeout = waiting.seconds("result", timeout)
        if not self.wait(timeout):
            raise ResultTimeoutError(
                f"{self.name} ({self.id[:8]}) is still {self.state} after {timeout:g} s; it goes on: call result() again, "
                f"or end it with cancel()."
            )
        if self._outcome is not None and self._outcome.state is RunState.SUCCEEDED:
            return cast("R", self._unpacked(self._outcome.returns, self._outcome.outputs))
        failure = self._exception()
        if failure is not None:
            raise failure
        return cast("R", self._unpacked(self.record.returns, self._outputs()))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception that `result` would raise, or None."""
        timeout = waiting.seconds("exception", timeout)
        if not self.wait(timeout):
            raise ResultTimeoutError(f"{self.name} ({self.id[:8]}) is still {self.state} after {timeout:g} s.")
        return self._exception()

    def add_done_callback(self, callback: Callable[[Run[R]], object]) -> None:
        """Call ``callback(run)`` once it is terminal; at once if it is already."""
        keeper = self._client.keeper_of(self.id)
        if keeper is not None and self._ticket is not None:
            keeper.on_done(self._ticket, lambda: callback(self))
            return
        if self.done():
            callback(self)
            return
        threading.Thread(target=lambda: (self.wait(), callback(self)), daemon=True).start()

    def __await__(self) -> Generator[Any, None, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        import asyncio  # whoever awaits has loaded it; nobody else need wait for it

        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def settle() -> None:
            if not over.done():
                over.set_result(None)

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        self.add_done_callback(tell)
        await over
        return self.result()

    def cancel(self) -> bool:
        """End it and wait until that is confirmed; False if it had ended otherwise before.

        The handler gets SIGTERM (an exception that no ``except Exception`` swallows; its ``finally`` runs), and SIGKILL
        after the grace time. Raises ParameterError for one that is inline in a thread that still runs it.
        """
        if not self._seen_state().is_terminal:
            self._client.cancel(self._look())
            self.wait()
        return self.state is RunState.CANCELLED

    def rerun(self, **params: Any) -> Run[R]:
        """Submit the same function version again, with `params` in place of some of the old ones."""
        return Run(*resubmit(self._client, self.record, params), client=self._client)

    def promote(self, tag: str) -> Version:
        """Store its function as a version that has its parameters as defaults and its outputs, and let `tag` name it.

        Of a sweep's child, what was swept becomes the defaults; ``mlfn.get_function("name:tag")`` finds the version again.
        """
        from mlfn.version import promote

        return promote(self, tag, client=self._client)

    @overload
    def logs(self, *, follow: Literal[False] = ..., attempt: int | None = ...) -> str: ...
    @overload
    def logs(self, *, follow: Literal[True], attempt: int | None = ...) -> Iterator[str]: ...
    def logs(self, *, follow: bool = False, attempt: int | None = None) -> Iterator[str] | str:
        """Return what it wrote to stdout and stderr; with `follow`, an iterator over chunks until it ends.

        Of `attempt`, counted from 1; without it of the last alone, and `attempts` says how many there were.
        """
        if attempt is not None:
            self._refuse_unknown_attempt(attempt)
        return self._follow(attempt) if follow else "".join(self._chunks(attempt))

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
        """Return the log file of an attempt (the last by default); None where nothing was written."""
        found = [item for item in self.attempts if attempt in (None, item.attempt)]
        if not found or found[-1].log is None:
            return None
        # By name, below this client's own folder: a path out of the store could name any file of this machine.
        path = self._client.folder / "logs" / self.id[:2] / f"{self.id}-{found[-1].attempt}.log"
        return path if path.exists() else None

    def _shown_outputs(self) -> str:
        """Return how its outputs are written as parameters of another run."""
        names = self._client.store.plan(self._record.plan)["outputs"]
        if not names:
            return (
                'getattr(run.outputs, "return"), which is its only one; @mlfn.handler(outputs=["model"]) would name it'
            )
        return " or ".join(f"run.outputs.{name}" for name in names)

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
            self._record = self._client.store.get_run(self.id)
            if self._record.state is RunState.RUNNING and self._client.is_abandoned(self._record):
                self._client.reconcile(self._record.owner)
                self._record = self._client.store.get_run(self.id)
        return self._record

    def _seen_state(self) -> RunState:
        """Return where it is, for this handle's own use: nobody has asked how it ended."""
        return self._outcome.state if self._outcome is not None else self._look().state

    def _see_through(self) -> None:
        """Have a run whose owner is dead carried on, without waiting for it."""
        if self._ticket is None and not self._seen_state().is_terminal:
            self._carry_on()

    def _carry_on(self) -> Ticket | None:
        record = self._record
        if self._client.owner_lives(record.owner):
            return None
        return self._client.carry_on(self._look())

    def _child(self, run: str) -> Run[R]:
        return Run(self._client.store.get_run(run), client=self._client)

    def _children(self, runs: Sequence[str]) -> list[Run[R]]:
        """Return those that can be read."""
        found = self._client.store.readable_runs(runs)
        return [Run(record, client=self._client) for record in found.values()]

    def _outputs(self) -> list[Output]:
        record = self.record
        return self._client.store.outputs(record.id, record.attempt)

    def _param(self, value: Mapping[str, Any]) -> Any:
        if "output" in value:
            parent = self._client.store.get_run(value["output"]["run"])
            return OutputReference(Run(parent, client=self._client), value["output"]["key"])
        if "input" in value:
            return value["input"]
        return self._client.codec().decode(value)

    def _unpacked(self, returns: Mapping[str, Any] | None, outputs: Iterable[Output]) -> Any:
        if returns is None:  # a child that a handler opened returns nothing
            return None
        stored = {output.key: output for output in outputs}
        values = [self._client.codec().value(stored[key]) for key in returns["keys"]]
        if "as" not in returns:
            return values[0]
        return tuple(values) if returns["as"] == "tuple" else values

    def _exception(self) -> BaseException | None:
        record = self.record
        if record.state is RunState.PRUNED:
            return errors.RunPrunedError(
                f"{self.name} ({self.id[:8]}) was stopped early by its sweep; metrics has what it logged."
            )
        if record.state is RunState.CANCELLED:
            return errors.RunCancelledError(f"{self.name} ({self.id[:8]}) was cancelled.")
        if record.state is not RunState.FAILED or record.failure is None:
            return None
        error = rebuild(record.failure, self._client.codec(), where=f"{self.name} ({self.id[:8]})")
        if type(error) is errors.ParentFailedError:
            error.__cause__ = self._exception_of_parent() or error.__cause__
        return error

    def _exception_of_parent(self) -> BaseException | None:
        origin = origin_of_failure(self._client.store, self.id)
        if origin is None or origin.id == self.id:
            return None
        return Run(origin, client=self._client)._exception()

    def _chunks(self, attempt: int | None) -> Iterator[str]:
        path = self.log_path(attempt)
        if path is None:
            return
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            while chunk := file.read(1 << 20):
                yield chunk

    def _follow(self, attempt: int | None) -> Iterator[str]:
        file = None
        try:
            while True:
                over = self.done()  # asked before reading: what was written before the end is then read
                if file is None and (path := self.log_path(attempt)) is not None:
                    file = path.open(encoding="utf-8", errors="replace", newline="")
                while file is not None and (chunk := file.read(1 << 16)):
                    yield chunk
                if over:
                    return
                self.wait(0.05)
        finally:
            if file is not None:
                file.close()
