"""`@function` and `@handler`: a declaration records; calling it is plain Python; `submit` makes a run of it."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from mlfn import user_context
from mlfn.errors import DeclarationError, OptionError
from mlfn.hints import context_parameter
from mlfn.spec.options import check_name, check_options, merge_options, refuse_unknown
from mlfn.spec.values import UNSET
from mlfn.user_context import Context

if TYPE_CHECKING:
    from mlfn.capture import Capture
    from mlfn.handle import Run
    from mlfn.planner import Plan
    from mlfn.settings import Settings
    from mlfn.signature import Signature

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")
_OUTPUTS = "__mlfn_outputs__"


class Function(Generic[P, C, R]):
    """A declared function: called it is the plain function, submitted it is a durable run.

    Immutable: `with_options` and `on` return another one. `C` is what a plain call returns (a coroutine, for an
    ``async def``), `R` what `Run.result` returns.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: Mapping[str, Any],
        outputs: tuple[str, ...] = (),
        place: tuple[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._function = function
        self._options = dict(options)
        self._outputs = outputs
        self._place = place
        self._context = context_parameter(function)
        self._lock = threading.Lock()
        self._prepared: _Prepared | None = None
        self._signature: Signature | None = None
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the plain function: no store, no packing."""
        if self._context is None:
            return self._function(*args, **kwargs)  # type: ignore[no-any-return]
        return self._call_with_context(args, kwargs)  # type: ignore[no-any-return]

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Submit a run with the function's own parameters; returns at once (inline: when it is over).

        A wrong, missing or misfitting parameter raises ParameterError before anything starts; a text for a DataFrame
        parameter names an input to read, an output of another run is waited for.
        """
        return self._submit(args, kwargs)

    def with_options(self, **options: Any) -> Function[P, C, R]:
        """Return another Function with `options` changed: mappings merge, `UNSET` removes."""
        refuse_unknown(options, _OPTIONS, where=f"{self._name}.with_options()")
        merged = merge_options(self._options, options)
        _check(merged)
        return Function(self._function, merged, self._outputs, self._place)

    def on(self, place: str, **options: Any) -> Function[P, C, R]:
        """Return another Function that runs at `place`, with that place's own options."""
        from mlfn.planner import check_place

        check_place(place, options)
        return Function(self._function, self._options, self._outputs, (place, options))

    def check(self) -> Capture:
        """Say how the code travels: by import path or by value, with which modules, and what is large.

        Raises UnpicklableError, with the path to the value, where it cannot travel.
        """
        from mlfn import settings
        from mlfn.capture import capture

        captured = capture(self._function)
        captured.payload(settings.signing_key())
        return captured

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return as YAML what `submit` with these parameters would create; creates nothing."""
        from mlfn.spec.text import to_yaml

        return to_yaml(self._planned(args, kwargs))

    def _planned(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        prepared = self._prepare()
        params = prepared.signature.check(prepared.signature.bind(args, kwargs))
        return {
            "function": {"hash": prepared.plan.function, **prepared.plan.spec},
            "place": prepared.plan.body["place"],
            "params": {name: repr(value) for name, value in params.items()},
        }

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical spec: the same on every machine, new on any change."""
        return self._prepare().plan.function

    @property
    def spec(self) -> dict[str, Any]:
        """The canonical spec that the hash is made of, and the labels."""
        return dict(self._prepare().plan.spec)

    @property
    def __mlfn_function__(self) -> Callable[..., Any]:
        return self._function

    @property
    def _name(self) -> str:
        return str(self._options.get("name") or getattr(self, "__name__", type(self._function).__name__))

    def _submit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run[R]:
        if self._prepared is None:
            self._head_start()
        from mlfn.client import current_client
        from mlfn.handle import Run
        from mlfn.submission import submit, tell_limits

        client = current_client()
        if self._prepared is None:
            client.warm(*(self._place or (client.settings.on, {})))
        prepared = self._prepare()
        params = prepared.signature.check(prepared.signature.bind(args, kwargs))
        tell_limits(prepared.plan, prepared.capture.large)
        return Run(*submit(client, prepared.plan, prepared.payload, self._function, params), client=client)

    def _head_start(self) -> None:
        """Let the first worker start while this side still loads what it needs."""
        if "mlfn.client" in sys.modules:
            return
        from mlfn import settings
        from mlfn.registry import head_start

        head_start(self._place[0] if self._place else settings.current().on)

    def _call_with_context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context = self._context
        if context in kwargs:
            return self._function(*args, **kwargs)
        bound = self._signed().bind_call(args, kwargs)
        return self._function(*bound.args, **{**bound.kwargs, str(context): user_context.context()})

    def _signed(self) -> Signature:
        if self._signature is None:
            from mlfn.signature import Signature

            self._signature = Signature(self._function, self._name)
        return self._signature

    def _prepare(self) -> _Prepared:
        from mlfn import settings
        from mlfn.planner import working_folder

        current = settings.current()
        where = (current, working_folder(), tuple(sys.path))
        prepared = self._prepared
        if prepared is not None and prepared.where == where and prepared.capture.is_current():
            return prepared
        with self._lock:
            self._prepared = self._freshly_prepared(where, current)
            return self._prepared

    def _freshly_prepared(self, where: tuple[Any, ...], current: Settings) -> _Prepared:
        from mlfn import settings
        from mlfn.capture import capture
        from mlfn.planner import make_plan, make_spec

        signature = self._signed()
        captured = capture(self._function)
        payload = captured.payload(settings.signing_key())
        options = check_options(self._options)
        spec = make_spec(
            options, captured, outputs=self._outputs, name=self._name, project=options.project or current.project
        )
        place, place_options = self._place or (current.on, {})
        plan = make_plan(
            spec,
            payload=payload,
            capture=captured,
            shape=signature.shape,
            accepts=signature.parameters,
            place=place,
            place_options=place_options,
        )
        return _Prepared(where, captured, signature, plan, payload)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind like a function when a class holds it: a plain call of a method works."""
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<mlfn.Function {self._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The state comes after the object, so that a function that names itself is no endless loop.
        return _empty_function, (), (self._function, self._options, self._outputs, self._place)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]


class _Prepared:
    """What `submit` needs and can keep while nothing has changed."""

    __slots__ = ("capture", "payload", "plan", "signature", "where")

    def __init__(
        self, where: tuple[Any, ...], capture: Capture, signature: Signature, plan: Plan, payload: bytes
    ) -> None:
        self.where = where
        self.capture = capture
        self.signature = signature
        self.plan = plan
        self.payload = payload


class Declare:
    """What `@function(...)` returns: it waits for the function."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> Function[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Function[P, R, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Function[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Function[P, R, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Function[..., Any, Any]:
        return _declare(function, self._options)


@overload
def function(
    function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
) -> Function[P, Coroutine[Any, Any, R], R]: ...
@overload
def function(function: Callable[Concatenate[Context, P], R], /) -> Function[P, R, R]: ...
@overload
def function(function: Callable[P, Coroutine[Any, Any, R]], /) -> Function[P, Coroutine[Any, Any, R], R]: ...
@overload
def function(function: Callable[P, R], /) -> Function[P, R, R]: ...
@overload
def function(**options: Any) -> Declare: ...
def function(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a function that can be submitted; bare, or with options.

    Options: name, project, kind, image, requirements, cpu, mem, gpus, env, secrets, node, retry, timeout, source, labels.
    Raises OptionError for one that is unknown or does not fit. Decorating records: nothing is opened or imported.

    >>> import mlfn
    >>> @mlfn.function(cpu=2, timeout="10m")
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(4)
    8
    """
    refuse_unknown(options, _OPTIONS, where="@function")
    if function is None:
        _check(options)
        return Declare(options)
    return _declare(function, options)


class DeclareHandler:
    """What `@handler(...)` returns: it waits for the function."""

    def __init__(self, outputs: tuple[str, ...]) -> None:
        self._outputs = outputs

    def __call__(self, function: C, /) -> C:
        return cast("C", _with_outputs(function, self._outputs))


@overload
def handler(function: C, /) -> C: ...
@overload
def handler(*, outputs: Sequence[str] = ()) -> DeclareHandler: ...
def handler(function: Any = None, /, *, outputs: Sequence[str] = ()) -> Any:
    """Say how a function's returned values are named: one name a value, in the order of the returned tuple.

    Above or below `@function`, or alone: the function itself stays as it is.
    """
    names = _output_names(outputs)
    return DeclareHandler(names) if function is None else _with_outputs(function, names)


_OPTIONS = (
    "name",
    "project",
    "kind",
    "image",
    "requirements",
    "cpu",
    "mem",
    "gpus",
    "env",
    "secrets",
    "node",
    "retry",
    "timeout",
    "source",
    "labels",
)


def _declare(function: Any, options: Mapping[str, Any]) -> Function[..., Any, Any]:
    if isinstance(function, Function):
        return function.with_options(**options)
    if isinstance(function, (staticmethod, classmethod, property)) or not callable(function):
        raise DeclarationError(
            f"@function got {function!r}: a function, an async function, a class with __call__ or a functools.partial is allowed."
        )
    if isinstance(function, type):
        function = _instance(function)
    name = options.get("name") or getattr(_innermost(function), "__name__", type(function).__name__)
    if name == "<lambda>":
        raise DeclarationError(
            "A lambda has no name to be found by: give it one, as in mlfn.function(name='score')(lambda x: x)."
        )
    if "source" in options:
        raise OptionError(
            f"source={options['source']!r}: on a function that is here already it would be a second one; leave it out."
        )
    _check(options)
    return Function(function, {"name": name, **options}, getattr(function, _OUTPUTS, ()))


def _instance(cls: type) -> Any:
    """Return the object that a class with ``__call__`` is run as."""
    if "__call__" not in vars(cls) and all("__call__" not in vars(base) for base in cls.__mro__[1:-1]):
        raise DeclarationError(
            f"@function got the class {cls.__qualname__}, which has no __call__: define one, or decorate a function."
        )
    try:
        made = cls()
    except TypeError as error:
        raise DeclarationError(
            f"@function got the class {cls.__qualname__}, which cannot be made without arguments ({error}): "
            f"declare an instance, as in mlfn.function(name='...')({cls.__qualname__}(...))."
        ) from error
    made.__dict__.setdefault("__name__", cls.__name__)
    return made


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _check(options: Mapping[str, Any]) -> None:
    """Check on the caller's side; where the code runs, that has been done."""
    if user_context.in_worker:
        return
    checked = check_options({name: value for name, value in options.items() if value is not UNSET})
    if checked.kind is not None:
        from mlfn.registry import kind_options

        kind_options(checked.kind)


def _with_outputs(function: Any, outputs: tuple[str, ...]) -> Any:
    if isinstance(function, Function):
        return Function(function._function, function._options, outputs, function._place)
    try:
        setattr(function, _OUTPUTS, outputs)
    except AttributeError as error:
        raise DeclarationError(
            f"@handler cannot mark {function!r}: use it on a function, or above @function."
        ) from error
    return function


def _output_names(outputs: Any) -> tuple[str, ...]:
    if isinstance(outputs, str) or not isinstance(outputs, Sequence):
        raise OptionError(f"outputs={outputs!r}: a list of names is allowed, as in outputs=['model', 'accuracy'].")
    names = tuple(check_name(name, what="outputs") for name in outputs)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise OptionError(f"outputs={list(names)!r} has {min(twice)!r} twice: each name once.")
    return names


def _empty_function() -> Function[..., Any, Any]:
    return Function.__new__(Function)
