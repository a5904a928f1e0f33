"""``depth=4,8`` and ``lr=log(1e-4,1)``: text from a command line -> the lists and spaces of a sweep. Nothing is evaluated."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from mlfn.dispatch.signature import Signature
from mlfn.errors import ParameterError, nearest
from mlfn.sweep.spaces import distributions as space
from mlfn.sweep.spaces.distributions import Space
from mlfn.ui.cli.conversion import MISSING, bare, convert, fields_of

_SPACES: Mapping[str, Callable[..., Space]] = {
    "uniform": space.uniform,
    "log": space.loguniform,
    "loguniform": space.loguniform,
    "quniform": space.quniform,
    "int": space.randint,
    "randint": space.randint,
    "logint": space.lograndint,
    "lograndint": space.lograndint,
    "normal": space.normal,
    "choice": space.choice,
    "ordinal": space.ordinal,
}
_OF_VALUES = ("choice", "ordinal")
_MOST = 1_000_000  # values that a range by steps may have
_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_WHOLE = re.compile(r"[-+]?\d+")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\((.*)\)", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


def read_lists(option: str, texts: Sequence[str], signature: Signature) -> Mapping[str, Any] | Path:
    """Return lists by key, or the file that is named in their place; raise ParameterError that shows the text at fault."""
    files = [text for text in texts if "=" not in text]
    if files and len(texts) > 1:
        raise ParameterError(f"{option} {files[0]!r}: give one file, or KEY=VALUES as in {option} depth=4,8, not both.")
    if files and not Path(files[0]).suffix:
        raise ParameterError(f"{option} {files[0]!r}: KEY=VALUES is allowed, as in {option} depth=4,8, or a file.")
    if files:
        return Path(files[0])
    return {key: _Reader(f"{option} {key}", signature, key).values(text) for key, text in _keyed(option, texts)}


def read_spaces(option: str, texts: Sequence[str], signature: Signature) -> dict[str, Space]:
    """Return spaces by key; raise ParameterError that shows the text at fault."""
    return {key: _Reader(f"{option} {key}", signature, key).space(text) for key, text in _keyed(option, texts)}


def _keyed(option: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for text in texts:
        key, equals, rest = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            why = f"KEY=SPACE is allowed, as in {option} 'lr=log(1e-4,1)' or {option} depth=2..32."
            if _WHOLE.fullmatch(text):
                why = f"-n {text} gives the number of children; {why}"
            raise ParameterError(f"{option} {text!r}: {why}")
        if key in seen:
            raise ParameterError(f"{option} {key}=...: it is there twice; write all its values in one.")
        seen.add(key)
        yield key, rest.strip()


class _Reader:
    """Reads the values or the space of one key."""

    def __init__(self, what: str, signature: Signature, key: str) -> None:
        self._what = what
        self._signature = signature
        self._annotation, self._default = _declared(signature, key)

    def values(self, text: str) -> Sequence[Any]:
        """Return a list of values; a range of whole numbers stays one."""
        parts = self._parts(text, ",")
        whole = self._range(parts[0]) if len(parts) == 1 else None
        return self._all(parts) if whole is None else whole

    def space(self, text: str) -> Space:
        """Return a distribution, with its conditions."""
        base, *conditions = self._parts(text, ".when(")
        found = self._space(base)
        for condition in conditions:
            if not condition.endswith(")"):
                self._refuse(f".when({condition}", "as in .when(opt=sgd)")
            found = found.when(self._wanted(condition[:-1]))
        return found

    def value(self, text: str) -> Any:
        """Return one value by the parameter's annotation."""
        known = self._annotation not in (MISSING, Any, object)
        if known and len(text) > 1 and text[0] == text[-1] == '"':
            try:
                text = str(json.loads(text))
            except ValueError:
                self._refuse(text, "it is no text in double quotes")
        return convert(self._annotation, [text], what=self._what, default=self._default)

    def _space(self, text: str) -> Space:
        call = _CALL.fullmatch(text)
        if call is not None:
            return self._called(call[1], call[2])
        limits = _RANGE.fullmatch(text)
        if limits is not None and limits[3] is None and not self._is_text:
            whole = _WHOLE.fullmatch(limits[1]) and _WHOLE.fullmatch(limits[2]) and not self._is_float
            return self._called("int" if whole else "uniform", f"{limits[1]},{limits[2]}")
        if any(sign in text for sign in "()") and '"' not in text:
            self._refuse(text, f"as in {self._what}=log(1e-4,1), or a text in double quotes")
        several = self._parts(text, "|")
        return space.choice(self._all(several if len(several) > 1 else self._parts(text, ",")))

    def _called(self, name: str, inside: str) -> Space:
        if name not in _SPACES:
            raise ParameterError(f"{self._what}={name}({inside}): {nearest(name, _SPACES)}")
        parts = self._parts(inside, ",")
        if name in _OF_VALUES:
            return _SPACES[name](self._all(parts))
        numbers = [self._number(part) for part in parts]
        wanted = list(inspect.signature(_SPACES[name]).parameters)
        if len(numbers) != len(wanted):
            raise ParameterError(
                f"{self._what}={name}({inside}): {len(wanted)} numbers are allowed, {', '.join(wanted)}."
            )
        try:
            return _SPACES[name](*numbers)
        except ParameterError as error:
            raise ParameterError(f"{self._what}: {error}") from None

    def _number(self, text: str) -> int | float:
        if not re.fullmatch(_NUMBER, text):
            self._refuse(text, "a number is allowed")
        return int(text) if _WHOLE.fullmatch(text) else float(text)

    def _wanted(self, text: str) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        for part in self._parts(text, ","):
            key, equals, rest = (piece.strip() for piece in part.partition("="))
            if not equals or not key:
                self._refuse(f".when({text})", "as in .when(opt=sgd) or .when(opt=sgd|rms)")
            other = _Reader(f"{self._what}.when({key})", self._signature, key)
            values = [other.value(piece) for piece in self._parts(rest, "|")]
            wanted[key] = values if len(values) > 1 else values[0]
        return wanted

    def _all(self, parts: Sequence[str]) -> list[Any]:
        found: list[Any] = []
        for part in parts:
            several = self._range(part)
            found += [self.value(part)] if several is None else several
        return found

    def _range(self, part: str) -> Sequence[Any] | None:
        """Return the values of ``1..10``; None where it is no range, or the parameter is a text."""
        found = _RANGE.fullmatch(part)
        if found is None or self._is_text:
            return None
        if found[3] is None and not (_WHOLE.fullmatch(found[1]) and _WHOLE.fullmatch(found[2])):
            self._refuse(part, f"give a step, as in {part}..0.1")
        low, high, step = Decimal(found[1]), Decimal(found[2]), Decimal(found[3] or 1)
        if step == 0 or (high - low) * step < 0:
            self._refuse(part, f"by steps of {step} it never gets from {low} to {high}")
        if all(_WHOLE.fullmatch(text) for text in found.groups() if text) and not self._is_float:
            return range(int(low), int(high) + (1 if step > 0 else -1), int(step))
        count = int((high - low) / step) + 1
        if count > _MOST:
            self._refuse(part, f"it has {count} values, and {_MOST} are allowed")
        return [float(low + number * step) for number in range(count)]

    @property
    def _is_text(self) -> bool:
        return bare(self._annotation) is str or (self._annotation is MISSING and isinstance(self._default, str))

    @property
    def _is_float(self) -> bool:
        return bare(self._annotation) is float

    def _parts(self, text: str, separator: str) -> list[str]:
        """Split at a separator that stands in no brackets and no quotes."""
        parts, depth, quoted, begin, place = [], 0, False, 0, 0
        while place < len(text):
            sign = text[place]
            if quoted:
                place += sign == "\\"
                quoted = sign != '"'
            elif depth == 0 and text.startswith(separator, place):
                parts.append(text[begin:place].strip())
                begin = place + len(separator)
                place = begin - 1
                depth += separator.endswith("(")
            elif sign == '"':
                quoted = True
            else:
                depth += (sign in _OPENING) - (sign in _CLOSING)
            place += 1
        if quoted or depth != 0:
            self._refuse(text, "a quote or bracket in it is not closed")
        parts.append(text[begin:].strip())
        if "" in parts:
            self._refuse(text, f"a value is missing beside {separator!r}" if len(parts) > 1 else "it has no value")
        return parts

    def _refuse(self, text: str, why: str) -> NoReturn:
        raise ParameterError(f"{self._what}: {text!r} cannot be read: {why}.")


def _declared(signature: Signature, key: str) -> tuple[Any, Any]:
    """Return the annotation and the default of a parameter, or of the part of it that a dotted key names."""
    name, *path = key.split(".")
    annotation = signature.annotations.get(name, MISSING)
    if not path:
        parameter = signature.parameters.get(name)
        return annotation, MISSING if parameter is None else parameter.default
    for part in path:
        annotation = fields_of(annotation).get(part, MISSING) if annotation is not MISSING else MISSING
    return annotation, MISSING
