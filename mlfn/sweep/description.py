"""`Sweep`: which children a function will have, before any of them is there. Immutable and lazy."""

from __future__ import annotations

import functools
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from mlfn.errors import MissingExtraError, OptionError, ParameterError, SweepError, nearest
from mlfn.sweep.cells import Cells, check_keys
from mlfn.sweep.drawn import Random
from mlfn.sweep.grammar import parse_condition, parse_constraint, parse_selector, parse_selectors
from mlfn.sweep.grid import Grid
from mlfn.sweep.listing import short
from mlfn.sweep.param_file import grid_from_file, zip_from_file
from mlfn.sweep.rows import Rows
from mlfn.sweep.space import Space, as_spaces
from mlfn.sweep.zipped import Zip

if TYPE_CHECKING:
    import pandas as pd

    from mlfn.declaration import Function
    from mlfn.sweep.strategy import Strategy
    from mlfn.sweep.sweep_run import SweepRun

P = ParamSpec("P")
R = TypeVar("R")
_SHOWN = 10  # cells in a repr


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is driven; `with_options` says what each means."""

    select: tuple[str, ...] = ()
    subject_to: tuple[str, ...] = ()
    parallel: int | None = None
    stop_when: str | None = None
    max_failures: int | None = None
    max_failure_rate: float | None = None
    timeout: float | None = None
    deterministic: bool = False
    memo: bool = False
    name: str | None = None

    def driving(self) -> dict[str, Any]:
        """Return what is stored with the sweep; its name has a column of its own."""
        return {name: value for name, value in vars(self).items() if name != "name"}

    def changed(self, options: Mapping[str, Any]) -> SweepOptions:
        """Return these with some of them changed; refuse what does not fit."""
        return replace(self, **{name: _CHECKS[name](name, value) for name, value in options.items()})


class Chooser(ABC):
    """Who will choose the parameters: known before it is known what is selected, or how many run at a time."""

    keys: tuple[str, ...] = ()
    size: int | None = None
    alike = True  # whether every child has all the keys
    unseeded = False  # whether it draws, by a seed that nobody gave

    @abstractmethod
    def strategy(self, options: SweepOptions) -> Strategy:
        """Return a strategy that was told nothing yet."""

    def some(self, cells: Cells) -> Chooser:
        """Return one that goes through some of its cells only."""
        raise NotImplementedError

    def seeded(self, seed: int) -> Chooser:
        """Return one that draws by this seed."""
        raise OptionError(f"seed={seed!r}: nothing is drawn here; leave it out.")

    @property
    def cells(self) -> Cells | None:
        """The cells, where all are known before."""
        return None

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield each child's number and parameters, where each must be checked by itself before anything starts."""
        return iter(())

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield points whose values stand for all, to be checked before anything starts."""
        return iter(())


@dataclass(frozen=True)
class FromCells(Chooser):
    """Grid, zip and random."""

    known: Cells
    unseeded: bool = False

    def __repr__(self) -> str:
        return repr(self.known)

    @property
    def keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """The swept names."""
        return tuple(self.known.spaces if isinstance(self.known, Random) else self.known.values)  # type: ignore[attr-defined]

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """How many children there are."""
        return self.known.size

    @property
    def cells(self) -> Cells | None:
        """The cells."""
        return self.known

    def some(self, cells: Cells) -> Chooser:
        """Return a chooser of some of the cells."""
        return replace(self, known=cells)

    def strategy(self, options: SweepOptions) -> Strategy:
        """Return the cells themselves."""
        return self.known

    def seeded(self, seed: int) -> Chooser:
        """Return other cells of the same spaces."""
        if not isinstance(self.known, Random):
            return super().seeded(seed)
        return FromCells(self.known.seeded(seed))

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield each value of the lists once, or the ends of each space."""
        if isinstance(self.known, Random):
            yield from space_probes(self.known.spaces)
            return
        for key, values in self.known.values.items():  # type: ignore[attr-defined]
            yield from ({key: values[index]} for index in range(min(len(values), _PROBES)))


