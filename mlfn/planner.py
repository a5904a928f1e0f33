"""Declared function + captured code + settings -> spec and plan. Pure: nothing is created, nothing stored."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from mlfn.capture import Capture
from mlfn.errors import OptionError, StorageError, nearest
from mlfn.execution import CallShape
from mlfn.inputs import DataItem
from mlfn.packers.briefs import encoded_default
from mlfn.registry import changed_options, kind_options, place_class
from mlfn.spec.canonical import canonical, digest, spec_hash
from mlfn.spec.options import Options, check_name

_DEEPEST = 8  # containers within containers that a plan shows
_MOST_PARTS = 400  # functions, classes and values of a version that a plan names
_LONGEST = 100  # characters of a repr that it shows


@dataclass(frozen=True)
class Plan:
    """What all runs of one function version at one place have in common."""

    hash: str
    function: str
    spec: Mapping[str, Any]
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.spec["name"])

    @property
    def project(self) -> str:
        """The project that the runs belong to."""
        return str(self.spec["project"])


def make_spec(
    options: Options, capture: Capture, *, outputs: tuple[str, ...], name: str, project: str
) -> dict[str, Any]:
    """Return the canonical spec of a declared function: what is set, and nothing else."""
    kind, kind_values = kind_options(options.kind)
    spec: dict[str, Any] = {
        "name": check_name(name),
        "project": project,
        "kind": _without_empty({"name": kind, "options": changed_options(kind_values)}),
        "image": options.image,
        "requirements": list(options.requirements),
        "resources": _without_empty({"cpu": options.cpu, "mem": options.mem, "gpus": options.gpus}),
        "env": dict(options.env),
        "secrets": [_without_empty(vars(secret)) for secret in options.secrets],
        "node": _without_empty(_plain(options.node)) if options.node else None,
        "retry": _without_empty(_plain(options.retry)) if options.retry else None,
        "timeout": options.timeout,
        "source": options.source,
        "outputs": list(outputs),
        "code": {
            "qualname": capture.qualname,
            "digest": capture.digest.hexdigest,
            "origin": capture.digest.origin,
            "capture": capture.mode,
        },
        "labels": dict(options.labels),
    }
    return _without_empty(spec)


def make_plan(
    spec: Mapping[str, Any],
    *,
    payload: bytes,
    capture: Capture,
    shape: CallShape,
    accepts: Iterable[str],
    inputs: Mapping[str, str],
    defaults: Mapping[str, Any],
    place: str,
    place_options: Mapping[str, Any],
) -> Plan:
    """Return the plan of runs of this spec, from this process, at this place."""
    check_place(place, place_options)
    resources = spec.get("resources", {})
    function = spec_hash(spec)
    body = {
        "function": function,
        "name": spec["name"],
        "project": spec["project"],
        "kind": {"options": {}, **spec["kind"]},
        "place": {"name": place, "options": dict(place_options)},
        "payload": hashlib.sha256(payload).hexdigest(),
        "outputs": spec.get("outputs", []),
        "shape": asdict(shape),
        "accepts": list(accepts),
        "inputs": dict(inputs),
        "defaults": {name: encoded_default(value) for name, value in defaults.items()},
        "image": spec.get("image"),
        "requirements": spec.get("requirements", []),
        "cpu": resources.get("cpu"),
        "mem": resources.get("mem"),
        "gpus": resources.get("gpus"),
        "env": spec.get("env", {}),
        "secrets": spec.get("secrets", []),
        "timeout": spec.get("timeout"),
        "retry": spec.get("retry"),
        "cwd": working_folder(),
        "sys_path": own_path(),
        "by_reference": list(capture.own_modules),
        "parts": code_parts(capture),
        "sources": _unsaved_sources(capture.function),
    }
    return Plan(digest(body), function, spec, body)


def shown_param(value: Any, depth: int = 0) -> Any:
    """Return a parameter as plain data for people: what YAML has no word for by its repr, or by its type where that is long."""
    if isinstance(value, DataItem):
        return {"input": value.url, **({"as": value.type} if value.type else {})}
    if getattr(type(value), "__mlfn_reference__", False):
        return {"output": value.key, "run": value.run.id}
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
    # Of a subclass, such as NumPy's float, the plain value; but an Enum's member is more than that.
    plain = next((kind for kind in (int, float, str) if isinstance(value, kind)), None)
    if plain is not None and not isinstance(value, Enum):
        return plain(value)
    text = repr(value)
    short = len(text) <= _LONGEST and "\n" not in text
    return text if short else f"<{type(value).__module__}.{type(value).__qualname__}>"


def check_place(place: str, options: Mapping[str, Any]) -> None:
    """Refuse a place that is not registered, an option that it does not have, or a value that does not fit."""
    found = place_class(place)
    allowed = found.OPTIONS
    for name in options:
        if name not in allowed:
            raise OptionError(
                f"on({place!r}) has no option {name!r} (value {options[name]!r}): {nearest(name, allowed)}"
            )
    found.check(**options)


def code_parts(capture: Capture) -> dict[str, list[str]]:
    """Return what the code is made of, for telling later what another version has changed: (digest, value) by name."""
    digest = capture.digest
    names = list(digest.part_digests)[:_MOST_PARTS]
    values = digest.part_values
    return {name: [digest.part_digests[name][:16], *([values[name]] if name in values else [])] for name in names}


def working_folder() -> str:
    """Return the current folder, in which the run will start too."""
    try:
        return os.getcwd()
    except OSError as error:
        raise StorageError(
            f"The current folder cannot be used ({error.strerror}): change to one that is there."
        ) from error


def own_path() -> list[str]:
    """Return the caller's own folders on ``sys.path``: what is neither installed nor the standard library."""
    own = [os.path.abspath(path or working_folder()) for path in sys.path if not path.endswith(("-packages", ".zip"))]
    return [path for path in own if path not in _STDLIB and not path.endswith("lib-dynload")]


_STDLIB = {os.path.dirname(os.__file__)}


def _unsaved_sources(function: Callable[..., Any]) -> dict[str, str]:
    """Return the text of a notebook cell or of a shell's input, so that tracebacks can show its lines."""
    name = getattr(getattr(function, "__code__", None), "co_filename", "")
    if not name or os.path.exists(name):
        return {}
    lines = linecache.getlines(name)
    return {name: "".join(lines)} if lines else {}


def _plain(value: Any) -> dict[str, Any]:
    return {f.name: _listed(getattr(value, f.name)) for f in fields(value)}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _without_empty(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None and value not in ([], {})}


def as_text(plan: Plan) -> str:
    """Return the canonical JSON of a plan's body, by which it is stored."""
    return canonical(plan.body)
