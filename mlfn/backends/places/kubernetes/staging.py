"""What travels to a pod beside the manifest: the assignment, and the files that its parameters name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.artifacts import nested
from mlfn.artifacts.codec import artifact_of
from mlfn.artifacts.formats.base import Packed
from mlfn.artifacts.store import ArtifactStore, is_at_home
from mlfn.backends.kinds.base import Manifest
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.binding import binding_of
from mlfn.backends.places.bundle import zipped
from mlfn.backends.places.kubernetes.objects import Wanted, packed
from mlfn.backends.registry import launch_of
from mlfn.code.payload import read_header
from mlfn.errors import StorageError
from mlfn.settings.declarations import PROTOCOLS
from mlfn.spec.values import shown_bytes
from mlfn.worker.pod.folders import FOLDER, WORKER
from mlfn.worker.task import Task

MOST = 1_000_000
"""Bytes that a Secret holds, with some room for its names."""


class Staged:
    """The assignment, the tasks as a pod reads them, and the content of the Secret's other keys."""

    def __init__(self, wanted: Wanted, config: PlaceConfig, tasks: Sequence[Task], *, folder: str = FOLDER) -> None:
        self._folder = folder  # of the pod's, in which all this is to lie
        payload = (config.folder / "payloads" / wanted.plan.payload).read_bytes()
        launch = launch_of(wanted.plan)
        self.files: dict[str, bytes] = {"payload": payload}
        self._paths: dict[str, str] = {"payload": "payload"}  # below the folder, by key
        self._keys: dict[str, str] = {}
        self._artifacts = ArtifactStore(**config.artifacts)
        self._root = config.artifacts["root"] if is_reached(config.artifacts["root"]) else None
        self.tasks = [self._task(task) for task in tasks]
        self.units = packed(self.tasks)
        fetched: dict[str, Any] = {}
        self.assignment: dict[str, Any] = {
            "python": read_header(payload).python,
            "starts": "mlfn.worker.pod.unit",
            "mark": wanted.mark,
            "grace": wanted.grace,
            "timeout": wanted.plan.timeout,
            "requirements": [
                *wanted.plan.requirements,
                *(launch.requirements if isinstance(launch, Manifest) else ()),
                *(drivers_of(self._root) if self._root else ()),
            ],
            "index": index_variables(config.package_index, config.trusted_host),
            "env": dict(wanted.plan.env),
            "files": self._paths,
            "plan": self._plan(wanted, config),
            "fetched": fetched,
        }
        fetched.update(self._fit(wanted))

    def _plan(self, wanted: Wanted, config: PlaceConfig) -> dict[str, Any]:
        return {
            **binding_of(wanted.plan, config, wanted.name),
            "payload": f"{self._folder}/payload",
            "folder": self._folder,
            "cwd": f"{self._folder}/work",
            "sys_path": [],
            "root": WORKER,
            "mem": None,  # the kubelet's to keep
            "artifacts": {
                "root": self._root or f"{self._folder}/artifacts",
                "home": config.artifacts.get("home", ""),
                "former": f"{self._folder}/artifacts",
            },
            "secrets_file": "/mlfn/no-secrets",
            "secrets": {},
        }

    def _task(self, task: Task) -> Task:
        params = {name: nested.mapped(value, self._leaf) for name, value in task.params.items()}
        return replace(task, params=params, log=None)

    def _leaf(self, leaf: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a parameter as a pod reads it, its file staged."""
        if "input" in leaf:
            source = Path(leaf["input"])
            if not source.exists():
                return leaf
            return {**leaf, "input": f"{self._folder}/{self._stage(str(source), source, 'inputs')}"}
        if isinstance(value := leaf.get("inline"), Mapping) and value.get("!") == "path":
            kind, text = value["v"]
            if not Path(text).exists():
                return leaf
            return {
                **leaf,
                "inline": {**value, "v": [kind, f"{self._folder}/{self._stage(text, Path(text), 'inputs')}"]},
            }
        if leaf.get("path") is not None and (self._root is None or not is_at_home(leaf["path"])):
            self._stage(leaf["path"], self._artifacts.path(artifact_of(leaf)), "artifacts")
        return leaf

    def _stage(self, name: str, source: Path, below: str) -> str:
        if name not in self._keys:
            key = f"{'folder' if source.is_dir() else 'file'}-{len(self._keys)}"
            relative = f"artifacts/{name}" if below == "artifacts" else f"inputs/{len(self._keys)}/{source.name}"
            self._keys[name], self._paths[key] = key, relative
            self.files[key] = _packed_folder(source) if source.is_dir() else source.read_bytes()
        return self._paths[self._keys[name]]

    def _fit(self, wanted: Wanted) -> dict[str, Any]:
        """Put under the artifact root what a Secret cannot hold, and return where a pod finds it, by key; refuse it without one."""
        size = sum(map(len, self.files.values())) + len(self.units)
        if size <= MOST:
            return {}
        if len(self.units) > MOST:
            raise StorageError(
                f"{wanted.plan.name}: the parameters of {len(self.tasks)} runs have {shown_bytes(len(self.units))}, compressed: at most "
                f"{shown_bytes(MOST)} travel to a Job. Keep what is large where pods reach it and pass its address as text, or make "
                "several sweeps of it."
            )
        if self._root is None:
            raise StorageError(
                f"{wanted.plan.name}: its code and the files of its parameters have {shown_bytes(size)}: at most {shown_bytes(MOST)} "
                "travel to a pod without an artifact root. Set one that both sides reach, as MLFN_ARTIFACTS=s3://bucket/path, or "
                "have the function read its data itself."
            )
        fetched = {}
        for key, content in self.files.items():
            # In the folder of a run of the execution, with which it is removed.
            folder = self.tasks[0].run if self.tasks else wanted.name
            kept = self._artifacts.put(folder, f"staged-{key}", Packed("bytes", "bytes", content=content))
            fetched[key] = {"path": kept.path, "sha256": kept.sha256, "packer": kept.packer}
        self.files = {}
        return fetched


def _packed_folder(folder: Path) -> bytes:
    """Return the archive of a folder, with the empty ones in it."""
    found = sorted(folder.rglob("*"))
    names = {path: path.relative_to(folder).as_posix() for path in found}
    _, content = zipped(
        (f"{name}/", b"") if path.is_dir() else (name, path.read_bytes()) for path, name in names.items()
    )
    return content


def is_reached(root: str) -> bool:
    """Return whether pods reach an artifact root: a URL, but not of a folder or of memory."""
    scheme, found, _ = root.partition("://")
    return bool(found) and scheme not in ("file", "memory")


def index_variables(index: str, trusted: str) -> dict[str, str]:
    """Return the variables by which pip and uv, the older ones too, know an index of packages, and a host to trust."""
    known = {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index, "UV_INDEX_URL": index}
    known |= {"PIP_TRUSTED_HOST": trusted, "UV_INSECURE_HOST": trusted}
    return {name: value for name, value in known.items() if value}


def drivers_of(root: str) -> tuple[str, ...]:
    """Return the packages by which a pod reads and writes an artifact root."""
    package = PROTOCOLS.get(root.partition("://")[0])
    return ("fsspec", *([package] if package not in (None, "fsspec") else ()))
