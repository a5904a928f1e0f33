from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def user_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Write a user's own module into a folder that this process imports from, and import it."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    written: list[str] = []

    def write(name: str, text: str, *, load: bool = True) -> ModuleType | None:
        path = folder / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        module = name.removesuffix(".__init__")
        written.append(module)
        importlib.invalidate_caches()
        return importlib.import_module(module) if load else None

    yield write  # type: ignore[misc]
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., bytes]:
    """Run a script in another process, which sees mlfn but none of the user's modules; return its stdout."""

    def run(script: str, *, stdin: bytes = b"", python: str = sys.executable, seed: str = "random") -> bytes:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [python, "-c", textwrap.dedent(script)],
            input=stdin,
            capture_output=True,
            env=environ,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run
