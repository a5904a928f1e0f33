"""What user code sees while it runs: `Context`, filled in by whoever runs it."""

from __future__ import annotations

import contextvars
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import Any, TypeVar, final

from mlfn.errors import OutputError, ParameterError, SecretNotFoundError, meant

T = TypeVar("T")
in_worker = False
"""Whether this process runs others' functions: a declaration then only records, its caller has checked it."""
_PROGRESS_EVERY = 0.1  # seconds between two reports of progress


class Pruned(BaseException):
    """Raised by `Context.log_metric` when the sweep says stop; let it pass."""


class Cancelled(BaseException):
    """Raised in the handler when its run is cancelled; no ``except Exception`` swallows it, ``finally`` runs."""


class Reporter:
    """Where a context's reports go; this one keeps them, for a function called outside a run."""

    run_id = ""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.artifacts: dict[str, Any] = {}
        self.metrics: dict[str, list[tuple[int | None, float]]] = {}
        self.constraints: dict[str, float] = {}
        self.children: list[Reporter] = []
        self.best: Reporter | None = None

    def open_child(self, params: Mapping[str, Any]) -> tuple[int, Reporter]:
        """Begin a child; return its number and where its reports go."""
        child = Reporter()
        self.children.append(child)
        return len(self.children), child

    def end(self, error: BaseException | None) -> None:
        """End this child: it succeeded, or `error` ended it."""

    def mark_best(self, child: Reporter) -> None:
        """Take a child that succeeded for the best one; the last one counts."""
        self.best = child

    def metric(self, name: str, step: int | None, value: float) -> str | None:
        """Take one point of a series; a text says why the run should stop."""
        self.metrics.setdefault(name, []).append((step, value))
        return None

    def constraint(self, name: str, value: float) -> None:
        """Take a constraint: above 0 it is violated."""
        self.constraints[name] = value

    def output(self, key: str, value: Any, *, file: bool, hints: Mapping[str, Any]) -> None:
        """Take a result or, with `file`, an artifact."""
        (self.artifacts if file else self.results)[key] = value

    def progress(self, done: int, total: int | None, text: str) -> None:
        """Take how far the handler is."""

    def secret(self, name: str) -> str:
        """Return a secret's value, if this run named it."""
        raise SecretNotFoundError(
            f"No secret {name!r} here: name it in @mlfn.function(secrets=[{name!r}]) and submit; "
            "a plain call has no secrets."
        )