@dataclass(frozen=True)
class FromRows(FromCells):
    """A list of parameters, where each row may have keys of its own."""

    known: Rows
    alike = False
    __repr__ = FromCells.__repr__  # which a dataclass would write anew

    @property
    def keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names that any row has."""
        return self.known.keys

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield nothing: what stands for all is each row."""
        return iter(())

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield each row."""
        return zip(self.known.iterations, self.known)


_PROBES = 10_000  # values of one key that are checked before anything starts; more of them are when their turn comes


@dataclass(frozen=True)
class FromSearch(Chooser):
    """Adaptive search."""

    spaces: Mapping[str, Space]
    n: int
    arguments: Mapping[str, Any]
    unseeded: bool = False

    def __repr__(self) -> str:
        sampler = self.arguments["sampler"]
        named = sampler if isinstance(sampler, str) else type(sampler).__name__
        spaces = ", ".join(f"{key}={space!r}" for key, space in self.spaces.items())
        return f"chosen by {named} ({spaces})"

    @property
    def keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """The swept names."""
        return tuple(self.spaces)

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """How many children there are."""
        return self.n

    def strategy(self, options: SweepOptions) -> Strategy:
        """Return a search in the directions that are selected."""
        from mlfn.sweep.optuna import Search

        if not options.select:
            raise SweepError(
                "A search must know what to look for: say with_options(select='max.accuracy'), or 'min.' and a metric."
            )
        directions = tuple(parse_selector(text).direction for text in options.select)
        return Search(self.spaces, self.n, directions=directions, parallel=options.parallel or 1, **self.arguments)

    def seeded(self, seed: int) -> Chooser:
        """Return a search by another seed."""
        return replace(self, arguments={**self.arguments, "seed": seed}, unseeded=False)

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield the ends of each space, and the first points."""
        yield from space_probes(self.spaces)
        yield from self.arguments.get("first") or ()


@dataclass(frozen=True)
class FromUser(Chooser):
    """An iterable of parameters, or an object that is asked and told."""

    make: Callable[[], Strategy]
    size: int | None = None
    is_told: bool = False  # of numbers alone

    def __repr__(self) -> str:
        return "chosen while it runs"

    def strategy(self, options: SweepOptions) -> Strategy:
        """Return a strategy that begins anew."""
        if self.is_told and not options.select:
            raise SweepError(
                "An object with ask() and tell() must know what its children come to: say with_options(select='max.accuracy'), "
                "or 'min.' and a metric. Without it tell() would have None for each of them, as for one that failed."
            )
        return self.make()


def space_probes(spaces: Mapping[str, Space]) -> Iterator[Mapping[str, Any]]:
    """Yield the ends of each space, or each of its options."""
    for key, space in spaces.items():
        options = getattr(space, "options", None)
        if options is not None:
            yield from ({key: options[index]} for index in range(min(len(options), _PROBES)))
        else:
            yield from ({key: space.at(u)} for u in (0.0, 0.5, 1 - 2**-53))


class Sweep(Generic[R]):
    """A description of child runs: iterable, indexable, with a length; `submit` makes runs of them.

    Its items are the swept parameters of each child. It is immutable: `with_options` and slices return others. The
    children of a slice keep the numbers that they have in the whole.
    """

    def __init__(
        self, function: Function[..., Any, R], chooser: Chooser, options: SweepOptions, *, mapped: bool = False
    ) -> None:
        self._function = function
        self._chooser = chooser
        self._options = options
        self._mapped = mapped

    @property
    def function(self) -> Function[..., Any, R]:
        """The function that runs."""
        return self._function

    @property
    def size(self) -> int | None:
        """How many children it describes; None where that is unknown."""
        return self._chooser.size

    def with_options(self, **options: Any) -> Sweep[R]:
        """Return another description with `options` changed; None takes one away.

        Parameters
        ----------
        select: which child is the best: ``"max.accuracy"``, ``"min.loss@best"``, or several for a Pareto front.
        subject_to: conditions that a child must meet to count, as in ``"mem_gb <= 16"``.
        parallel: how many children may run at the same time.
        stop_when: ends the sweep once it holds, as in ``"accuracy > 0.97 or elapsed > 2h"``.
        max_failures: at how many failed children the sweep ends as failed; 0 and 1 both mean at the first.
        max_failure_rate: which share of children may fail, once ten have ended.
        timeout: seconds, or a text like ``"2h"``, after which the sweep ends with what it has.
        deterministic: whether a search waits for rounds of `parallel` children, so that their order of ending tells nothing.
        retry: how often a failed child is tried again: a number or `mlfn.Retry`.
        seed: what is drawn by.
        memo: whether a child takes over the results of a run with the same function and parameters.
        name: under which the same script, run again, goes on with the sweep instead of beginning another.
        """
        allowed = [field.name for field in fields(SweepOptions)]
        for name, value in options.items():
            if name not in (*allowed, "retry", "seed"):
                raise OptionError(
                    f"with_options({name}={value!r}) of a sweep: {nearest(name, [*allowed, 'retry', 'seed'])}"
                )
        function, chooser = self._function, self._chooser
        if "retry" in options:
            function = function.with_options(retry=options.pop("retry"))
        if "seed" in options:
            chooser = chooser.seeded(options.pop("seed"))
        return Sweep(function, chooser, self._options.changed(options), mapped=self._mapped)

    def submit(self, *args: Any, **kwargs: Any) -> SweepRun[R]:
        """Submit the sweep with the parameters that all children share; returns at once (inline: when it is over).

        What is swept cannot be given here as well, and what does not fit is refused before anything starts.
        """
        self._function._head_start()
        from mlfn.sweep.submitting import submit_sweep

        return submit_sweep(self, args, kwargs)

    def table(self) -> pd.DataFrame:
        """Return a DataFrame of what will be run: iteration and swept parameters."""
        cells = self._cells("table()")
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError(
                "A table is a pandas DataFrame, and pandas is not installed: pip install pandas."
            ) from error
        from mlfn.sweep.table import dtype_of

        rows = [{"iteration": number, **cell} for number, cell in zip(cells.iterations, cells, strict=True)]
        columns = {key: [row.get(key) for row in rows] for key in ("iteration", *self._chooser.keys)}
        frame: pd.DataFrame = pd.DataFrame(
            {key: pd.Series(values, dtype=dtype_of(values)) for key, values in columns.items()}
        )
        return frame

    def __len__(self) -> int:
        cells = self._chooser.cells
        if cells is not None:
            return len(cells)
        if self._chooser.size is None:
            raise TypeError("How many children there will be is unknown: they come from an iterable without a length.")
        return self._chooser.size

    def __bool__(self) -> bool:
        return self._chooser.size != 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._cells("iterating"))

    def __getitem__(self, index: Any) -> Any:
        cells = self._cells("an index")
        if isinstance(index, slice):
            return Sweep(self._function, self._chooser.some(cells[index]), self._options, mapped=self._mapped)
        return cells[index]

    def __repr__(self) -> str:
        count = self._chooser.size
        many = "some children" if count is None else "1 child" if count == 1 else f"{count} children"
        return f"<mlfn.Sweep of {self._function._name}: {many}, {self._chooser!r}>"

    def _cells(self, what: str) -> Cells:
        cells = self._chooser.cells
        if cells is None:
            raise TypeError(f"{what} needs children that are known before; this sweep chooses them while it runs.")
        return cells


