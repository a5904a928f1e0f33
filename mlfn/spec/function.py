"""FunctionSpec: the declared function as canonical JSON, and its hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, get_args, get_type_hints

from mlfn.errors import OptionError, nearest
from mlfn.host.frozen import frozen
from mlfn.settings.secrets import Secret
from mlfn.spec.canonical import canonical, spec_hash
from mlfn.spec.plan import Selected
from mlfn.spec.values import Node


@frozen
class ResourcesSpec:
    """What one run may use: cores, bytes, devices."""

    cpu: float | None = None
    mem: int | None = None
    gpus: int | None = None


@frozen
class CodeSpec:
    """The code by digest, and how it was found."""

    qualname: str
    digest: str
    origin: str
    capture: str


@frozen
class RetrySpec:
    """A retry policy whose failures are names: an exception's class is code, which a spec holds by digest alone."""

    times: int
    delay: float
    backoff: float
    max_delay: float
    on: tuple[str, ...] = ()
    mem: str | int | None = None


@dataclass(frozen=True, kw_only=True)
class FunctionSpec:
    """A function as declared: frozen, canonical, hashed without tag, labels and times."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}  # for its parts too

    name: str
    project: str
    kind: Selected
    image: str | None = None
    requirements: tuple[str, ...] = ()
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    node: Node | None = None
    retry: RetrySpec | None = None
    timeout: float | None = None
    source: str | None = None
    outputs: tuple[str, ...] = ()
    code: CodeSpec
    tag: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Mapping[str, Any] | str) -> FunctionSpec:
        """Read a mapping or JSON text; an unknown or misfitting key is refused by name."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(data if isinstance(data, str) else canonical(data))
        except ValidationError as error:
            raise OptionError(_explain(error.errors()[0])) from error

    def plain(self) -> dict[str, Any]:
        """Return plain data: dicts and lists, without what is empty."""
        data: dict[str, Any] = _plain(self)
        return data

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no blanks, nothing that is empty."""
        return canonical(self.plain())

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON without tag and labels."""
        return spec_hash(self.plain())


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        found = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        return {name: item for name, item in found.items() if item is not None and item not in ([], {})}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "unexpected_keyword_argument":
        allowed = _keys_at(error["loc"][:-1])
        return f"A function spec has no key {where!r} (value {error['input']!r}): {nearest(str(error['loc'][-1]), allowed)}"
    return f"A function spec with {where}={error['input']!r} does not fit: {error['msg']}."


def _keys_at(path: Iterable[int | str]) -> list[str]:
    """Return the keys that are allowed at a path; a number is an index of a list."""
    part: Any = FunctionSpec
    for name in path:
        if isinstance(name, str):
            part = next(item for item in _flat(get_type_hints(part)[name]) if is_dataclass(item))
    return [f.name for f in fields(part)]


def _flat(annotation: Any) -> Iterator[Any]:
    yield annotation
    for item in get_args(annotation):
        yield from _flat(item)
