"""`Context`: the run as the user's code sees it while it runs."""

from __future__ import annotations

import contextvars
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, final

from mlfn.errors import ParameterError, PlaceError, SecretNotFoundError
from mlfn.worker.throttle import Throttle
from mlfn.worker.validation import MAX_STEP, as_float, as_step, output_key, refuse_missing, series_name

T = TypeVar("T")
in_worker = False
"""Whether this process is a worker: a declaration then only records, since the caller has checked it."""


class Pruned(BaseException):
    """Raised by `Context.log_metric` when the sweep stops the run; let it pass."""


class Cancelled(BaseException):
    """Raised in the handler when its run is cancelled; no ``except Exception`` swallows it, ``finally`` runs."""


class Reporter:
    """Takes what a context logs; this one keeps it, for a function called outside a run."""

    run_id = ""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.artifacts: dict[str, Any] = {}
        self.metrics: dict[str, list[tuple[int | None, float]]] = {}
        self.constraints: dict[str, float] = {}
        self.children: list[Reporter] = []
        self.best: Reporter | None = None

    def open_child(self, params: Mapping[str, Any]) -> tuple[int, Reporter]:
        """Begin a child; return its number and its reporter."""
        child = Reporter()
        self.children.append(child)
        return len(self.children), child

    def end(self, error: BaseException | None) -> None:
        """End this child: it succeeded, or `error` ended it."""

    def mark_best(self, child: Reporter) -> None:
        """Mark a child that succeeded as the best one; the last one counts."""
        self.best = child

    def metric(self, name: str, step: int | None, value: float) -> str | None:
        """Take one point of a series; return why the run should stop, None to continue."""
        self.metrics.setdefault(name, []).append((step, value))
        return None

    def constraint(self, name: str, value: float) -> None:
        """Take a constraint: above 0 it is violated."""
        self.constraints[name] = value

    def output(self, key: str, value: Any, *, file: bool, hints: Mapping[str, Any]) -> None:
        """Take a result or, with `file`, an artifact."""
        (self.artifacts if file else self.results)[key] = value

    def progress(self, done: int, total: int | None, text: str) -> None:
        """Take the handler's progress."""

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
        size: int = 1,
        local_rank: int = 0,
        params: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        extras: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        self.reporter = reporter or Reporter()
        self.run_id = run_id
        self.name = name
        self.project = project
        self.attempt = attempt
        self.iteration = iteration
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.params: Mapping[str, Any] = params or {}
        self.labels: Mapping[str, str] = labels or {}
        self._extras = extras or {}
        self._series: set[str] = set()  # names that are checked

    @property
    def logger(self) -> logging.Logger:
        """A logger that writes to the run's log."""
        return logging.getLogger(f"mlfn.run.{self.name}")

    def log_metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Add a point to a series; raises `Pruned` when the run's sweep stops it.

        Parameters
        ----------
        name: the series, as in ``"val.loss"``.
        value: one number (NumPy and tensor scalars too); NaN and infinities are kept as they are. It is kept as a float of
            64 bits: a whole number beyond 2**53 is rounded, and `log_result` keeps it whole.
        step: where on the axis, usually the epoch.
        """
        reporter = self._reporting()
        # What is right already is not checked by a call: a handler may log a hundred thousand points.
        if type(value) is not float:
            value = as_float(name, value)
        if type(name) is not str or name not in self._series:
            self._series.add(series_name(name))
        if step is not None and (type(step) is not int or not -MAX_STEP <= step < MAX_STEP):
            step = as_step(name, step)
        why = reporter.metric(name, step, value)
        if why is not None:
            raise Pruned(f"{name}={value!r} at step {step!r}: {why}")

    def log_constraint(self, name: str, value: float) -> None:
        """Report how far the run is from what is allowed: 0 or less is feasible, above 0 is not.

        A child that violates a constraint is never its sweep's best, and a search learns from it, as in
        ``ctx.log_constraint("mem_gb", used - 16)``.
        """
        self._reporting().constraint(series_name(name), as_float(name, value))

    def log_result(self, key: str, value: Any) -> None:
        """Keep a value as a named output; the last one under a name wins."""
        self._reporting().output(output_key(key), value, file=False, hints={})

    def log_artifact(self, key: str, value: Any) -> None:
        """Keep a value, or the file or folder a `pathlib.Path` names, as an artifact; OutputError where none is there."""
        refuse_missing("log_artifact", output_key(key), value)
        self._reporting().output(output_key(key), value, file=True, hints={})

    def log_model(self, key: str, model: Any, *, framework: str | None = None) -> None:
        """Keep a model, or the file or folder it was saved to, as an artifact, with the framework that made it."""
        refuse_missing("log_model", output_key(key), model)
        self._reporting().output(output_key(key), model, file=True, hints={"framework": framework} if framework else {})

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
        return ChildContext(self, params, self._reporting)

    def progress(self, items: Iterable[T], *, total: int | None = None, text: str = "") -> Iterator[T]:
        """Yield `items` and report how many are done, ten times a second at most; ``len`` of it is the total, if known."""
        count = total if total is not None else len(items) if isinstance(items, Sized) else None
        reported = self._progress(items, count, text)
        return reported if count is None else _Counted(reported, count)

    def _progress(self, items: Iterable[T], count: int | None, text: str) -> Iterator[T]:
        shown = Throttle(lambda done: self.reporter.progress(done, count, text))
        done = 0
        shown.update(0)
        try:
            for item in items:
                yield item
                done += 1
                shown.update(done)
        finally:
            shown.finish(done)

    @property
    def dask_client(self) -> Any:
        """A `distributed.Client` of the cluster that the run is a task of: it fans out from there.

        The task's thread is then free for other tasks while the handler waits for its own.

        Raises:
            PlaceError: the run is no task of a Dask cluster.

        """
        if (make := self._extras.get("dask_client")) is None:
            raise PlaceError(
                f"{self.name} is no task of a Dask cluster, so ctx.dask_client is not there: declare it with "
                "@mlfn.function(kind=mlfn.Dask()) and submit it."
            )
        return make()

    def secret(self, name: str) -> str:
        """Return the value of a secret that the function named in ``secrets=``."""
        return self.reporter.secret(name)

    def _reporting(self) -> Reporter:
        """Return the reporter; raise if the context is not open."""
        return self.reporter

    def _innermost(self) -> Context:
        """Return this context, or where it has ended the one around it."""
        return self


class _Counted(Iterator[T]):
    """An iterator that knows how many items it has: a progress bar around it asks for that."""

    def __init__(self, items: Iterator[T], count: int) -> None:
        self._items = items
        self._count = count

    def __next__(self) -> T:
        return next(self._items)

    def __len__(self) -> int:
        return self._count


@final
class ChildContext(Context):
    """A child of a run, as `Context.child` makes it: it reports as its parent does, within its ``with`` block.

    `mlfn.context()` is the child there, in this thread.
    """

    def __init__(self, parent: Context, params: Mapping[str, Any], parent_reporter: Callable[[], Reporter]) -> None:
        super().__init__(
            reporter=parent.reporter,
            name=parent.name,
            project=parent.project,
            rank=parent.rank,
            size=parent.size,
            local_rank=parent.local_rank,
            params=params,
            labels=parent.labels,
            extras=parent._extras,
        )
        self._parent = parent
        self._parent_reporter = parent_reporter
        self._outer: Context | None = None
        self._state = "new"
        self._is_best = False

    def __enter__(self) -> ChildContext:
        if self._state != "new":
            raise ParameterError(f"{self._named()} is opened once: call child() again for another one.")
        self.iteration, self.reporter = self._parent_reporter().open_child(self.params)
        self.run_id, self._state = self.reporter.run_id, "open"
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if _current.get() is self:  # else another one, opened after it, is still open
            _current.set(self._outer)
        self._state = "succeeded" if error is None else "ended"
        self.reporter.end(error)
        self._report_best()

    def mark_best(self) -> None:
        """Give the parent this child's outputs, and its number as ``best_iteration``, when the parent ends.

        The child has to succeed, and the last one marked counts. An output that the handler itself logs or returns
        under the same name stays.
        """
        if self._state in ("new", "ended"):
            raise ParameterError(f"{self._named()} did not succeed: mark one that did, or this one within its block.")
        self._is_best = True
        self._report_best()

    def _innermost(self) -> Context:
        return self if self._state == "open" else self._parent._innermost()

    def _report_best(self) -> None:
        if self._is_best and self._state == "succeeded":
            self._parent_reporter().mark_best(self.reporter)

    def _reporting(self) -> Reporter:
        if self._state != "open":
            state = "is not open" if self._state == "new" else "has ended"
            raise ParameterError(f"{self._named()} {state}: report within `with ctx.child(...) as child:`.")
        return self.reporter

    def _named(self) -> str:
        given = ", ".join(f"{name}=..." for name in self.params)
        return f"Child {self.iteration} of {self.name}" if self.iteration else f"child({given}) of {self.name}"


def context() -> Context:
    """Return the context of the run that this code is in, or a local one outside any.

    It is for code far below the handler that gets no context passed. A local one is new at every call and keeps what is
    logged in its `reporter`; a thread that the handler starts itself is outside the run, unless it was given a copy of
    the handler's `contextvars`.

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
    ctx = _current.get()
    return None if ctx is None else ctx._innermost()


def call_within(ctx: Context, call: Callable[[], T]) -> T:
    """Call with `ctx` as the current context."""
    token = _current.set(ctx)
    try:
        return call()
    finally:
        _current.reset(token)


def annotated(function: Callable[..., Any]) -> Any:
    """Return what carries the annotations of a function, partial or callable object."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return vars(function).get("__init__", function) if isinstance(function, type) else function
    return type(function).__call__


def raw_annotations(target: Any) -> dict[str, Any]:
    """Return annotations unresolved where they are texts."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(target, format=annotationlib.Format.FORWARDREF))
    return dict(getattr(target, "__annotations__", {}))