class Context:
    """The run as its handler sees it: where it is, and where to report.

    A parameter annotated with it, or called ``context``, is filled in and is no part of what a caller passes. Put it
    first: from there type checkers can take it out of what `submit` and a plain call accept, from elsewhere they
    cannot. Outside a run `mlfn.context()` gives one that keeps what is logged in its `reporter`, so that the same
    function works when it is called plainly.

    >>> import mlfn
    >>> @mlfn.function
    ... def train(ctx: mlfn.Context, epochs: int = 3) -> int:
    ...     for epoch in ctx.progress(range(epochs)):
    ...         ctx.log_metric("loss", 1 / (epoch + 1), step=epoch)
    ...     return epochs
    >>> train(epochs=2)
    2
    """

    def __init__(
        self,
        *,
        reporter: Reporter | None = None,
        run_id: str = "",
        name: str = "local",
        project: str = "",
        attempt: int = 1,
        iteration: int = 0,
        rank: int = 0,
        params: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.reporter = reporter or Reporter()
        self.run_id = run_id
        self.name = name
        self.project = project
        self.attempt = attempt
        self.iteration = iteration
        self.rank = rank
        self.params: Mapping[str, Any] = params or {}
        self.labels: Mapping[str, str] = labels or {}
        self.logger = logging.getLogger(f"mlfn.run.{name}")

    def log_metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Add a point to a series; raises `Pruned` when the run's sweep says stop.

        Parameters
        ----------
        name: the series, as in ``"val.loss"``.
        value: one number (NumPy and tensor scalars too); NaN and infinities are kept as they are. It is kept as a float of
            64 bits: a whole number beyond 2**53 is rounded, and `log_result` keeps it whole.
        step: where on the axis, usually the epoch.
        """
        number = _as_float(name, value)
        why = self._reporting().metric(_series(name), step if step is None else _as_step(name, step), number)
        if why is not None:
            raise Pruned(f"{name}={number!r} at step {step!r}: {why}")

    def log_constraint(self, name: str, value: float) -> None:
        """Say how far the run is from what is allowed: 0 or less is feasible, above 0 is not.

        A child that violates a constraint is never its sweep's best, and a search learns from it, as in
        ``ctx.log_constraint("mem_gb", used - 16)``.
        """
        self._reporting().constraint(_series(name), _as_float(name, value))

    def log_result(self, key: str, value: Any) -> None:
        """Keep a value as a named output; the last one under a name wins."""
        self._reporting().output(_key(key), value, file=False, hints={})

    def log_artifact(self, key: str, value: Any) -> None:
        """Keep a value, or the file or folder a `pathlib.Path` names, as an artifact; OutputError where none is there."""
        _refuse_missing("log_artifact", _key(key), value)
        self._reporting().output(_key(key), value, file=True, hints={})

    def log_model(self, key: str, model: Any, *, framework: str | None = None) -> None:
        """Keep a model, or the file or folder it was saved to, as an artifact, with the framework that made it."""
        _refuse_missing("log_model", _key(key), model)
        self._reporting().output(_key(key), model, file=True, hints={"framework": framework} if framework else {})

    def child(self, /, **params: Any) -> ChildContext:
        """Return a child of this run, to be opened by ``with``: a run of its own, with these parameters.

        Children are numbered from 1 in the order in which they are opened, and several may be open at once. Leaving the
        block ends one: as succeeded, or as failed with the exception that left it, which goes on to the handler.

        >>> import mlfn
        >>> ctx = mlfn.context()
        >>> for depth in (4, 8):
        ...     with ctx.child(depth=depth) as child:
        ...         child.log_result("accuracy", 0.5 + depth / 20)
        ...         child.mark_best()
        >>> ctx.reporter.best.results
        {'accuracy': 0.9}
        """
        return ChildContext(self, params)

    def progress(self, items: Iterable[T], *, total: int | None = None, text: str = "") -> Iterator[T]:
        """Yield `items` and report how many are done, ten times a second at most."""
        count = total if total is not None else len(items) if isinstance(items, Sized) else None
        return self._progress(items, count, text)

    def _progress(self, items: Iterable[T], count: int | None, text: str) -> Iterator[T]:
        shown = _Throttle(lambda done: self.reporter.progress(done, count, text))
        done = 0
        shown.tell(0)
        try:
            for item in items:
                yield item
                done += 1
                shown.tell(done)
        finally:
            shown.end(done)

    def secret(self, name: str) -> str:
        """Return the value of a secret that the function named in ``secrets=``."""
        return self.reporter.secret(name)

    def _reporting(self) -> Reporter:
        """Return where reports go; raise if none are taken."""
        return self.reporter


@final
class ChildContext(Context):
    """A child of a run, as `Context.child` makes it: it reports as its parent does, within its ``with`` block.

    `mlfn.context()` is the child there, in this thread.
    """

    def __init__(self, parent: Context, params: Mapping[str, Any]) -> None:
        super().__init__(
            reporter=parent.reporter,
            name=parent.name,
            project=parent.project,
            rank=parent.rank,
            params=params,
            labels=parent.labels,
        )
        self.logger = parent.logger
        self._parent = parent
        self._outer: Context | None = None
        self._state = "new"
        self._is_best = False

    def __enter__(self) -> ChildContext:
        if self._state != "new":
            raise ParameterError(f"{self._named()} is opened once: call child() again for another one.")
        self.iteration, self.reporter = self._parent._reporting().open_child(self.params)
        self.run_id, self._state = self.reporter.run_id, "open"
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if _current.get() is self:  # else another one, opened after it, is still open
            _current.set(self._outer)
        self._state = "succeeded" if error is None else "ended"
        self.reporter.end(error)
        if self._is_best:
            self._tell_best()

    def mark_best(self) -> None:
        """Have the parent carry this child's outputs, and its number as ``best_iteration``, when it ends.

        The child has to succeed, and the last one marked counts. An output that the handler itself logs or returns
        under the same name stays.
        """
        if self._state in ("new", "ended"):
            raise ParameterError(f"{self._named()} did not succeed: mark one that did, or this one within its block.")
        self._is_best = True
        if self._state == "succeeded":
            self._tell_best()

    def _tell_best(self) -> None:
        if self._state == "succeeded":
            self._parent._reporting().mark_best(self.reporter)

    def _reporting(self) -> Reporter:
        if self._state != "open":
            said = "is not open" if self._state == "new" else "has ended"
            raise ParameterError(f"{self._named()} {said}: report within `with ctx.child(...) as child:`.")
        return self.reporter

    def _named(self) -> str:
        given = ", ".join(f"{name}=..." for name in self.params)
        return f"Child {self.iteration} of {self.name}" if self.iteration else f"child({given}) of {self.name}"


class _Throttle:
    """Passes numbers on, ten times a second at most; the latest one within that time, even if no other follows."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._latest = -1
        self._told = -1
        self._next = 0.0
        self._timer: threading.Timer | None = None

    def tell(self, number: int) -> None:
        """Take a number; it is passed on now, or soon."""
        self._latest = number
        if time.monotonic() >= self._next:
            self._pass_on()
        elif self._timer is None:
            self._timer = threading.Timer(_PROGRESS_EVERY, self._pass_on)
            self._timer.daemon = True
            self._timer.start()

    def end(self, number: int) -> None:
        """Pass the last number on, and nothing after it."""
        if self._timer is not None:
            self._timer.cancel()
        self._latest = number
        self._pass_on()
        self._told = number + 1

    def _pass_on(self) -> None:
        with self._lock:
            self._timer = None
            self._next = time.monotonic() + _PROGRESS_EVERY
            if self._latest > self._told:
                self._told = self._latest
                self._report(self._latest)


def context() -> Context:
    """Return the context of the run that this code is in, or a local one outside any.

    For code that is far below the handler and to which nobody passes one. A local one is new at every call and keeps
    what it is told in its `reporter`; a thread that the handler starts itself is outside the run, unless it was given
    a copy of the handler's `contextvars`.

    >>> ctx = context()
    >>> ctx.log_metric("loss", 0.5, step=1)
    >>> ctx.reporter.metrics
    {'loss': [(1, 0.5)]}
    """
    return _innermost() or Context()


_current: contextvars.ContextVar[Context | None] = contextvars.ContextVar("mlfn_context", default=None)


def current_run() -> str | None:
    """Return the id of the run that this code is in; None outside any."""
    ctx = _innermost()
    return ctx.run_id or None if ctx is not None else None


def _innermost() -> Context | None:
    """Return the context that this code is in; where that was a child that has ended, the one around it."""
    ctx = _current.get()
    while isinstance(ctx, ChildContext) and ctx._state != "open":
        ctx = ctx._parent
    return ctx


def call_within(ctx: Context, call: Callable[[], T]) -> T:
    """Call with `ctx` as the current context."""
    token = _current.set(ctx)
    try:
        return call()
    finally:
        _current.reset(token)


def _as_float(name: str, value: Any) -> float:
    if isinstance(value, str):
        raise ParameterError(f"log_metric({name!r}, {value!r}): a number is allowed; keep texts with log_result.")
    try:
        return float(value)
    except OverflowError as error:
        raise ParameterError(
            f"log_metric({name!r}, ...) got a whole number that no float holds; log_result keeps it whole."
        ) from error
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"log_metric({name!r}, ...) got a {type(value).__name__}: one number is allowed; keep other values with log_result."
        ) from error


