"""`Sweep`: which children a function will have, before any of them is submitted. Immutable and lazy."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mlfn.artifacts.inputs import names_files
from mlfn.errors import OptionError, ParameterError, nearest
from mlfn.spec.options import refuse_unknown
from mlfn.sweep.choosers import Chooser, FromCells, FromRows, FromSearch, FromUser
from mlfn.sweep.options import SweepOptions
from mlfn.sweep.params.files import grid_from_file, matching_files, zip_from_file
from mlfn.sweep.params.listed import short
from mlfn.sweep.params.shared import refuse_collecting
from mlfn.sweep.spaces.distributions import as_spaces
from mlfn.sweep.strategies.ask_tell import AskTell
from mlfn.sweep.strategies.cells import Cells, check_keys, checked_count
from mlfn.sweep.strategies.grid import Grid
from mlfn.sweep.strategies.iterable import Given
from mlfn.sweep.strategies.random import Random
from mlfn.sweep.strategies.rows import Rows
from mlfn.sweep.strategies.zip import Zip
from mlfn.sweep.strategy import Strategy
from mlfn.sweep.sweepable import Sweepable

if TYPE_CHECKING:
    import pandas as pd

    from mlfn.sweep.handle import SweepRun

R = TypeVar("R")
_OPTIONS = (*(field.name for field in fields(SweepOptions)), "retry", "seed")


class Sweep(Generic[R]):
    """A description of child runs: iterable, indexable, with a length; `submit` makes runs of them.

    Its items are the swept parameters of each child. It is immutable: `with_options` and slices return others. The
    children of a slice keep the numbers that they have in the whole.
    """

    def __init__(
        self, function: Sweepable[R], chooser: Chooser, options: SweepOptions | None = None, *, mapped: bool = False
    ) -> None:
        self._function = function
        self._chooser = chooser
        self._options = options or SweepOptions()
        self._mapped = mapped

    def __mlfn_refused__(self) -> str:
        return "a sweep that is only described: pass what its submit() returns"

    @property
    def function(self) -> Sweepable[R]:
        """The function that runs."""
        return self._function

    @property
    def chooser(self) -> Chooser:
        """How the parameters are chosen."""
        return self._chooser

    @property
    def options(self) -> SweepOptions:
        """The options so far."""
        return self._options

    @property
    def size(self) -> int | None:
        """How many children it describes; None where that is unknown."""
        return self._chooser.size

    def with_options(self, /, **options: Any) -> Sweep[R]:
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
        deterministic: whether a search waits for rounds of `parallel` children, so that their order of ending has no influence.
        retry: how often a failed child is tried again: a number or `mlfn.Retry`.
        seed: of `random` and `search`.
        memo: whether a child reuses the results of a run with the same function and parameters.
        strict: whether a first child that succeeds without the metric of `select` ends the sweep as failed, which is the default.
        name: by which the same script, run again, goes on with the sweep instead of beginning another.
        again: ``"new"`` begins it anew under its name, whatever is there.
        """
        refuse_unknown(options, _OPTIONS, where="with_options() of a sweep", elsewhere={})
        function, chooser = self._function, self._chooser
        if "retry" in options:
            function = function.with_options(retry=options.pop("retry"))
        if "seed" in options:
            chooser = chooser.seeded(options.pop("seed"))
        return Sweep(function, chooser, self._options.changed(options), mapped=self._mapped)

    def __getattr__(self, name: str) -> Any:
        from mlfn.sweep.handle import SweepRun  # of a submitted one alone

        if not name.startswith("_") and hasattr(SweepRun, name):
            raise AttributeError(
                f"A sweep has {name!r} once it is submitted: {self._function.__mlfn_name__}....submit().{name}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def submit(self, /, *args: Any, **kwargs: Any) -> SweepRun[R]:
        """Submit the sweep with the parameters that all children share; returns at once (inline: when it is over).

        Raises ParameterError, before anything starts, for a parameter that is swept as well or does not fit.
        """
        with _errors_of(self._function, "submit"):
            _refuse_options(self._function, kwargs)
        self._function.__mlfn_head_start__()
        from mlfn.sweep.submit import submit_sweep

        return submit_sweep(self._function, self._chooser, self._options, args=args, kwargs=kwargs, mapped=self._mapped)

    def table(self) -> pd.DataFrame:
        """Return a DataFrame of what will be run: iteration and swept parameters."""
        from mlfn.sweep.results.table import Table

        cells = self._cells("table()")
        rows = [{"iteration": number, **cell} for number, cell in zip(cells.iterations, cells, strict=True)]
        columns = {key: [row.get(key) for row in rows] for key in ("iteration", *self._chooser.keys)}
        return Table(columns, self._chooser.keys, ()).to_pandas()

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
            return Sweep(self._function, self._chooser.view(cells[index]), self._options, mapped=self._mapped)
        return cells[index]

    def __repr__(self) -> str:
        count = self._chooser.size
        many = "some children" if count is None else "1 child" if count == 1 else f"{count} children"
        return f"<mlfn.Sweep of {self._function.__mlfn_name__}: {many}, {self._chooser!r}>"

    def _cells(self, what: str) -> Cells:
        cells = self._chooser.cells
        if cells is None:
            raise TypeError(f"{what} needs children that are known beforehand; this sweep chooses them while it runs.")
        return cells


@contextmanager
def _errors_of(function: Sweepable[Any], method: str) -> Iterator[None]:
    """Begin error messages with the names of function and method."""
    try:
        yield
    except (ParameterError, OptionError) as error:
        raise type(error)(f"{function.__mlfn_name__}.{method}(): {error}") from None


def _refuse_options(function: Sweepable[Any], given: Mapping[str, Any]) -> None:
    """Raise ParameterError for what is an option of the sweep, where the function has no parameter of that name."""
    signature = function.__mlfn_signature__
    for name, value in given.items():
        if name in _OPTIONS and name not in signature.parameters and signature.shape.varkw is None:
            raise ParameterError(
                f"{name}= is an option of the sweep, and no parameter: give it by .with_options({name}={value!r})."
            )


def grid(function: Sweepable[R], points: Any, values: Mapping[str, Sequence[Any]]) -> Sweep[R]:
    """Describe every combination of the values."""
    with _errors_of(function, "grid"):
        _refuse_options(function, values)
        return _sweep(function, FromCells(Grid(_listed("grid", grid_from_file, points, values))))


def zipped(function: Sweepable[R], points: Any, values: Mapping[str, Any]) -> Sweep[R]:
    """Describe the first values of all, the second ones, and so on."""
    with _errors_of(function, "zip"):
        _refuse_options(function, values)
        return _sweep(function, FromCells(Zip(_listed("zip", zip_from_file, points, values))))


def drawn(function: Sweepable[R], points: Any, values: Mapping[str, Any], **arguments: Any) -> Sweep[R]:
    """Describe draws from spaces."""
    with _errors_of(function, "random"):
        _refuse_options(function, values)
        spaces = {**_mapping("random", points), **values}
        return _sweep(function, FromCells(Random(spaces, **arguments), unseeded=arguments["seed"] is None))


def searched(function: Sweepable[R], points: Any, values: Mapping[str, Any], *, n: int, **arguments: Any) -> Sweep[R]:
    """Describe `n` children that an adaptive sampler chooses."""
    with _errors_of(function, "search"):
        _refuse_options(function, values)
        spaces = {**_mapping("search", points), **values}
        check_keys(spaces)
        arguments["first"] = _points_to_begin(arguments.get("first", ()))
        unseeded = arguments.get("seed") is None
        if unseeded:
            arguments["seed"] = secrets.randbits(32)  # stored with the sweep
        return _sweep(function, FromSearch(as_spaces(spaces), checked_count(n), arguments, unseeded))


def _points_to_begin(first: Any) -> tuple[Mapping[str, Any], ...]:
    is_listed = isinstance(first, Iterable) and not isinstance(first, (str, Mapping))
    points: tuple[Any, ...] = tuple(first) if is_listed else ()
    if not is_listed or not all(isinstance(point, Mapping) for point in points):
        raise ParameterError(f"first={short(first)}: a list of points is allowed, as in first=[{{'lr': 0.1}}].")
    return points


def given(function: Sweepable[R], points: Any) -> Sweep[R]:
    """Describe the children that are listed, that an iterable yields, or that an object with ``ask`` and ``tell`` chooses."""
    with _errors_of(function, "sweep"):
        if isinstance(points, Strategy):
            return Sweep(function, FromUser(lambda: points, points.size))
        if callable(getattr(points, "ask", None)) and callable(getattr(points, "tell", None)):
            return Sweep(function, FromUser(lambda: AskTell(points), needs_values=True))
        is_list = isinstance(points, Sequence) and not isinstance(points, (str, bytes))
        if is_list:
            return Sweep(function, FromRows(Rows(points)))
        return Sweep(function, FromUser(lambda: Given(points), Given(points).size))


def mapped(function: Sweepable[R], lists: Sequence[Any], values: Mapping[str, Any]) -> Sweep[R]:
    """Describe one child for each item of the lists, which go to the first parameters in turn."""
    with _errors_of(function, "map"):
        _refuse_options(function, values)
        signature = function.__mlfn_signature__
        names = [
            name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD
        ]
        if len(lists) > len(names):
            raise ParameterError(
                f"{len(lists)} lists are given, and the function takes {len(names)} parameters "
                f"({', '.join(names) or 'none'})."
            )
        by_name = dict(zip(names, lists, strict=False))
        for name in by_name.keys() & values.keys():
            raise ParameterError(f"{name!r} is given twice: by position and by name.")
        every = {
            name: _items(items, name, signature.annotations.get(name)) for name, items in {**by_name, **values}.items()
        }
        if not every:
            raise ParameterError("there is nothing to map: give a list, as in map(batches).")
        return _sweep(function, FromCells(Zip(every)), mapped=True)


def _items(items: Any, name: str, annotation: Any) -> Any:
    """List an iterator or set, and the files of a pattern where files are read; leave the rest to the checks of `listed`."""
    if names_files(annotation) and isinstance(items, (str, os.PathLike)):
        return matching_files(os.fspath(items), f"{name}={os.fspath(items)!r}")
    return list(items) if hasattr(items, "__iter__") and not hasattr(items, "__getitem__") else items


def _sweep(function: Sweepable[R], chooser: Chooser, *, mapped: bool = False) -> Sweep[R]:
    signature = function.__mlfn_signature__
    for key in chooser.keys:
        name = key.partition(".")[0]
        if name not in signature.parameters and signature.shape.varkw is None:
            raise ParameterError(f"there is no parameter {name!r}: {nearest(name, signature.parameters)}")
    refuse_collecting(signature, chooser.keys)
    return Sweep(function, chooser, mapped=mapped)


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
