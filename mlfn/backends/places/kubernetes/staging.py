"""What travels to a pod beside the manifest: the assignment, and the files that its parameters name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.artifacts import nested
from mlfn.artifacts.codec import artifact_of
from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.binding import binding_of
from mlfn.backends.places.kubernetes.objects import Wanted
from mlfn.code.payload import read_header
from mlfn.errors import StorageError
from mlfn.spec.values import shown_bytes
from mlfn.worker.pod.folders import FOLDER, TASK, WORKER
from mlfn.worker.task import Task

MOST = 1_000_000
"""Bytes that a Secret holds, with some room for its names."""


class Staged:
    """The assignment, the tasks as a pod reads them, and the content of the Secret's other keys."""

    def __init__(self, wanted: Wanted, config: PlaceConfig, tasks: Sequence[Task]) -> None:
        payload = (config.folder / "payloads" / wanted.plan.payload).read_bytes()
        self.files: dict[str, bytes] = {"payload": payload}
        self._paths: dict[str, str] = {}  # below FOLDER, by key
        self._keys: dict[str, str] = {}
        self._artifacts = ArtifactStore(**config.artifacts)
        self.tasks = [self._task(task) for task in tasks]
        self.assignment = {
            "python": read_header(payload).python,
            "mark": wanted.mark,
            "grace": wanted.grace,
            "timeout": wanted.plan.timeout,
            "requirements": list(wanted.plan.requirements),
            "installer": dict(wanted.plan.env),
            "files": self._paths,
            "plan": self._plan(wanted, config),
        }
        self._refuse_too_large(wanted)

    def _plan(self, wanted: Wanted, config: PlaceConfig) -> dict[str, Any]:
        return {
            **binding_of(wanted.plan, config, wanted.name),
            "payload": f"{TASK}/payload",
            "cwd": f"{FOLDER}/work",
            "sys_path": [],
            "root": WORKER,
            "mem": None,  # the kubelet's to keep
            "artifacts": {"root": f"{FOLDER}/artifacts", "home": config.artifacts.get("home", "")},
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
            if not source.is_file():
                return leaf
            return {**leaf, "input": f"{FOLDER}/{self._stage(str(source), source, 'inputs')}"}
        if isinstance(value := leaf.get("inline"), Mapping) and value.get("!") == "path":
            kind, text = value["v"]
            if not Path(text).is_file():
                return leaf
            return {**leaf, "inline": {**value, "v": [kind, f"{FOLDER}/{self._stage(text, Path(text), 'inputs')}"]}}
        if leaf.get("path") is not None:
            self._stage(leaf["path"], self._artifacts.path(artifact_of(leaf)), "artifacts")
        return leaf

    def _stage(self, name: str, source: Path, below: str) -> str:
        if name not in self._keys:
            key = f"file-{len(self._keys)}"
            relative = f"artifacts/{name}" if below == "artifacts" else f"inputs/{len(self._keys)}/{source.name}"
            self._keys[name], self._paths[key] = key, relative
            self.files[key] = source.read_bytes()
        return self._paths[self._keys[name]]

    def _refuse_too_large(self, wanted: Wanted) -> None:
        size = sum(map(len, self.files.values()))
        if size > MOST:
            raise StorageError(
                f"{wanted.plan.name}: its code and the files of its parameters have {shown_bytes(size)}: at most {shown_bytes(MOST)} "
                "travel to a pod without an artifact root. Set one that both sides reach, as MLFN_ARTIFACTS=s3://bucket/path, or "
                "have the function read its data itself."
            )