def _as_step(name: str, step: Any) -> int:
    try:
        number = int(step)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not -(2**63) <= number < 2**63:
        raise ParameterError(f"log_metric({name!r}, step={step!r}): a whole number of 64 bits is allowed.")
    return number


def _refuse_missing(call: str, key: str, value: Any) -> None:
    """Refuse a path that names neither a file nor a folder: kept as a value, a slip would be found when it is too late."""
    if not isinstance(value, os.PathLike) or not hasattr(value, "is_file"):
        return
    path = os.fspath(value)
    try:
        if os.path.isfile(path) or os.path.isdir(path):
            return
        os.stat(path)
    except PermissionError:
        return  # whoever copies it says so
    except (OSError, ValueError):
        pass
    folder, name = os.path.split(os.path.abspath(path))
    near = meant(name, os.listdir(folder)) if os.path.isdir(folder) else f"{folder} is no folder. "
    raise OutputError(
        f"{call}({key!r}, {value!r}): no file or folder is there. {near[:1].upper()}{near[1:]}Write it first and check the "
        f"path; a relative one starts at {os.getcwd()}. log_result keeps a path as it is."
    )


_KEY = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"  # a file is called so
_SERIES = "[A-Za-z0-9_-][A-Za-z0-9_.@/:+-]{0,127}"


def _key(name: str) -> str:
    if name == "return":
        raise ParameterError("'return' is what the function returns: give an output that it logs another name.")
    return _legal(name, _KEY, "an output", "'_', '-' and '.'")


def _series(name: str) -> str:
    return _legal(name, _SERIES, "a metric or constraint", "'_', '-', '.', '/', '@', ':' and '+'")


def _legal(name: str, grammar: str, what: str, signs: str) -> str:
    if isinstance(name, str) and re.fullmatch(grammar, name):
        return name
    near = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:128] if isinstance(name, str) else ""
    hint = f", as in {near!r}" if re.fullmatch(grammar, near) and near.strip("_") else ""
    raise ParameterError(
        f"{name!r} is no name for {what}: letters, digits, {signs} are allowed, 1 to 128 of them, the first a letter, digit, "
        f"'_' or '-'{hint}."
    )
