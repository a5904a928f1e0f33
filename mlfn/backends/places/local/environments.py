"""Virtual environments for ``requirements=``: one per set, built once, in the background, kept."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlfn.errors import EnvironmentBuildError, MlfnError
from mlfn.host.private_files import locked

logger = logging.getLogger("mlfn")
NAME = re.compile(r"[0-9a-f]{24}")
REMAINS = re.compile(r"\.[0-9a-f]{24}\.(tmp|lock)")
"""Files that interrupted removals leave, and an empty one of each build."""
NOTED_EVERY = 20.0
"""Seconds within which another use of an environment is not noted anew."""
_BUILD_SECONDS = 1800
_MARK = "complete"


class Environments:
    """The environments under one folder; `ready` is called from a builder's thread at its end."""

    def __init__(self, folder: Path, ready: Callable[[], None]) -> None:
        self._folder = folder
        self._ready = ready
        self._building: dict[str, threading.Thread] = {}
        self._failed: dict[str, Exception] = {}
        self._noted: dict[str, float] = {}

    def python_for(self, requirements: tuple[str, ...]) -> str | None:
        """Return the interpreter that has `requirements`; None while it is being built; raise if it cannot be."""
        if not requirements or all(is_satisfied(item) for item in requirements):
            return sys.executable
        name = _digest(requirements)
        python = self._folder / name / "bin" / "python"
        if (self._folder / name / _MARK).exists():
            self._note_use(name)
            return str(python)
        if error := self._failed.pop(name, None):
            raise error
        if name not in self._building:
            self._building[name] = threading.Thread(target=self._build, args=(name, requirements), daemon=True)
            self._building[name].start()
            logger.warning("building an environment for %s: kept for the next runs", ", ".join(requirements))
        return None

    def _note_use(self, name: str) -> None:
        if time.monotonic() - self._noted.get(name, -NOTED_EVERY) >= NOTED_EVERY:
            self._noted[name] = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._folder / name / _MARK)

    def _build(self, name: str, requirements: tuple[str, ...]) -> None:
        try:
            build(self._folder / name, requirements)
        except MlfnError as error:
            self._failed[name] = error
        except Exception as error:  # noqa: BLE001 - raised again for the run that needs the environment
            self._failed[name] = EnvironmentBuildError(
                f"The environment for {', '.join(requirements)} failed: {error!r}."
            )
        finally:
            del self._building[name]
            self._ready()


def build(target: Path, requirements: tuple[str, ...]) -> None:
    """Make a virtual environment with `requirements` at `target`, all or nothing."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(target.with_name(f".{target.name}")):
        if (target / _MARK).exists():
            return  # another process was quicker
        shutil.rmtree(target, ignore_errors=True)
        try:
            # Its interpreter's path is written into scripts, so it is built in place; the mark comes last.
            _build_there(target, requirements)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def last_use(target: Path) -> float | None:
    """Return when an environment was last given to a worker; None for one that is not complete."""
    try:
        return (target / _MARK).stat().st_mtime
    except OSError:
        return None


def names_in_use(folder: Path) -> Iterator[str]:
    """Yield the environments below `folder` that a process runs in, as Linux shows those of this user."""
    home = folder.resolve()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().partition(b"\0")[0]
            target = Path(os.fsdecode(command)).parent.parent  # of bin/python, a link that leads elsewhere
            if NAME.fullmatch(target.name) and target.parent.resolve() == home:
                yield target.name


def remove(target: Path) -> None:
    """Remove an environment, renamed first so that no process finds half of it."""
    remains = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(remains, ignore_errors=True)
    target.rename(remains)
    shutil.rmtree(remains)


def _build_there(target: Path, requirements: tuple[str, ...]) -> None:
    uv = shutil.which("uv")
    make = [uv, "venv", "--quiet", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    _run([*make, str(target)], requirements)
    python = str(target / "bin" / "python")
    install = (
        [uv, "pip", "install", "--quiet", "--python", python] if uv else [python, "-m", "pip", "install", "--quiet"]
    )
    _run([*install, *requirements], requirements)
    _fall_back_to_caller(target)
    (target / _MARK).write_text("\n".join(requirements))


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
        output = (done.stderr or done.stdout).strip()[-1500:]
        raise EnvironmentBuildError(
            f"requirements={list(requirements)} could not be installed; check their names and versions. The installer said:\n{output}"
        )


def _digest(requirements: tuple[str, ...]) -> str:
    # Another interpreter or another caller's environment needs another one.
    text = "\n".join([sys.version, sys.prefix, *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def is_satisfied(requirement: str) -> bool:
    """Return whether the caller has this very requirement already: a bare name, or name==version."""
    import importlib.metadata

    name, _, version = requirement.partition("==")
    try:
        have = importlib.metadata.version(name.strip())
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return not version or have == version.strip()
