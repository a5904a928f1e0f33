"""`Run`: a stored run, from any process that sees its store; and waiting for several of them."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, overload

from mlfn import errors, waiting
from mlfn.client import Client, current_client
from mlfn.codec import reference
from mlfn.dispatch import Ticket
from mlfn.errors import MlfnError, NotFoundError, ParameterError, ResultTimeoutError, nearest
from mlfn.spec.record import Attempt, Outcome, Output, RemoteFailure, RunRecord, RunState
from mlfn.store.reading import RunFilter
from mlfn.submission import resubmit

R = TypeVar("R")
_FIRST_LOOK = 0.005  # seconds between looks at another process's run; grows to the last
_LAST_LOOK = 0.25


class RemoteTracebackError(Exception):
    """The traceback of the run, as text, under the exception that it ended with."""

    def __str__(self) -> str:
        return f"in the run:\n\n{self.args[0]}"


class Run(Generic[R]):
    """A submitted run. It outlives this handle: `mlfn.run(id)` finds it again from any process."""

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
        """Where its files lie."""
        return (self._client.folder / "artifacts" / self.id).as_uri()

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its function when it was submitted."""
        return self._record.labels

    @property
    def state(self) -> RunState:
        """Where it is now."""
        return self._outcome.state if self._outcome is not None else self.record.state

    @property
    def record(self) -> RunRecord:
        """What the store says about it now."""
        if not self._record.state.is_terminal:
            self._record = self._client.store.get_run(self.id)
        return self._record

    @property
    def params(self) -> dict[str, Any]:
        """The arguments it was submitted with; an output of another run stands as ``Output``."""
        return {name: self._param(value) for name, value in self._record.params.items()}

    @property
    def outputs(self) -> Outputs:
        """Its named outputs: ``run.outputs["accuracy"]`` is a value, ``run.outputs.model`` a reference."""
        return Outputs(self)

    @property
    def artifacts(self) -> dict[str, OutputReference]:
        """Those of its outputs that are files, by name."""
        return {output.key: OutputReference(self, output.key) for output in self._outputs() if output.path is not None}

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
        return self.state.is_terminal

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is terminal; False when `timeout` seconds passed first.

        A run whose owner is dead is carried on by whoever waits for it.
        """
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
        while not self.state.is_terminal:
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
        if not self.wait(timeout):
            raise ResultTimeoutError(f"{self.name} ({self.id[:8]}) is still {self.state} after {timeout:g} s.")
        return self._exception()

    def add_done_callback(self, callback: Callable[[Run[R]], object]) -> None:
        """Call ``callback(run)`` once it is terminal; at once if it is already."""
        dispatcher = self._client.dispatcher_of(self.id)
        if dispatcher is not None and self._ticket is not None:
            dispatcher.on_done(self._ticket, lambda: callback(self))
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
        after the grace time.
        """
        if not self.state.is_terminal:
            self._client.cancel(self.record)
            self.wait()
        return self.state is RunState.CANCELLED

    def rerun(self, **params: Any) -> Run[R]:
        """Submit the same function version again, with `params` in place of some of the old ones."""
        return Run(*resubmit(self._client, self.record, params), client=self._client)

    @overload
    def logs(self, *, follow: Literal[False] = ..., attempt: int | None = ...) -> str: ...
    @overload
    def logs(self, *, follow: Literal[True], attempt: int | None = ...) -> Iterator[str]: ...
    def logs(self, *, follow: bool = False, attempt: int | None = None) -> Iterator[str] | str:
        """Return what it wrote to stdout and stderr; with `follow`, an iterator over chunks until it ends."""
        return self._follow(attempt) if follow else "".join(self._chunks(attempt))

    def log_path(self, attempt: int | None = None) -> Path | None:
        """Return the log file of an attempt (the last by default); None where nothing was written."""
        found = [item for item in self.attempts if attempt in (None, item.attempt)]
        if not found or found[-1].log is None:
            return None
        # By name, below this client's own folder: a path out of the store could name any file of this machine.
        path = self._client.folder / "logs" / self.id[:2] / f"{self.id}-{found[-1].attempt}.log"
        return path if path.exists() else None

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

    def _see_through(self) -> None:
        """Have a run whose owner is dead carried on, without waiting for it."""
        if self._ticket is None and not self.state.is_terminal:
            self._carry_on()

    def _carry_on(self) -> Ticket | None:
        record = self._record
        if self._client.owner_lives(record.owner):
            return None
        self._client.reconcile()
        return self._client.carry_on(self.record)

    def _outputs(self) -> list[Output]:
        record = self.record
        return self._client.store.outputs(record.id, record.attempt)

    def _param(self, value: Mapping[str, Any]) -> Any:
        if "output" in value:
            return OutputReference(run(value["output"]["run"], client=self._client), value["output"]["key"])
        if "input" in value:
            return value["input"]
        return self._client.codec().decode(value)

    def _unpacked(self, returns: Mapping[str, Any] | None, outputs: Iterable[Output]) -> Any:
        returns = returns or {"keys": ["return"]}
        stored = {output.key: output for output in outputs}
        values = [self._client.codec().value(stored[key]) for key in returns["keys"]]
        if "as" not in returns:
            return values[0]
        return tuple(values) if returns["as"] == "tuple" else values

    def _exception(self) -> BaseException | None:
        record = self.record
        if record.state is RunState.CANCELLED:
            return errors.RunCancelledError(f"{self.name} ({self.id[:8]}) was cancelled.")
        if record.state is not RunState.FAILED or record.failure is None:
            return None
        return rebuild(record.failure, self._client, where=f"{self.name} ({self.id[:8]})")

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


