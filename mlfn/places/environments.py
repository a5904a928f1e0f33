"""Virtual environments for ``requirements=``: one per set, built once, in the background, kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import shutil
import site
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from mlfn.errors import EnvironmentBuildError, MlfnError

logger = logging.getLogger("mlfn")
_BUILD_SECONDS = 1800


class Environments:
    """The environments under one folder; `ready` is called from a builder's thread when there is news."""

    def __init__(self, folder: Path, ready: Callable[[], None]) -> None:
        self._folder = folder
        self._ready = ready
        self._building: dict[str, threading.Thread] = {}
        self._failed: dict[str, Exception] = {}

    def python_for(self, requirements: tuple[str, ...]) -> str | None:
        """Return the interpreter that has `requirements`; None while it is being built; raise if it cannot be."""
        if not requirements or all(is_satisfied(item) for item in requirements):
            return sys.executable
        name = _digest(requirements)
        python = self._folder / name / "bin" / "python"
        if (self._folder / name / "complete").exists():
            return str(python)
        if error := self._failed.pop(name, None):
            raise error
        if name not in self._building:
            self._building[name] = threading.Thread(target=self._build, args=(name, requirements), daemon=True)
            self._building[name].start()
            logger.warning("building an environment for %s: kept for the next runs", ", ".join(requirements))
        return None

    def _build(self, name: str, requirements: tuple[str, ...]) -> None:
        try:
            build(self._folder / name, requirements)
        except MlfnError as error:
            self._failed[name] = error
        except Exception as error:  # noqa: BLE001 - a builder's thread has nobody else to tell
            self._failed[name] = EnvironmentBuildError(
                f"The environment for {', '.join(requirements)} failed: {error!r}."
            )
        finally:
            del self._building[name]
            self._ready()


def build(target: Path, requirements: tuple[str, ...]) -> None:
    """Make a virtual environment with `requirements` at `target`, all or nothing."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its interpreter's path is written into scripts, so it is built in place; the mark comes last.
    shutil.rmtree(target, ignore_errors=True)
    uv = shutil.which("uv")
    make = [uv, "venv", "--quiet", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    _run([*make, str(target)], requirements)
    python = str(target / "bin" / "python")
    install = (
        [uv, "pip", "install", "--quiet", "--python", python] if uv else [python, "-m", "pip", "install", "--quiet"]
    )
    _run([*install, *requirements], requirements)
    _fall_back_to_caller(target)
    (target / "complete").write_text("\n".join(requirements))


def _fall_back_to_caller(target: Path) -> None:
    """Let the environment see the caller's packages after its own, as an image with requirements on top would."""
    packages = next((target / "lib").glob("python*/site-packages"))
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))] or site.getsitepackages()
    lines = [f"import site; site.addsitedir({path!r})" for path in folders]
    (packages / "zz_caller.pth").write_text("\n".join(lines) + "\n")


def _run(command: list[str], requirements: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentBuildError(
            f"requirements={list(requirements)}: {' '.join(command[:3])} failed: {error}."
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise EnvironmentBuildError(
            f"requirements={list(requirements)} could not be installed; check their names and versions. The installer said:\n{said}"
        )


def _digest(requirements: tuple[str, ...]) -> str:
    # Another interpreter or another caller's environment needs another one.
    text = "\n".join([sys.version, sys.prefix, *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def is_satisfied(requirement: str) -> bool:
    """Say whether the caller has this very requirement already: a bare name, or name==version."""
    name, _, version = requirement.partition("==")
    try:
        have = importlib.metadata.version(name.strip())
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return not version or have == version.strip()