def _says(what: str) -> Callable[[Callable[P, Sweep[R]]], Callable[P, Sweep[R]]]:
    """Have what a method refuses begin with the function's name and its own."""

    def decorate(describe: Callable[P, Sweep[R]]) -> Callable[P, Sweep[R]]:
        @functools.wraps(describe)
        def described(*args: P.args, **kwargs: P.kwargs) -> Sweep[R]:
            try:
                return describe(*args, **kwargs)
            except (ParameterError, OptionError) as error:
                function: Any = args[0]
                raise type(error)(f"{function._name}.{what}(): {error}") from None

        return described

    return decorate


@_says("grid")
def grid(function: Function[..., Any, R], points: Any, values: Mapping[str, Sequence[Any]]) -> Sweep[R]:
    """Describe every combination of the values."""
    return _sweep(function, FromCells(Grid(_listed("grid", grid_from_file, points, values))))


@_says("zip")
def zipped(function: Function[..., Any, R], points: Any, values: Mapping[str, Any]) -> Sweep[R]:
    """Describe the first values of all, the second ones, and so on."""
    return _sweep(function, FromCells(Zip(_listed("zip", zip_from_file, points, values))))


@_says("random")
def drawn(
    function: Function[..., Any, R],
    points: Mapping[str, Any] | None,
    values: Mapping[str, Any],
    *,
    n: int,
    seed: int | None,
    method: str,
) -> Sweep[R]:
    """Describe `n` draws from spaces."""
    spaces = {**_mapping("random", points), **values}
    return _sweep(function, FromCells(Random(spaces, n=n, seed=seed, method=method), unseeded=seed is None))


@_says("search")
def searched(
    function: Function[..., Any, R],
    points: Mapping[str, Any] | None,
    values: Mapping[str, Any],
    *,
    n: int,
    **arguments: Any,
) -> Sweep[R]:
    """Describe `n` children that an adaptive sampler chooses."""
    spaces = {**_mapping("search", points), **values}
    check_keys(spaces)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise OptionError(f"n={n!r} is no number of children: give 1 or more, as in n=50.")
    arguments["first"] = _points_to_begin(arguments.get("first", ()))
    unseeded = arguments.get("seed") is None
    if unseeded:
        arguments["seed"] = secrets.randbits(32)  # kept with the sweep, so that it can be had again
    return _sweep(function, FromSearch(as_spaces(spaces), n, arguments, unseeded))


def _points_to_begin(first: Any) -> tuple[Mapping[str, Any], ...]:
    is_listed = isinstance(first, Iterable) and not isinstance(first, (str, Mapping))
    points: tuple[Any, ...] = tuple(first) if is_listed else ()
    if not is_listed or not all(isinstance(point, Mapping) for point in points):
        raise ParameterError(f"first={short(first)}: a list of points is allowed, as in first=[{{'lr': 0.1}}].")
    return points