class OutputReference:
    """One output of a run that may not have ended yet: give it to another `submit`, or ask for what it is."""

    __mlfn_reference__ = True

    def __init__(self, run: Run[Any], key: str) -> None:
        self.run = run
        self.key = key

    @property
    def value(self) -> Any:
        """The value; waits for the run."""
        return self.run.outputs[self.key]

    @property
    def path(self) -> Path:
        """Where its file or folder lies; waits for the run."""
        stored = self.stored()
        found = self.run._client.codec().path(reference(stored))
        if found is None:
            raise NotFoundError(
                f"{self.key!r} of {self.run.name} is a value of {stored.size} bytes in the store and has no file: "
                f"use run.outputs[{self.key!r}]."
            )
        return found

    @property
    def type(self) -> str:
        """The name of its type."""
        return self.stored().type

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.stored().size

    def stored(self) -> Output:
        """Return what the store says of it; waits for the run unless it was logged before."""
        found = self._find()
        if found is None:
            self.run.wait()
            found = self._find()
        if found is None:
            self.run.result()  # a run that failed says so itself
            have = [output.key for output in self.run._outputs()]
            raise NotFoundError(
                f"{self.run.name} ({self.run.id[:8]}) has no output {self.key!r}: {nearest(self.key, have)}"
            )
        return found

    def _find(self) -> Output | None:
        return next((output for output in self.run._outputs() if output.key == self.key), None)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "an output of a run travels only as a parameter of its own; inside another value pass its .value"
        )

    def __repr__(self) -> str:
        return f"<output {self.key!r} of run {self.run.id[:8]}>"


class Outputs(Mapping[str, Any]):
    """The named outputs of a run: items are values, attributes are references. Reading waits for the run."""

    def __init__(self, run: Run[Any]) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        return self._run._client.codec().value(OutputReference(self._run, key).stored())

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return OutputReference(self._run, key)

    def __iter__(self) -> Iterator[str]:
        self._run.wait()
        return iter([output.key for output in self._run._outputs()])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<outputs of run {self._run.id[:8]}: {', '.join(output.key for output in self._run._outputs()) or 'none yet'}>"


class Metrics(Mapping[str, float]):
    """The metrics of a run: the last value of each, and their series."""

    def __init__(self, run: Run[Any]) -> None:
        self._run = run

    def __getitem__(self, name: str) -> float:
        return self.history(name)[-1][1]

    def history(self, name: str) -> list[tuple[int | None, float]]:
        """Return (step, value) of each point, in the order in which they were logged."""
        record = self._run.record
        points = self._run._client.store.series(record.id, record.attempt, name)
        if not points:
            raise NotFoundError(
                f"{self._run.name} ({self._run.id[:8]}) logged no metric {name!r}: {nearest(name, list(self))}"
            )
        return [(step, value) for step, value, _ in points]

    def __iter__(self) -> Iterator[str]:
        record = self._run.record
        return iter(self._run._client.store.metric_names(record.id, record.attempt))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))


