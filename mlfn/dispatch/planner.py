"""The planner: declared function, captured code and settings become a spec and a plan. Pure: it stores nothing."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from mlfn.artifacts.nested import is_reference
from mlfn.artifacts.summaries import encoded_default
from mlfn.backends.registry import (
    capabilities,
    changed_options,
    engine_class,
    engine_name,
    engine_of,
    kind_options,
    launch_of,
    place_class,
)
from mlfn.code.capture import Capture
from mlfn.code.ownership import is_own_module
from mlfn.errors import StorageError
from mlfn.settings import current as settings
from mlfn.spec.canonical import canonical
from mlfn.spec.data_item import DataItem
from mlfn.spec.function import CodeSpec, FunctionSpec, ResourcesSpec, RetrySpec
from mlfn.spec.options import Options, check_name, refuse_unknown
from mlfn.spec.plan import Plan, Selected
from mlfn.worker.logging_setup import describe_logging

if TYPE_CHECKING:
    from mlfn.dispatch.signature import Signature

_DEEPEST = 8  # containers within containers that a plan shows
_MOST_PARTS = 400  # functions, classes and values of a version that a plan names
_LONGEST = 100  # characters of a repr that it shows


@dataclass(frozen=True, eq=False)
class Prepared:
    """A function version that is ready to be submitted: its spec, its plan as it is stored, its signed code."""

    spec: FunctionSpec
    plan: Plan
    body: str
    payload: bytes
    capture: Capture

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its runs."""
        return self.spec.labels

    @property
    def large(self) -> tuple[tuple[str, int], ...]:
        """The large values that travel with its code."""
        return self.capture.large


@dataclass(frozen=True)
class PreparedBefore:
    """A function version that the store has: a promoted one."""

    plan: Plan
    labels: Mapping[str, str]
    large: tuple[tuple[str, int], ...] = ()


def make_spec(options: Options, capture: Capture, *, outputs: tuple[str, ...], name: str, project: str) -> FunctionSpec:
    """Return the spec of a declared function."""
    kind, kind_values = kind_options(options.kind)
    return FunctionSpec(
        name=check_name(name),
        project=project,
        kind=Selected(kind, changed_options(kind_values)),
        image=options.image,
        requirements=options.requirements,
        resources=ResourcesSpec(options.cpu, options.mem, options.gpus),
        env=options.env,
        secrets=options.secrets,
        node=options.node,
        retry=RetrySpec(**vars(options.retry)) if options.retry else None,
        timeout=options.timeout,
        source=options.source,
        outputs=outputs,
        code=CodeSpec(capture.qualname, capture.digest.hexdigest, capture.digest.origin, capture.mode),
        labels=options.labels,
    )


def prepare(
    spec: FunctionSpec,
    *,
    payload: bytes,
    capture: Capture,
    signature: Signature,
    place: Selected,
) -> Prepared:
    """Return what all runs of this spec, from this process, at this place, share."""
    check_place(place.name, place.options)
    data = spec.plain()
    body: dict[str, Any] = {
        "function": spec.hash,
        "name": spec.name,
        "project": spec.project,
        "kind": asdict(spec.kind),
        "place": asdict(place),
        "payload": hashlib.sha256(payload).hexdigest(),
        "outputs": list(spec.outputs),
        "shape": signature.shape.to_json(),
        "accepts": list(signature.parameters),
        "inputs": signature.inputs(),
        "defaults": {name: encoded_default(value) for name, value in signature.defaults().items()},
        "image": spec.image or _default_image(spec, place),
        "requirements": list(spec.requirements),
        **asdict(spec.resources),
        "env": dict(spec.env),
        "secrets": data.get("secrets", []),
        "timeout": spec.timeout,
        "retry": data.get("retry"),
        "cwd": working_folder(),
        "sys_path": own_path(),
        "by_reference": list(capture.own_modules),
        "parts": code_parts(capture),
        "sources": _unsaved_sources(capture.code_files),
    }
    if logging := describe_logging(is_own_module):
        body["logging"] = logging
    if "node" in data:
        body["node"] = data["node"]
    return Prepared(spec, Plan.of_body(body), canonical(body), payload, capture)


def _default_image(spec: FunctionSpec, place: Selected) -> str | None:
    """Return the image of the settings, where one means something."""
    can = capabilities(engine_name(spec.kind.name, place.name))
    return None if "image" in {**can.ignored, **can.unsupported} else settings.current().image or None


def creates(plan: Plan) -> dict[str, Any]:
    """Return what a run of this plan would have its place create, to show; nothing in the caller's own thread."""
    engine = engine_of(plan).name
    can = capabilities(engine)
    if can.manifests:
        return {"manifests": engine_class(engine).manifests(plan)}
    return {} if can.in_caller else launch_of(plan).shown()


def shown_param(value: Any, depth: int = 0) -> Any:
    """Return a parameter as plain data to show: what YAML cannot express by its repr, or by its type where that is long."""
    if isinstance(value, DataItem):
        return {"input": value.url, **({"as": value.type} if value.type else {})}
    if is_reference(value):
        stored = value.__mlfn_encoded__()
        return {"output": value.key, "run": value.run.id} if "output" in stored else {"result": stored["run"]}
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {str(key): shown_param(item, depth + 1) for key, item in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [shown_param(item, depth + 1) for item in value]
    return _shown_scalar(value)


def _shown_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # A subclass such as NumPy's float becomes the plain value; an Enum member does not.
    plain = next((kind for kind in (int, float, str) if isinstance(value, kind)), None)
    if plain is not None and not isinstance(value, Enum):
        return plain(value)
    text = repr(value)
    short = len(text) <= _LONGEST and "\n" not in text
    return text if short else f"<{type(value).__module__}.{type(value).__qualname__}>"


def check_place(place: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown place, an option that it lacks, or a value that does not fit."""
    found = place_class(place)
    refuse_unknown(options, found.OPTIONS, where=f"on({place!r})", elsewhere={})
    found.check(**options)


def code_parts(capture: Capture) -> dict[str, list[str]]:
    """Return the parts of the code, (digest, value) by name, so that `diff` can name what changed."""
    digest = capture.digest
    names = list(digest.part_digests)[:_MOST_PARTS]
    values = digest.part_values
    return {name: [digest.part_digests[name][:16], *([values[name]] if name in values else [])] for name in names}


def working_folder() -> str:
    """Return the current folder, which becomes the run's own."""
    try:
        return os.getcwd()
    except OSError as error:
        raise StorageError(
            f"The current folder cannot be used ({error.strerror}): change to one that exists."
        ) from error


def own_path() -> list[str]:
    """Return the caller's own folders on ``sys.path``: neither installed packages nor the standard library."""
    own = [os.path.abspath(path or working_folder()) for path in sys.path if not path.endswith(("-packages", ".zip"))]
    return [path for path in own if path not in _STDLIB and not path.endswith("lib-dynload")]


_STDLIB = {os.path.dirname(os.__file__)}


def _unsaved_sources(files: Iterable[str]) -> dict[str, str]:
    """Return the text of notebook cells or of shell input, for tracebacks and `inspect`."""
    unsaved = {name: linecache.getlines(name) for name in files if not os.path.exists(name)}
    return {name: "".join(lines) for name, lines in unsaved.items() if lines}
