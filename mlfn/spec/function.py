"""FunctionSpec: the declared function as canonical JSON, and its hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from mlfn.errors import OptionError, nearest
from mlfn.spec.canonical import canonical, spec_hash


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KindSpec(_Frozen):
    """A kind by name, with the options that differ from its defaults."""

    name: str
    options: dict[str, Any] = {}


class ResourcesSpec(_Frozen):
    """What one run may use: cores, bytes, devices."""

    cpu: float | None = None
    mem: int | None = None
    gpus: int | None = None


class SecretSpec(_Frozen):
    """A reference to a secret; never its value."""

    name: str
    key: str | None = None
    env: str | None = None


class NodeSpec(_Frozen):
    """Placement on a cluster."""

    selector: dict[str, str] | None = None
    tolerations: list[Any] = []
    affinity: dict[str, Any] | None = None
    priority: str | None = None
    spot: str | None = None


class RetrySpec(_Frozen):
    """When and how often to try again; times in seconds."""

    times: int
    delay: float
    backoff: float
    max_delay: float
    on: list[str] = []


class CodeSpec(_Frozen):
    """The code by digest, and how it was found."""

    qualname: str
    digest: str
    origin: str
    capture: str


class FunctionSpec(_Frozen):
    """A function as declared: frozen, canonical, hashed without tag, labels and times."""

    name: str
    project: str
    kind: KindSpec
    image: str | None = None
    requirements: list[str] = []
    resources: ResourcesSpec = ResourcesSpec()
    env: dict[str, str] = {}
    secrets: list[SecretSpec] = []
    node: NodeSpec | None = None
    retry: RetrySpec | None = None
    timeout: float | None = None
    source: str | None = None
    outputs: list[str] = []
    code: CodeSpec
    tag: str | None = None
    labels: dict[str, str] = {}

    @classmethod
    def parse(cls, data: Mapping[str, Any] | str) -> FunctionSpec:
        """Read a mapping or JSON text; an unknown or misfitting key is refused by name."""
        try:
            return cls.model_validate_json(data) if isinstance(data, str) else cls.model_validate(data)
        except ValidationError as error:
            raise OptionError(_explain(error)) from error

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no blanks, nothing that is unset."""
        return canonical(self.model_dump(exclude_defaults=True))

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON without tag and labels."""
        return spec_hash(self.model_dump(exclude_defaults=True))


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(first["loc"][:-1])
        return f"A function spec has no key {where!r} (value {first['input']!r}): {nearest(str(first['loc'][-1]), allowed)}"
    return f"A function spec with {where}={first['input']!r} does not fit: {first['msg']}."


def _fields_at(path: tuple[int | str, ...]) -> Iterable[str]:
    """Return the keys that are allowed where a path leads to: a number is a place in a list."""
    model: type[BaseModel] = FunctionSpec
    for part in path:
        if isinstance(part, str):
            annotation: Any = model.model_fields[part].annotation
            model = next(item for item in (annotation, *_flat(annotation)) if _is_model(item))
    return model.model_fields


def _flat(annotation: Any) -> Iterator[Any]:
    for item in get_args(annotation):
        yield item
        yield from _flat(item)


def _is_model(item: Any) -> bool:
    # In Python 3.10 list[int] passes for a type.
    return isinstance(item, type) and not get_args(item) and issubclass(item, BaseModel)
