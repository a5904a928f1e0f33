"""Packages that are installed for one test: on ``sys.path``, with metadata and entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlfn.artifacts.formats import registry
from mlfn.settings import members


@contextmanager
def installed(folder: Path, name: str, entry_points: str, modules: Mapping[str, str]) -> Iterator[Path]:
    """Install a package below `folder` while the block runs; `modules` maps names of its modules to their text."""
    site = folder / f"{name}-installed"
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    (site / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (site / name / f"{module}.py").write_text(text)
    sys.path.insert(0, str(site))
    _forget()
    try:
        yield site
    finally:
        sys.path.remove(str(site))
        _forget()
        for module in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[module]


def _forget() -> None:
    """Forget which packages are installed."""
    members.installed.cache_clear()
    members.packages.cache_clear()
    registry.installed.cache_clear()
