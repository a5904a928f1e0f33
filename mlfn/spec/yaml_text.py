"""YAML for people, by PyYAML: plans and specs in block style, and parameter files read without surprises."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LARGEST = 2**20  # characters
_DEEPEST = 50  # levels
_TAG = "tag:yaml.org,2002:"
# A YAML reader of any version takes such a text for a text, unless it is one of the words; any other is quoted.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
# The core schema of YAML 1.2: type, pattern, and the characters that it begins with. A number of thousands of digits takes
# Python minutes: it is a text.
_SCHEMA = (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}", "-+0123456789"),
    ("float", r"(?=.{1,400}\Z)[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
)


class YamlError(ValueError):
    """A text that is no YAML, or more than is read here; `line` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line, self.why = line, why


def to_yaml(data: Any) -> str:
    """Return plain data (mappings, lists, texts, numbers) as YAML."""
    import yaml

    text: str = yaml.dump(
        data, Dumper=_dumper(), sort_keys=False, default_flow_style=False, allow_unicode=True, width=2**31
    )
    return text.removesuffix("...\n")


def to_manifests(plan: Mapping[str, Any], manifests: Sequence[Any]) -> str:
    """Return manifests as YAML documents; what else a plan says is a comment before them."""
    rest = to_yaml({name: value for name, value in plan.items() if name != "creates"})
    comment = "".join(f"# {line}\n" for line in rest.splitlines())
    return comment + "".join(f"---\n{to_yaml(manifest)}" for manifest in manifests)


def from_yaml(text: str) -> Any:
    """Return what one YAML document holds: mappings, lists, texts, numbers, true, false and null.

    Plain words are typed as YAML 1.2 does: ``1e-3`` is a number, ``no`` a text. Aliases, anchors, tags, repeated keys, more
    than a mebibyte and more than 50 levels are refused, by YamlError.
    """
    import yaml

    if len(text) > _LARGEST:
        raise YamlError(1, f"{len(text)} characters are too many. Allowed: {_LARGEST}.")
    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 - a SafeLoader, narrowed further
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(mark.line + 1 if mark else 1, f"{why}.") from error
    except yaml.YAMLError as error:  # a letter that no YAML holds
        position = getattr(error, "position", 0)
        raise YamlError(text.count("\n", 0, position) + 1, f"{getattr(error, 'reason', error)}.") from error


@functools.cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is
            super().increase_indent(flow, False)  # lists are indented below their key

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def represent_text(self, data: str) -> Any:
            plain = _PLAIN.fullmatch(data) and data.lower() not in _WORDS
            return self.represent_scalar(f"{_TAG}str", data, style=None if plain else '"')

    Dumper.add_representer(str, Dumper.represent_text)
    return Dumper


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: Mapping[str, Any] = {}
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if why := _refusal(self.peek_event(), self.depth):
                raise yaml.MarkedYAMLError(problem=why, problem_mark=self.peek_event().start_mark)
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as it is
            found: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, (list, dict)) or key in found:
                    why = _key_refusal(key)
                    raise yaml.MarkedYAMLError(problem=why, problem_mark=key_node.start_mark)
                found[key] = self.construct_object(value_node, deep=True)
            return found

        def construct_yaml_int(self, node: Any) -> int:
            return int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))

    for name, pattern, first in _SCHEMA:
        Loader.add_implicit_resolver(_TAG + name, re.compile(rf"(?:{pattern})\Z"), list(first))
    Loader.add_constructor(f"{_TAG}int", Loader.construct_yaml_int)
    return Loader


def _refusal(event: Any, depth: int) -> str:
    if getattr(event, "anchor", None) is not None:
        return "an anchor or alias (& or *) is not read. Write the value out"
    if getattr(event, "tag", None) is not None:
        return f"the tag {event.tag!r} is not read. Write a plain value"
    return f"nested deeper than {_DEEPEST} levels" if depth == _DEEPEST else ""


def _key_refusal(key: Any) -> str:
    if isinstance(key, (list, dict)):
        return "a list or mapping is no key. Write a text"
    return f"the key {key!r} is there twice"
