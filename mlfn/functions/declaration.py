"""`@function` and `@handler`: a declaration records; a call is plain Python; `submit` makes a run."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from mlfn.errors import DeclarationError, OptionError
from mlfn.host.frozen import frozen
from mlfn.settings.secrets import withhold
from mlfn.spec.options import Options, check_name, check_options, merge_options, refuse_unknown
from mlfn.spec.values import UNSET
from mlfn.worker import context as user_context
from mlfn.worker.classic import is_classic, with_init_context
from mlfn.worker.context import Context, annotated
from mlfn.worker.injection import context_parameter

if TYPE_CHECKING:
    from mlfn.code.capture import Capture
    from mlfn.dispatch.planner import Prepared
    from mlfn.dispatch.signature import Signature
    from mlfn.handles.run import Run
    from mlfn.handles.service import Service
    from mlfn.serving.mock import Mock
    from mlfn.settings.declarations import Settings
    from mlfn.spec.function import FunctionSpec
    from mlfn.spec.plan import Selected
    from mlfn.sweep.description import Sweep

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
C = TypeVar("C")
R = TypeVar("R")
_OUTPUTS = "__mlfn_outputs__"


@frozen
class Declared:
    """What is declared of a function; `submitted` is the hash under which it was last submitted."""

    name: str
    options: Mapping[str, Any]
    place: tuple[str, Mapping[str, Any]] | None
    outputs: tuple[str, ...]
    submitted: str | None


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
        # Containers are copied: later changes to the caller's own change no declaration.
        self._options = {
            name: copy.copy(value) if isinstance(value, (dict, list, set)) else value for name, value in options.items()
        }
        self._outputs = outputs
        self._place = place
        self._lock = threading.Lock()
        self._described: _Described | None = None
        self._prepared: Prepared | None = None
        self._signature: Signature | None = None
        functools.update_wrapper(self, function, updated=())

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the plain function: no store, no packing."""
        if self._context is None or self._context in kwargs or any(isinstance(arg, Context) for arg in args):
            return self._function(*args, **kwargs)  # type: ignore[no-any-return]
        positional, named = self.__mlfn_signature__.arguments(args, kwargs, user_context.context())
        return self._function(*positional, **named)  # type: ignore[no-any-return]

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]:
        """Submit a run with the function's own parameters; returns at once (inline: when it is over).

        A wrong, missing or misfitting parameter raises ParameterError before anything starts; a text for a DataFrame
        parameter names an input to read, an output of another run is waited for.
        """
        if self._prepared is None:
            self.__mlfn_head_start__()
        from mlfn.dispatch.session import current_session
        from mlfn.dispatch.submit import refuse_unmet, submit, warn_of_large
        from mlfn.handles.run import Run

        if self._prepared is None:
            session = current_session()
            session.warm(self._engine(session.settings.on))
        prepared = self.__mlfn_prepare__()
        assert self._described is not None
        session = current_session(self._described.settings)
        signature = self.__mlfn_signature__
        params = signature.check(signature.bind(args, kwargs))
        warn_of_large(prepared.capture.large)
        refuse_unmet(prepared.plan)
        return Run(*submit(session, prepared, self._function, params), session=session)

    def mock(self, *, secrets: Mapping[str, str] | None = None) -> Mock:
        """Return this function's service without a server, for tests: the same checks, answers and errors, no socket.

        `secrets` are values by name, for those that this machine does not have.

        >>> import mlfn
        >>> @mlfn.function(kind="nuclio")
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double.mock().post({"x": 4}).json()
        8
        >>> double.mock().post({"x": "four"}).status
        400
        """
        from mlfn.serving.make import make_mock

        options = check_options(self._options)
        kind = self._service_kind("mock")
        return make_mock(
            self._code, options, kind=kind, name=self.__mlfn_name__, outputs=self._outputs, secrets=secrets
        )

    def deploy(self, *, again: bool = False, on: str | None = None, **options: Any) -> Service:
        """Deploy the function as a service that outlives this process, and return it once it is ready.

        `on` is the place, with its options, as `on` takes them: ``deploy(on="kubernetes", namespace="ml")``.
        Of a version that is deployed already nothing is done, which is said, unless `again`. Raises ServiceError, with the
        end of its log, where it does not begin; a version before it goes on.
        """
        from mlfn.dispatch.session import current_session
        from mlfn.handles.services import deploy

        if on is not None:
            return self.on(on, **options).deploy(again=again)
        refuse_unknown(options, ("again", "on"), where=f"{self.__mlfn_name__}.deploy()", elsewhere={})
        self._service_kind("deploy")
        prepared = self._prepare()
        assert self._described is not None
        return deploy(current_session(self._described.settings), prepared, again=again)

    def with_options(self, /, **options: Any) -> Function[P, C, R]:
        """Return another Function with `options` changed: mappings merge, `UNSET` removes."""
        refuse_unknown(options, _OPTIONS, where=f"{self.__mlfn_name__}.with_options()")
        merged = merge_options(self._options, options)
        _refuse_source(merged)
        _refuse_generator(self._function, merged)
        _check(merged)
        return self.__replace__(options=merged)

    def on(self, place: str, **options: Any) -> Function[P, C, R]:
        """Return another Function that runs at `place`, with that place's own options."""
        from mlfn.dispatch.planner import check_place

        check_place(place, options)
        return self.__replace__(place=(place, options))

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

    def map(self, /, *lists: Any, **values: Any) -> Sweep[R]:
        """Describe one child run for each item of the lists; the submitted sweep yields what they return, in order."""
        from mlfn.sweep import description

        return description.mapped(self, lists, values)

    def check(self) -> Capture:
        """Return how the code travels: by import path or by value, with which modules, and which values are large.

        Raises UnpicklableError, with the path to the value, where it cannot travel.
        """
        from mlfn.code.capture import capture

        captured = capture(self._code)
        captured.payload(b"never leaves this process")  # a check needs no signing key
        return captured

    def plan(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return as YAML what `submit` with these parameters would create; creates nothing.

        Where that is manifests, the text is theirs, for ``kubectl apply``, and the rest stands before them as a comment.
        """
        from mlfn.spec.yaml_text import to_manifests, to_yaml

        plan = self.__mlfn_plan__(args, kwargs)
        manifests = plan["creates"].get("manifests")
        return to_manifests(plan, manifests) if manifests else to_yaml(plan)

    def __mlfn_plan__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        from mlfn.dispatch.planner import shown_param
        from mlfn.spec.plan import Selected

        described, signature = self._describe(), self.__mlfn_signature__
        params = signature.check(signature.bind(args, kwargs))
        creates = self.__mlfn_creates__()
        place = Selected(*(self._place or (described.settings.on, {})))
        return {
            "function": {"hash": described.spec.hash, **described.spec.plain()},
            "place": {"name": place.name, "options": dict(place.options)},
            "creates": creates,
            "params": {name: shown_param(value) for name, value in params.items()},
        }

    def __mlfn_creates__(self) -> dict[str, Any]:
        """Return what a run would create, or of a function that answers events its service."""
        from mlfn.dispatch.planner import creates, prepare
        from mlfn.spec.plan import Selected

        described = self._describe()
        place = Selected(*(self._place or (described.settings.on, {})))
        # Without its payload: nothing is packed or signed for it.
        prepared = prepare(
            described.spec, payload=b"", capture=described.capture, signature=self.__mlfn_signature__, place=place
        )
        return creates(prepared.plan)

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical spec: the same on every machine, new on any change."""
        return self._describe().spec.hash

    @property
    def spec(self) -> dict[str, Any]:
        """The canonical spec that the hash is made of, and the labels."""
        return copy.deepcopy(self._describe().spec.plain())

    @property
    def __mlfn_function__(self) -> Callable[..., Any]:
        return self._function

    @property
    def __mlfn_kept__(self) -> Mapping[str, Mapping[str, Any]]:
        return {}

    @property
    def __mlfn_declared__(self) -> Declared:
        submitted = None if self._prepared is None else self._prepared.plan.function
        return Declared(self.__mlfn_name__, self._options, self._place, self._outputs, submitted)

    @property
    def __mlfn_name__(self) -> str:
        return str(self._options.get("name") or getattr(self, "__name__", type(self._function).__name__))

    @functools.cached_property
    def _context(self) -> str | None:
        return None if self._streams and is_classic(self._function) else context_parameter(self._function)

    def __mlfn_head_start__(self) -> None:
        # The first workers start while this process still imports what it needs.
        if "mlfn.dispatch.session" in sys.modules:
            return
        from mlfn.backends.registry import head_start
        from mlfn.settings import current as settings

        head_start(self._engine(settings.current().on).name)

    def _engine(self, on: str) -> Selected:
        """Return what will hold the runs, before there is a plan; `on` counts where no place is chosen."""
        from mlfn.backends.registry import declared_engine
        from mlfn.spec.plan import Selected

        return declared_engine(self._options.get("kind"), Selected(*(self._place or (on, {}))))

    @property
    def __mlfn_signature__(self) -> Signature:
        if self._signature is None:
            from mlfn.backends.registry import injected_by
            from mlfn.dispatch.signature import Signature

            injects = injected_by(self._options.get("kind"))
            self._signature = Signature(self._function, self.__mlfn_name__, injects)
        return self._signature

    @property
    def _streams(self) -> bool:
        """Whether its kind takes functions that answer events."""
        return _answers_events(self._options)

    @property
    def _code(self) -> Callable[..., Any]:
        """What travels: with a classic handler, the `init_context` of its module."""
        return with_init_context(self._function) if self._streams and is_classic(self._function) else self._function

    def _service_kind(self, call: str) -> Any:
        """Return the options of its kind; refuse one that is no service."""
        from mlfn.backends.registry import kind_options

        name, options = kind_options(self._options.get("kind"))
        if not _answers_events(self._options):
            raise OptionError(
                f"{self.__mlfn_name__}.{call}() is of functions that answer events, and its kind is {name!r}: declare it with "
                "@mlfn.function(kind='nuclio'), or use with_options(kind='nuclio')."
            )
        return options

    def _describe(self) -> _Described:
        """Return the current code and spec; creates nothing."""
        from mlfn.settings import current as settings

        current, folder = settings.current_here()
        where = (current, folder, tuple(sys.path), _logging_mark())
        described = self._described
        if described is not None and described.where == where and described.capture.is_current():
            return described
        from mlfn.code.capture import capture
        from mlfn.dispatch.planner import make_spec

        with self._lock:
            captured = capture(self._code)
            options = check_options(self._options)
            project = options.project or current.project
            spec = make_spec(options, captured, outputs=self._outputs, name=self.__mlfn_name__, project=project)
            self._described = _Described(where, current, captured, spec)
            return self._described

    def __mlfn_prepare__(self) -> Prepared:
        if _is_generator(self._function):
            raise OptionError(
                f"{self.__mlfn_name__} is a generator function, which streams as a service and leaves no result of a run: "
                f"deploy it, or return a list."
            )
        return self._prepare()

    def _prepare(self) -> Prepared:
        described, prepared = self._describe(), self._prepared
        if prepared is not None and prepared.capture is described.capture:
            return prepared  # made again only when code, options or settings have changed
        from mlfn.dispatch.planner import prepare
        from mlfn.settings import current as settings
        from mlfn.spec.plan import Selected

        place, place_options = self._place or (described.settings.on, {})
        self._prepared = prepare(
            described.spec,
            payload=described.capture.payload(settings.signing_key()),
            capture=described.capture,
            signature=self.__mlfn_signature__,
            place=Selected(place, place_options),
        )
        return self._prepared

    def __mlfn_differences__(self, function: str) -> Sequence[str]:
        from mlfn.functions.library.diff import diff

        return diff(function, self)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Function[P, C, R]: ...
    @overload
    def __get__(
        self: Function[Concatenate[S, Q], C, R], instance: S, owner: type | None = None
    ) -> Function[Q, C, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind like a function in a class: a method can be called, and submitted with its object."""
        if instance is None or not hasattr(self._function, "__get__"):
            return self
        return self.__replace__(function=self._function.__get__(instance, owner))

    def __repr__(self) -> str:
        return f"<mlfn.Function {self.__mlfn_name__}>"

    def __replace__(self, /, **changes: Any) -> Function[P, C, R]:
        known = {"function": self._function, "options": self._options, "outputs": self._outputs, "place": self._place}
        return Function(**{**known, **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        # The state comes after the object: a function may refer to itself.
        return _empty_function, (), (self._function, self._options, self._outputs, self._place)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class _Described:
    """A function's code and spec, kept until something changes."""

    where: tuple[Any, ...]
    settings: Settings
    capture: Capture
    spec: FunctionSpec


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
    """A decorator with options: what `@function(...)` returns."""

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
    if function is not None:
        return _declare(function, options)
    _check(options)
    return Declare(options)


@overload
def handler(function: C, /) -> C: ...
@overload
def handler(*, outputs: Sequence[str] = ()) -> Callable[[C], C]: ...
def handler(function: Any = None, /, *, outputs: Sequence[str] = (), **unknown: Any) -> Any:
    """Say how a function's returned values are named: one name a value, in the order of the returned tuple.

    Above or below `@function`, or alone: the function itself stays as it is. Raises OptionError for another option.
    """
    refuse_unknown(unknown, ("outputs",), where="@handler", elsewhere=_OF_FUNCTION)
    names = _output_names(outputs)
    return functools.partial(_with_outputs, outputs=names) if function is None else _with_outputs(function, names)


_OPTIONS = tuple(item.name for item in fields(Options))
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
    innermost = function
    while isinstance(innermost, functools.partial):
        innermost = innermost.func
    name = options.get("name") or getattr(innermost, "__name__", type(function).__name__)
    _refuse_generator(function, {**options, "name": name})
    if name == "<lambda>":
        raise DeclarationError(
            "A lambda has no name to be found by: give it one, as in mlfn.function(name='score')(lambda x: x)."
        )
    _refuse_source(options)
    named = {**options, "name": name}
    _check(named)
    return Function(function, named, getattr(function, _OUTPUTS, ()))


def _is_generator(function: Any) -> bool:
    code = annotated(function)
    return inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)


def _answers_events(options: Mapping[str, Any]) -> bool:
    kind = options.get("kind")
    if kind is None or kind is UNSET:
        return False
    from mlfn.backends.registry import kind_options

    return bool(getattr(kind_options(kind)[1], "STREAMS", False))


def _refuse_generator(function: Any, options: Mapping[str, Any]) -> None:
    if _is_generator(function) and not _answers_events(options):
        raise DeclarationError(
            f"@function got the generator function {options.get('name')}: what it yields ends with its process and cannot be "
            "kept. Return a list, or log each item with ctx.log_result(); one of kind='nuclio' may stream."
        )


def _refuse_source(options: Mapping[str, Any]) -> None:
    if options.get("source", UNSET) not in (None, UNSET):
        raise OptionError(f"source={options['source']!r}: a decorated function already has its code; remove source=.")


def _instance(cls: type) -> Any:
    """Return the object that a class with ``__call__`` is run as."""
    if "__call__" not in vars(cls) and all("__call__" not in vars(base) for base in cls.__mro__[1:-1]):
        raise DeclarationError(
            f"@function got the class {cls.__qualname__}, which has no __call__: define one, or decorate a function."
        )
    try:
        return cls()
    except TypeError as error:
        raise DeclarationError(
            f"@function got the class {cls.__qualname__}, which cannot be made without arguments ({error}): "
            f"declare an instance, as in mlfn.function(name='...')({cls.__qualname__}(...))."
        ) from error


def _check(options: Mapping[str, Any]) -> None:
    """Check the options, but not in a worker: the caller has checked them there."""
    if user_context.in_worker:
        return
    checked = check_options(options)
    if checked.secrets:
        withhold(checked.secrets)
    if checked.kind is not None:
        from mlfn.backends.registry import kind_options

        kind_options(checked.kind)


def _with_outputs(function: Any, outputs: tuple[str, ...]) -> Any:
    if isinstance(function, Function):
        return function.__replace__(outputs=outputs)
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


def _logging_mark() -> tuple[Any, ...]:
    """Return what changes with the set-up of the loggers; looked at in each submit."""
    root = logging.root
    found: list[Any] = [root.manager.disable, root.level, *root.handlers]
    for handler in root.handlers:
        found += (handler.level, handler.formatter)
    for name, logger in list(root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers):
            found += (name, logger.level, logger.propagate, logger.disabled, *logger.handlers)
    return tuple(found)


def _empty_function() -> Function[..., Any, Any]:
    return Function.__new__(Function)