class Runs(Sequence[Run[Any]]):
    """A listing of runs; a table where it is shown."""

    def __init__(self, items: Iterable[Run[Any]]) -> None:
        self._items = list(items)

    @overload
    def __getitem__(self, index: int) -> Run[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run[Any] | Runs:
        return Runs(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return "\n".join(
            [
                _count(len(self)),
                *(f"{r.id[:8]}  {r._record.state.value:<10} {r.name:<24} {_when(r._record.created)}" for r in self),
            ]
        )


def run(
    id: str,  # noqa: A002 - the word that users know
    *,
    client: Client | None = None,
) -> Run[Any]:
    """Return the run whose id begins with `id`, from any process that sees the store."""
    client = client or current_client()
    client.reconcile()
    return Run(client.store.find_run(id), client=client)


def runs(
    *,
    project: str | None = None,
    name: str | None = None,
    state: str | Sequence[str] | None = None,
    label: Mapping[str, str] | None = None,
    since: float | datetime | None = None,
    order: str = "newest",
    limit: int = 100,
    before: Run[Any] | None = None,
) -> Runs:
    """List runs.

    Parameters
    ----------
    state: one state or several.
    label: labels that must all match.
    since: only runs submitted then or later; seconds since the epoch, or a datetime.
    order: ``"newest"``, ``"oldest"``, or ``"max.NAME"`` / ``"min.NAME"`` for a metric or numeric output.
    before: the last run of the page before, for the next page in order of time.
    """
    if label is not None and not isinstance(label, Mapping):
        raise ParameterError(f"runs(label={label!r}): a mapping is allowed, as in label={{'team': 'risk'}}.")
    if isinstance(since, bool) or not isinstance(since, (int, float, datetime, type(None))):
        raise ParameterError(f"runs(since={since!r}): seconds since the epoch, or a datetime, is allowed.")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ParameterError(f"runs(limit={limit!r}): a whole number, 1 or more, is allowed.")
    client = current_client()
    client.reconcile()
    wanted = RunFilter(
        project=project,
        name=name,
        states=_states(state),
        labels=label or {},
        since=since.timestamp() if isinstance(since, datetime) else since,
        before=before._record.seq if before is not None else None,
    )
    if order in ("newest", "oldest"):
        records = client.store.list_runs(wanted, limit=limit, newest=order == "newest")
    else:
        way, _, metric = order.partition(".")
        if way not in ("max", "min") or not metric:
            raise ParameterError(f"runs(order={order!r}): 'newest', 'oldest', 'max.NAME' or 'min.NAME' is allowed.")
        records = client.store.best_runs(wanted, metric, limit=limit, highest=way == "max")
    return Runs(Run(record, client=client) for record in records)


def wait(runs: Iterable[Run[Any]], timeout: float | None = None) -> tuple[list[Run[Any]], list[Run[Any]]]:
    """Wait for all of `runs`, `timeout` seconds at most; return (done, not done)."""
    limit = None if timeout is None else time.monotonic() + timeout
    items = list(runs)
    for item in items:
        item._see_through()  # all of them at once, and not one after the other
    for item in items:
        item.wait(None if limit is None else max(0.0, limit - time.monotonic()))
    return [item for item in items if item.done()], [item for item in items if not item.done()]


def as_completed(runs: Iterable[Run[R]], timeout: float | None = None) -> Iterator[Run[R]]:
    """Yield each of `runs` as it ends; raise ResultTimeoutError if one has not after `timeout` seconds."""
    limit = None if timeout is None else time.monotonic() + timeout
    pending = list(dict.fromkeys(runs))
    news = threading.Event()
    for item in pending:
        item.add_done_callback(lambda _: news.set())
    while pending:
        news.clear()
        over = [item for item in pending if item.done()]
        pending = [item for item in pending if item not in over]
        yield from over
        if pending and not over:
            if limit is not None and time.monotonic() >= limit:
                raise ResultTimeoutError(
                    f"{_count(len(pending))} had not ended after {timeout:g} s, {pending[0]!r} among them."
                )
            news.wait(0.5 if limit is None else min(0.5, max(0.0, limit - time.monotonic())))


def rebuild(failure: RemoteFailure, client: Client, *, where: str) -> BaseException:
    """Return a run's failure as an exception: the user's own type where it can be, with the run's traceback under it."""
    error = _unpickled(failure, client) or _own_error(failure)
    if error is None or isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        what = (
            f"exit code {failure.exit_code}" if failure.exit_code is not None else f"{failure.type}: {failure.message}"
        )
        ended = errors.WorkerDiedError if isinstance(error, SystemExit) else errors.RemoteError
        error = ended(f"{where} ended with {what}.")
    if failure.traceback:
        error.__cause__ = RemoteTracebackError(failure.traceback)
    return error


def _unpickled(failure: RemoteFailure, client: Client) -> BaseException | None:
    if failure.pickle is None:
        return None
    try:
        error = client.codec().unpickle_failure(base64.b64decode(failure.pickle))
    except Exception:  # noqa: BLE001 - its module may be gone or changed; its text is still there
        return None
    return error if isinstance(error, BaseException) else None


def _own_error(failure: RemoteFailure) -> MlfnError | None:
    module, _, name = failure.type.rpartition(".")
    kind = getattr(errors, name, None) if module == "mlfn.errors" else None
    return kind(failure.message) if isinstance(kind, type) and issubclass(kind, MlfnError) else None


def _states(state: str | Sequence[str] | None) -> tuple[str, ...]:
    given = () if state is None else (state,) if isinstance(state, str) else tuple(state)
    allowed = [str(item) for item in RunState]
    for item in given:
        if str(item) not in allowed:
            raise ParameterError(f"runs(state={item!r}): {nearest(str(item), allowed)}")
    return tuple(str(item) for item in given)


def _count(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
