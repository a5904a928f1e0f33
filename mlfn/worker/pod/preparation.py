"""What a pod is asked for, and what it prepares before the function starts."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlfn.artifacts.codec import artifact_of
from mlfn.artifacts.store import ArtifactStore
from mlfn.worker.pod.folders import FOLDER, TASK
from mlfn.worker.pod.requirements import install
from mlfn.worker.task import Task


def asked_of_pod() -> tuple[Mapping[str, Any], Task]:
    """Return what the Secret asks of this pod."""
    asked: dict[str, Any] = json.loads(Path(TASK, "assignment.json").read_text())
    units = json.loads(gzip.decompress(Path(TASK, "units").read_bytes()))
    return asked, Task(**units[int(os.environ.get("JOB_COMPLETION_INDEX", "0"))])


def prepare(asked: Mapping[str, Any], say: Callable[[bytes], Any]) -> None:
    """Install what the run needs, make its folders, and put the files that came with the task where the plan says.

    Raises EnvironmentBuildError, MlfnError for what the artifact root does not give.
    """
    plan = asked["plan"]
    os.environ.update(asked["env"])
    Path(plan["cwd"]).mkdir(parents=True, exist_ok=True)
    Path(FOLDER, "artifacts").mkdir(exist_ok=True)
    # The index is the installer's alone: its URL may hold a password. What the function's own env says comes first.
    install(tuple(asked["requirements"]), {**os.environ, **asked["index"], **asked["env"]}, say)
    place_files(asked, Path(TASK), Path(FOLDER))


def place_files(asked: Mapping[str, Any], brought: Path, folder: Path) -> None:
    """Put what a folder has by its keys, and what lies under the artifact root, where the assignment says."""
    root = ArtifactStore(**asked["plan"]["artifacts"])
    for key, path in asked["files"].items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched = asked["fetched"].get(key)
        source = root.path(artifact_of(fetched)) if fetched else brought / key
        if key.startswith("folder-"):
            with zipfile.ZipFile(source) as archive:
                archive.extractall(target)
        else:
            shutil.copyfile(source, target)  # no link: a link in an artifact root may lead anywhere
