"""Sweeps of a promoted version: children of its stored code, at its place, with its run's parameters where nothing else is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

from mlfn.dispatch.planner import PreparedBefore
from mlfn.dispatch.signature import Signature
from mlfn.dispatch.submit import refuse_part, signature_of, stored_function
from mlfn.errors import OptionError
from mlfn.handles.run import Run
from mlfn.handles.version import Version
from mlfn.sweep import description
from mlfn.sweep.description import Sweep

_METHODS: Mapping[str, Callable[..., Sweep[Any]]] = {
    "grid": description.grid,
    "zip": description.zipped,
    "random": description.drawn,
    "search": description.searched,
    "sweep": description.given,
    "map": description.mapped,
}


def describe(version: Version[Run[Any]], method: str, /, *arguments: Any, **options: Any) -> Sweep[Any]:
    """Return what a method of `mlfn.Function` would describe with these arguments."""
    refuse_part(version.run.record, "swept")
    return _METHODS[method](SweptVersion(version), *arguments, **options)


class SweptVersion:
    """A version as a sweep takes it."""

    def __init__(self, version: Version[Run[Any]]) -> None:
        self._version = version
        self._session = version.run.__mlfn_session__
        self._record = version.run.record
        self._plan = self._session.store.get_plan(self._record.plan)

    @property
    def __mlfn_name__(self) -> str:
        return self._plan.name

    @cached_property
    def __mlfn_signature__(self) -> Signature:
        return signature_of(self._plan, self.__mlfn_function__)

    @cached_property
    def __mlfn_function__(self) -> Callable[..., Any]:
        return stored_function(self._session, self._plan)

    @property
    def __mlfn_kept__(self) -> Mapping[str, Mapping[str, Any]]:
        return self._record.params

    def with_options(self, /, **options: Any) -> NoReturn:
        """Refuse: the options are those of the run that was promoted."""
        name = next(iter(options))
        raise OptionError(
            f"{self._version!r} has the options of its run: {name}= cannot be changed. Declare the function with "
            f"{name}={options[name]!r}, and sweep that."
        )

    def __mlfn_head_start__(self) -> None:
        """Do nothing: the store was read, so what a head start would save is over."""

    def __mlfn_prepare__(self) -> PreparedBefore:
        return PreparedBefore(self._plan, self._record.labels)

    def __mlfn_differences__(self, function: str) -> Sequence[str]:
        return [f"of {self._version!r}"]

    def submit(self, /, *args: Any, **kwargs: Any) -> Run[Any]:
        """Submit one run."""
        return self._version.submit(*args, **kwargs)
