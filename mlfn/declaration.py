"""`@function` and `@handler`: a declaration records; calling it is plain Python; `submit` makes a run of it."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from mlfn import user_context
from mlfn.errors import DeclarationError, OptionError
from mlfn.hints import annotated, context_parameter
from mlfn.secrets import withhold
from mlfn.spec.options import check_name, check_options, merge_options, refuse_unknown
from mlfn.spec.values import UNSET
from mlfn.user_context import Context

if TYPE_CHECKING:
    from mlfn.capture import Capture
    from mlfn.handle import Run
    from mlfn.planner import Plan
    from mlfn.settings import Settings
    from mlfn.signature import Signature
    from mlfn.sweep.description import Sweep

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
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
        self._options = {name: _own_copy(value) for name, value in options.items()}
        self._outputs = outputs
        self._place = place
        self._context = context_parameter(function)
        self._lock = threading.Lock()
        self._described: _Described | None = None
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
        _refuse_source(merged)
        _check(merged)
        return Function(self._function, merged, self._outputs, self._place)

    def on(self, place: str, **options: Any) -> Function[P, C, R]:
        """Return another Function that runs at `place`, with that place's own options."""
        from mlfn.planner import check_place

        check_place(place, options)
        return Function(self._function, self._options, self._outputs, (place, options))

    def grid(self, points: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **values: Any) -> Sweep[R]:
        """Describe one child run for every combination of the values; the first key varies fastest.

        Parameters
        ----------
        points: values by name where a keyword cannot say it, as in ``{"model.depth": [4, 8]}``; or the path of a CSV, JSON
            or YAML file.
        values: a list of values for each parameter.

        >>> import mlfn
        >>> @mlfn.function
        ... def train(depth: int, lr: float = 0.1) -> float:
        ...     return depth * lr
        >>> list(train.grid(depth=[4, 8], lr=[0.3, 0.1]))[:2]
        [{'depth': 4, 'lr': 0.3}, {'depth': 8, 'lr': 0.3}]
        """
        from mlfn.sweep import description

        return description.grid(self, points, values)

    def zip(self, points: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **values: Any) -> Sweep[R]:
        """Describe one child run for the first values of all lists, one for the second, and so on; or for the rows of a file."""
        from mlfn.sweep import description

        return description.zipped(self, points, values)

    def random(
        self,
        points: Mapping[str, Any] | None = None,
        /,
        *,
        n: int,
        seed: int | None = None,
        method: str = "random",
        **spaces: Any,
    ) -> Sweep[R]:
        """Describe `n` child runs with parameters drawn from spaces; a list is a choice.

        `method` is ``"random"``, ``"latin"`` (each of `n` equal shares of a distribution once) or ``"qmc"`` (a sequence
        that spreads evenly). The same seed draws the same on every machine; without one, one is drawn and kept.
        """
        from mlfn.sweep import description

        return description.drawn(self, points, spaces, n=n, seed=seed, method=method)

    def search(
        self,
        points: Mapping[str, Any] | None = None,
        /,
        *,
        n: int,
        sampler: Any = "tpe",
        pruner: Any = None,
        seed: int | None = None,
        first: Sequence[Mapping[str, Any]] = (),
        **spaces: Any,
    ) -> Sweep[R]:
        """Describe `n` child runs whose parameters a sampler chooses by what the earlier ones came to.

        Parameters
        ----------
        sampler: ``"tpe"``, ``"cmaes"``, ``"gp"``, ``"nsga2"``, ``"qmc"``, ``"random"``, or a sampler of Optuna's.
        pruner: ``"median"``, ``"percentile"``, ``"hyperband"``, ``"asha"``, ``"patient"``, ``"threshold"``, ``"wilcoxon"``, or
            a pruner of Optuna's: ends a child early whose `Context.log_metric` shows that it will not be the best.
        first: points to begin with.
        """
        from mlfn.sweep import description

        return description.searched(self, points, spaces, n=n, sampler=sampler, pruner=pruner, seed=seed, first=first)

    def sweep(self, points: Any, /) -> Sweep[R]:
        """Describe the child runs whose parameters an iterable yields, or an object with ``ask()`` and ``tell()`` chooses."""
        from mlfn.sweep import description

        return description.given(self, points)

    def map(self, *lists: Any, **values: Any) -> Sweep[R]:
        """Describe one child run for each item of the lists; the submitted sweep yields what they return, in order."""
        from mlfn.sweep import description

        return description.mapped(self, lists, values)

    def check(self) -> Capture:
        """Say how the code travels: by import path or by value, with which modules, and what is large.

        Raises UnpicklableError, with the path to the value, where it cannot travel.
        """
        from mlfn.capture import capture

        captured = capture(self._function)
        captured.payload(b"never leaves this process")  # so that asking makes no key
        return captured

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return as YAML what `submit` with these parameters would create; creates nothing."""
        from mlfn.spec.text import to_yaml

        return to_yaml(self._planned(args, kwargs))

    def _planned(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        from mlfn.planner import check_place, shown_param
        from mlfn.spec.canonical import spec_hash

        described = self._describe()
        place, options = self._place or (described.settings.on, {})
        check_place(place, options)
        signature = self._signed()
        params = signature.check(signature.bind(args, kwargs))
        return {
            "function": {"hash": spec_hash(described.spec), **described.spec},
            "place": {"name": place, "options": dict(options)},
            "params": {name: shown_param(value) for name, value in params.items()},
        }

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical spec: the same on every machine, new on any change."""
        from mlfn.spec.canonical import spec_hash

        return spec_hash(self._describe().spec)

    @property
    def spec(self) -> dict[str, Any]:
        """The canonical spec that the hash is made of, and the labels."""
        return copy.deepcopy(dict(self._describe().spec))

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
        from mlfn.submission import submit, tell_large, tell_limits

        client = current_client()
        if self._prepared is None:
            client.warm(*(self._place or (client.settings.on, {})))
        prepared = self._prepare()
        signature = self._signed()
        params = signature.check(signature.bind(args, kwargs))
        tell_large(prepared.described.capture.large)
        tell_limits({**prepared.plan.body, "node": prepared.plan.spec.get("node")})
        return Run(*submit(client, prepared.plan, prepared.payload, self._function, params), client=client)

    def _head_start(self) -> None:
        """Let the first workers start while this side still loads what it needs."""
        if "mlfn.client" in sys.modules:
            return
        from mlfn import settings
        from mlfn.registry import head_start

        head_start(self._place[0] if self._place else settings.current().on)

    def _call_with_context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._context in kwargs or any(isinstance(arg, Context) for arg in args):
            return self._function(*args, **kwargs)
        args_, kwargs_ = self._signed().arguments(args, kwargs, user_context.context())
        return self._function(*args_, **kwargs_)

    def _signed(self) -> Signature:
        if self._signature is None:
            from mlfn.signature import Signature

            self._signature = Signature(self._function, self._name)
        return self._signature

    def _describe(self) -> _Described:
        """Return code and spec as they are here and now; creates nothing."""
        from mlfn import settings
        from mlfn.planner import working_folder

        current = settings.current()
        where = (current, working_folder(), tuple(sys.path))
        described = self._described
        if described is not None and described.where == where and described.capture.is_current():
            return described
        with self._lock:
            self._described = self._freshly_described(where, current)
            return self._described

    def _freshly_described(self, where: tuple[Any, ...], current: Settings) -> _Described:
        from mlfn.capture import capture
        from mlfn.planner import make_spec

        captured = capture(self._function)
        options = check_options(self._options)
        spec = make_spec(
            options, captured, outputs=self._outputs, name=self._name, project=options.project or current.project
        )
        return _Described(where, current, captured, spec)

    def _prepare(self) -> _Prepared:
        described = self._describe()
        prepared = self._prepared
        if prepared is None or prepared.described is not described:
            prepared = self._prepared = self._freshly_prepared(described)
        return prepared

    def _freshly_prepared(self, described: _Described) -> _Prepared:
        from mlfn import settings
        from mlfn.planner import make_plan

        signature = self._signed()
        payload = described.capture.payload(settings.signing_key())
        place, place_options = self._place or (described.settings.on, {})
        plan = make_plan(
            described.spec,
            payload=payload,
            capture=described.capture,
            shape=signature.shape,
            accepts=signature.parameters,
            inputs=signature.inputs(),
            defaults=signature.defaults(),
            place=place,
            place_options=place_options,
        )
        return _Prepared(described, plan, payload)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Function[P, C, R]: ...
    @overload
    def __get__(
        self: Function[Concatenate[S, Q], C, R], instance: S, owner: type | None = None
    ) -> Function[Q, C, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind like a function when a class holds it: a method can be called, and submitted with its object."""
        if instance is None or not hasattr(self._function, "__get__"):
            return self
        return Function(self._function.__get__(instance, owner), self._options, self._outputs, self._place)

    def __repr__(self) -> str:
        return f"<mlfn.Function {self._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The state comes after the object, so that a function that names itself is no endless loop.
        return _empty_function, (), (self._function, self._options, self._outputs, self._place)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class _Described:
    """What the function is, kept while nothing has changed."""

    where: tuple[Any, ...]
    settings: Settings
    capture: Capture
    spec: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What `submit` needs beyond that."""

    described: _Described
    plan: Plan
    payload: bytes


class _Anything:
    """Stands in types for a first parameter that takes anything, which a context is too: it must not be taken out.

    A type checker takes a lambda's parameter for one: it can be reckoned with. No attributes, items or iteration: what has
    those would pass for what parameters are declared as, such as an iterable.
    """

    if TYPE_CHECKING:

        def __add__(self, _: Any, /) -> Any: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __add__
        __lt__ = __le__ = __gt__ = __ge__ = __add__


class Declare:
    """What `@function(...)` returns: it waits for the function."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    @overload
    def __call__(
        self, function: Callable[Concatenate[_Anything, P], Coroutine[Any, Any, R]], /
    ) -> Function[..., Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[_Anything, P], R], /) -> Function[..., R, R]: ...
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
    function: Callable[Concatenate[_Anything, P], Coroutine[Any, Any, R]], /
) -> Function[..., Coroutine[Any, Any, R], R]: ...
@overload
def function(function: Callable[Concatenate[_Anything, P], R], /) -> Function[..., R, R]: ...
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
def handler(function: Any = None, /, *, outputs: Sequence[str] = (), **unknown: Any) -> Any:
    """Say how a function's returned values are named: one name a value, in the order of the returned tuple.

    Above or below `@function`, or alone: the function itself stays as it is. Raises OptionError for another option.
    """
    refuse_unknown(unknown, ("outputs",), where="@handler", elsewhere=_OF_FUNCTION)
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
_OF_FUNCTION: dict[str, str] = dict.fromkeys(_OPTIONS, "it is one of the other decorator, @mlfn.function.")


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
    _refuse_generator(function, name)
    if name == "<lambda>":
        raise DeclarationError(
            "A lambda has no name to be found by: give it one, as in mlfn.function(name='score')(lambda x: x)."
        )
    _refuse_source(options)
    named = {**options, "name": name}
    _check(named)
    return Function(function, named, getattr(function, _OUTPUTS, ()))


def _refuse_source(options: Mapping[str, Any]) -> None:
    if options.get("source", UNSET) not in (None, UNSET):
        raise OptionError(
            f"source={options['source']!r}: on a function that is here already it would be a second one; leave it out."
        )


def _refuse_generator(function: Any, name: Any) -> None:
    code = annotated(function)
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise DeclarationError(
            f"@function got the generator function {name}: what it yields ends with its process and cannot be kept. "
            "Return a list, or log each item with ctx.log_result()."
        )


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
    withhold(checked.secrets)
    if checked.kind is not None:
        from mlfn.registry import kind_options

        kind_options(checked.kind)


def _own_copy(value: Any) -> Any:
    """Return a copy of a container, so that what its owner does to it later changes no declaration."""
    return copy.copy(value) if isinstance(value, (dict, list, set)) else value


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
