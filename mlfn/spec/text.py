"""YAML for people: specs and plans written in block style, plain where YAML allows it, and read without surprises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from mlfn.errors import MissingExtraError

# What a YAML reader of any version takes for a text; everything else is quoted as JSON, which is YAML too.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*")
# What JSON may hold as it is and YAML may not, or takes for the end of a line.
_UNSEEN = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def to_yaml(data: Any) -> str:
    """Return plain data (mappings, lists, texts, numbers) as YAML."""
    return "\n".join(_block(data, 0)) + "\n"


def _block(data: Any, depth: int) -> list[str]:
    pad = "  " * depth
    if isinstance(data, Mapping) and data:
        return [line for key, value in data.items() for line in _entry(f"{pad}{_scalar(key)}:", value, depth + 1)]
    if isinstance(data, Sequence) and not isinstance(data, str) and data:
        return [line for value in data for line in _item(pad, value, depth)]
    return [f"{pad}{_scalar(data)}"]


def _entry(head: str, value: Any, depth: int) -> list[str]:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str) and value:
        return [head, *_block(value, depth)]
    return [f"{head} {_scalar(value)}"]


def _item(pad: str, value: Any, depth: int) -> list[str]:
    lines = _block(value, depth + 1)
    return [f"{pad}- {lines[0].lstrip()}", *lines[1:]]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf"}.get(repr(value), ".nan")
    if isinstance(value, float) and "." not in (text := repr(value)) and "e" in text:
        return text.replace("e", ".0e")  # YAML 1.1 takes 1e-05 for a text
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


class YamlError(ValueError):
    """A text that is no YAML, or more than is read here; `line` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(line, why)
        self.line, self.why = line, why

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


def from_yaml(text: str) -> Any:
    """Return what one YAML document holds: mappings, lists, texts, numbers, true, false and null.

    Plain words are typed as YAML 1.2 does: ``1e-3`` is a number, ``no`` a text. Aliases, anchors, tags, repeated keys, more
    than a mebibyte and more than 50 levels are refused, by YamlError.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("Reading YAML needs PyYAML: pip install 'mlfn[yaml]'.") from error

    if len(text) > _LARGEST:
        raise YamlError(1, f"{len(text)} characters are too many. Allowed: {_LARGEST}.")
    try:
        return _Reader(yaml.parse(text, Loader=yaml.BaseLoader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(mark.line + 1 if mark else 1, f"{error.problem or error.context}.") from error
    except yaml.YAMLError as error:  # a letter that no YAML holds
        position = getattr(error, "position", 0)
        raise YamlError(text.count("\n", 0, position) + 1, f"{getattr(error, 'reason', error)}.") from error


class _Reader:
    """Makes values of the parser's events; nothing but these, so that no text builds an object."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = (event for event in events if not type(event).__name__.startswith("Stream"))

    def document(self) -> Any:
        if next(self._events, None) is None:
            return None
        value = self._value(next(self._events), 1)
        next(self._events)  # its end
        following = next(self._events, None)
        if following is not None:
            self._refuse(following, "a second document begins. Allowed: one.")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent" or event.anchor is not None:
            self._refuse(event, "an anchor or alias (& or *) is not read. Write the value out.")
        if event.tag not in (None, "!"):
            self._refuse(event, f"the tag {event.tag!r} is not read. Write a plain value.")
        if depth > _DEEPEST:
            self._refuse(event, f"nested deeper than {_DEEPEST} levels.")
        if kind == "ScalarEvent":
            # Quotes and blocks have a style; a plain word has none.
            return event.value if event.style or event.tag == "!" else _typed(event.value)
        return self._list(depth) if kind == "SequenceStartEvent" else self._mapping(depth)

    def _list(self, depth: int) -> list[Any]:
        items = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._value(event, depth + 1)
            if isinstance(key, (list, dict)):
                self._refuse(event, "a list or mapping is no key. Write a text.")
            if key in found:
                self._refuse(event, f"the key {key!r} is there twice.")
            found[key] = self._value(next(self._events), depth + 1)
        return found

    def _refuse(self, event: Any, why: str) -> NoReturn:
        raise YamlError(event.start_mark.line + 1, why)


_LARGEST = 2**20
_DEEPEST = 50
_YAML_WORDS: Mapping[str, Any] = {
    **{word: None for null in ("null", "~", "") for word in (null, null.title(), null.upper())},
    **{word: truth for truth in (True, False) for word in (str(truth), str(truth).lower(), str(truth).upper())},
}
_YAML_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_YAML_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_YAML_SPECIAL = re.compile(r"([-+]?\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)")


def _typed(word: str) -> Any:
    """Return what a plain word means in the core schema of YAML 1.2."""
    if word in _YAML_WORDS:
        return _YAML_WORDS[word]
    # A number of thousands of digits takes Python minutes, and is no number that anyone means.
    if len(word) > 400:
        return word
    if _YAML_INT.fullmatch(word):
        return int(word, {"0o": 8, "0x": 16}.get(word[:2], 10))
    if _YAML_FLOAT.fullmatch(word):
        return float(word)
    if special := _YAML_SPECIAL.fullmatch(word):
        return float(word.replace(".", "")) if special[1] else float("nan")
    return word
