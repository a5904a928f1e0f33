"""The parameters that all children of a sweep share, and the checks that a child's own ones fit beside them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import field
from typing import Any

from mlfn.dispatch.signature import Signature
from mlfn.errors import InputNotFoundError, ParameterError, nearest
from mlfn.host.frozen import frozen
from mlfn.sweep.params.paths import placed_in


@frozen
class Kept:
    """The parameters that a promoted version has from its run: those of the children where nothing else is given or swept."""

    stored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    decode: Callable[[Mapping[str, Any]], Any] = lambda stored: stored

    def value(self, name: str, default: Any) -> Any:
        """Return the value of one of them, else `default`."""
        return self.decode(self.stored[name]) if name in self.stored else default


class SharedParams:
    """The parameters that `submit` gives to all children, and the checks of what is swept beside them."""

    def __init__(
        self,
        signature: Signature,
        keys: tuple[str, ...],
        *,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        same_keys: bool,
        kept: Kept,
    ) -> None:
        """Check what is shared; unless all children have the `same_keys`, each is checked by `check_row`."""
        self._signature = signature
        self._kept = kept
        self._dotted = {key.partition(".")[0] for key in keys if "." in key}
        self._swept = {key for key in keys if "." not in key}
        given = signature.bind_partly(args, kwargs)
        varkw = str(signature.shape.varkw)
        self._given = {*given, *given.get(varkw, {})} - {varkw}
        if varkw in given:
            given[varkw] = {**kept.value(varkw, {}), **given[varkw]}
        if same_keys:
            self._refuse_twice(keys)
        self.fixed = signature.check(given)
        if same_keys and keys:
            self._refuse_missing({key.partition(".")[0] for key in keys})

    def kept(self) -> dict[str, Any]:
        """Return the parameters that a version has, as they are stored, which are neither given nor swept."""
        names = self._kept.stored.keys() - self.fixed.keys() - self._swept
        return {name: self._kept.stored[name] for name in self._kept.stored if name in names}

    def bases(self) -> dict[str, Any]:
        """Return the values of which dotted keys change a part."""
        return {name: self._base(name) for name in self._dotted}

    def probe(self, point: Mapping[str, Any]) -> None:
        """Refuse a sample point that does not fit."""
        self._signature.check(placed_in(self._signature.name, point, self._base))

    def check_row(self, iteration: int, row: Mapping[str, Any]) -> None:
        """Refuse parameters of one child that do not fit, naming its iteration."""
        try:
            refuse_collecting(self._signature, row)
            self._refuse_twice(row)
            self.check(placed_in(self._signature.name, row, self._base))
        except (ParameterError, InputNotFoundError) as error:
            raise type(error)(f"Child {iteration}: {error}") from None

    def check(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a child's own parameters as they are submitted; raise ParameterError for what does not fit."""
        signature = self._signature
        varkw = signature.shape.varkw
        own = {name: value for name, value in params.items() if name in signature.parameters}
        more = {name: value for name, value in params.items() if name not in signature.parameters}
        if more and varkw is None:
            raise self._unknown(next(iter(more)))
        if more:
            own[str(varkw)] = {**self._shared(str(varkw), {}), **more}
        for name in own.keys() & self.fixed.keys() - self._dotted - {varkw}:
            raise ParameterError(self._twice(name))
        self._refuse_missing(own)
        return signature.check(own)

    def _base(self, name: str, _key: str = "") -> Any:
        signature = self._signature
        if name not in signature.parameters:
            raise self._unknown(name)
        default = signature.parameters[name].default
        found = self._shared(name, default)
        if found is signature.parameters[name].empty:
            raise ParameterError(
                f"{signature.name}(): a part of {name!r} is swept, and {name!r} has no value to change: give it to submit(), or "
                "give the parameter a default."
            )
        return found

    def _shared(self, name: str, default: Any) -> Any:
        return self.fixed[name] if name in self.fixed else self._kept.value(name, default)

    def _unknown(self, name: str) -> ParameterError:
        near = nearest(name, self._signature.parameters)
        return ParameterError(f"{self._signature.name}() has no parameter {name!r}: {near}")

    def _refuse_twice(self, keys: Iterable[str]) -> None:
        for name in keys:
            if name in self._given:
                raise ParameterError(self._twice(name))

    def _twice(self, name: str) -> str:
        return f"{self._signature.name}(): {name!r} is both swept and given to submit(): leave one of them out."

    def _refuse_missing(self, swept: Container[str]) -> None:
        for name in self._signature.required():
            if name not in swept and name not in self.fixed and name not in self._kept.stored:
                raise ParameterError(
                    f"{self._signature.name}() lacks parameter {name!r}: sweep it, or give it to all children, as in "
                    f"submit({name}=...)."
                )


def refuse_collecting(signature: Signature, keys: Iterable[str]) -> None:
    """Refuse to sweep ``*args`` and ``**kwargs`` as such."""
    for name in [key.partition(".")[0] for key in keys]:
        if name in (signature.shape.varargs, signature.shape.varkw):
            raise ParameterError(f"{name!r} takes any number of arguments and cannot be swept.")