@_says("sweep")
def given(function: Function[..., Any, R], points: Any) -> Sweep[R]:
    """Describe the children that are listed, that an iterable yields, or that an object with ``ask`` and ``tell`` chooses."""
    from mlfn.sweep.ask_tell import AskTell
    from mlfn.sweep.given import Given
    from mlfn.sweep.strategy import Strategy

    if isinstance(points, Strategy):
        return _sweep(function, FromUser(lambda: points, points.size))
    if callable(getattr(points, "ask", None)) and callable(getattr(points, "tell", None)):
        return _sweep(function, FromUser(lambda: AskTell(points), is_told=True))
    is_listed = isinstance(points, Sequence) and not isinstance(points, (str, bytes))
    if is_listed:
        return Sweep(function, FromRows(Rows(points)), SweepOptions())
    return _sweep(function, FromUser(lambda: Given(points), Given(points).size))


@_says("map")
def mapped(function: Function[..., Any, R], lists: Sequence[Any], values: Mapping[str, Any]) -> Sweep[R]:
    """Describe one child for each item of the lists, which go to the first parameters in turn."""
    signature = function._signed()
    names = [name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    if len(lists) > len(names):
        raise ParameterError(
            f"{len(lists)} lists are given, and the function takes {len(names)} parameters "
            f"({', '.join(names) or 'none'})."
        )
    by_name = dict(zip(names, lists, strict=False))
    for name in by_name.keys() & values.keys():
        raise ParameterError(f"{name!r} is given twice: by position and by name.")
    every = {name: _items(name, items) for name, items in {**by_name, **values}.items()}
    if not every:
        raise ParameterError("there is nothing to go through: give a list, as in map(batches).")
    sweep = _sweep(function, FromCells(Zip(every)))
    return Sweep(function, sweep._chooser, SweepOptions(), mapped=True)


def _items(name: str, items: Any) -> Any:
    """Return what has a length as it is, and list what has none."""
    if (
        isinstance(items, (str, bytes, Mapping, Sequence))
        or hasattr(items, "__getitem__")
        or not hasattr(items, "__iter__")
    ):
        return items
    return list(items)


def _sweep(function: Function[..., Any, R], chooser: Chooser) -> Sweep[R]:
    signature = function._signed()
    for key in chooser.keys:
        name = key.partition(".")[0]
        if name not in signature.parameters and signature.shape.varkw is None:
            raise ParameterError(f"there is no parameter {name!r}: {nearest(name, signature.parameters)}")
        if name in (signature.shape.varargs, signature.shape.varkw):
            raise ParameterError(f"{name!r} takes any number of arguments and cannot be swept.")
    return Sweep(function, chooser, SweepOptions())


def _listed(
    what: str, read: Callable[[Any], Mapping[str, Any]], points: Any, values: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the lists of a call: from keywords and a mapping, or from a file."""
    if isinstance(points, (str, os.PathLike)):
        if values:
            raise ParameterError(
                f"{what}({os.fspath(points)!r}, {', '.join(values)}=...): give the file or the values, not both."
            )
        return read(points)
    return {**_mapping(what, points), **values}


def _mapping(what: str, points: Any) -> Mapping[str, Any]:
    if points is None:
        return {}
    if not isinstance(points, Mapping):
        raise ParameterError(
            f"{what}({points!r}): a mapping of names to values is allowed, as in {what}({{'model.depth': [4, 8]}}), or "
            f"keywords, as in {what}(depth=[4, 8])."
        )
    return dict(points)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else None
    if not texts or not all(isinstance(text, str) for text in texts):
        raise OptionError(f"{name}={value!r}: a text or a list of texts is allowed, as in {name}='max.accuracy'.")
    if name == "select":
        parse_selectors(texts)
    else:
        for text in texts:
            parse_constraint(text)
    return texts


def _condition(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise OptionError(f"{name}={value!r}: a condition is allowed, as in {name}='accuracy > 0.97'.")
    parse_condition(value)
    return value


def _count(name: str, value: Any) -> int | None:
    least = 0 if name == "max_failures" else 1
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise OptionError(f"{name}={value!r}: a whole number, {least} or more, is allowed.")
    return value


def _share(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise OptionError(f"{name}={value!r}: a share from 0 to less than 1 is allowed, as in {name}=0.2.")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name}={value!r}: True or False is allowed.")
    return value


def _name(name: str, value: Any) -> str | None:
    from mlfn.spec.options import check_name

    return None if value is None else check_name(value)


def _seconds(name: str, value: Any) -> float | None:
    from mlfn.spec.options import check_options

    return check_options({name: value}).timeout


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "select": _texts,
    "subject_to": _texts,
    "parallel": _count,
    "stop_when": _condition,
    "max_failures": _count,
    "max_failure_rate": _share,
    "timeout": _seconds,
    "deterministic": _flag,
    "memo": _flag,
    "name": _name,
}
