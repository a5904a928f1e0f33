"""Packages that a run needs and its image lacks, installed before it starts; what the installer says is part of the run's log."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.errors import EnvironmentBuildError
from mlfn.worker.pod.folders import FOLDER

TARGET = f"{FOLDER}/packages"


def install(requirements: tuple[str, ...], environ: Mapping[str, str], say: Callable[[bytes], Any]) -> None:
    """Install what is missing of `requirements` by uv if the image has it, else by pip, and make it importable.

    Raises EnvironmentBuildError.
    """
    missing = [item for item in requirements if not _is_satisfied(item)]
    if not missing:
        return
    uv = shutil.which("uv")
    command = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    command += ["--target", TARGET, *missing]
    say(f"[mlfn: installs {', '.join(missing)}]\n".encode())
    try:
        process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise EnvironmentBuildError(
            f"requirements={missing}: {command[0]} cannot be started ({error.strerror})."
        ) from error
    assert process.stdout is not None
    said = b""
    with process.stdout as output:
        while line := output.readline():
            say(line)
            said = (said + line)[-1500:]
    if process.wait():
        raise EnvironmentBuildError(
            f"requirements={missing} could not be installed in the pod; check their names and versions, and that the pod reaches "
            f"a package index (the settings package_index and trusted_host name another). The installer said:\n{said.decode(errors='replace').strip()}"
        )
    Path(TARGET).mkdir(exist_ok=True)
    sys.path.insert(1, TARGET)
    importlib.invalidate_caches()


def _is_satisfied(requirement: str) -> bool:
    """Return whether the image has this very requirement: a bare name, or name==version."""
    name, _, version = requirement.partition("==")
    with suppress(importlib.metadata.PackageNotFoundError, ValueError):
        have = importlib.metadata.version(name.strip())
        return not version or have == version.strip()
    return False
