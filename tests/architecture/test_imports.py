"""Heavy libraries have one home each, and `import mlfn` is light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source import PACKAGE, imports, modules

if TYPE_CHECKING:
    from pathlib import Path

# Library -> the file or folder that may import it, inside a function.
HOMES: dict[str, str | tuple[str, ...]] = {
    "cloudpickle": "code/",
    "cmaes": "sweep/optuna/",
    "bokeh": "backends/places/dask/",
    "dask": ("artifacts/formats/dask_collections.py", "backends/places/dask/"),
    "distributed": ("backends/kinds/dask.py", "backends/places/dask/"),
    "fastapi": "server/",
    "fsspec": "artifacts/url_root.py",
    "jinja2": "ui/html/",
    "kubernetes": "backends/places/kubernetes/",
    "markupsafe": "ui/html/",
    "nuclio_sdk": "serving/",
    "optuna": "sweep/optuna/",
    "plotly": "sweep/",
    "psycopg": "store/",
    "pyspark": "backends/kinds/spark.py",
    "starlette": "server/",
    "uvicorn": ("server/", "serving/server/"),
    "uvloop": "serving/server/",
    "yaml": "spec/yaml_text.py",
}
# Imported where they are needed, but never while a module of ours is being imported.
DEFERRED = {
    *HOMES,
    "IPython",
    "httpx",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "requests",
    "sklearn",
    "torch",
}
# What a bare `import mlfn` leaves alone.
NOT_LOADED = {*DEFERRED, "aiohttp", "http.client", "pydantic", "rich", "urllib.request", "urllib3"}


def top(target: str) -> str:
    return target.partition(".")[0]


def strays(package: Path, homes: dict[str, str | tuple[str, ...]]) -> list[str]:
    """List the imports of a library outside its home."""
    return [
        f"{module.path.relative_to(package).as_posix()}:{item.line} imports {item.target}"
        for module in modules(package)
        for item in imports(module)
        if (home := homes.get(top(item.target))) and not module.path.relative_to(package).as_posix().startswith(home)
    ]


def eager(package: Path) -> list[str]:
    """List the imports of a heavy library that happen while the module itself is being imported."""
    return [
        f"{module.path.relative_to(package).as_posix()}:{item.line} imports {item.target}"
        for module in modules(package)
        for item in imports(module)
        if top(item.target) in DEFERRED and not item.deferred
    ]


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the names of the modules that it left behind."""
    report = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    # Coverage would import modules of its own.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True, env=clean)
    return set(json.loads(done.stdout))


def test_a_heavy_library_is_imported_in_its_home_alone():
    assert strays(PACKAGE, HOMES) == []


def test_a_heavy_library_is_imported_inside_the_function_that_needs_it():
    assert eager(PACKAGE) == []


def test_importing_mlfn_loads_nothing_heavy():
    assert loaded_by("import mlfn") & NOT_LOADED == set()


@pytest.fixture
def package(tmp_path):
    """Give a function that writes a package of one module and returns its folder."""

    def write(name: str, source: str) -> Path:
        root = tmp_path / "mlfn"
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(source)
        return root

    return write


def test_a_stray_import_is_found(package):
    root = package("handles.py", "def late():\n    import psycopg.rows")

    assert strays(root, HOMES) == ["handles.py:2 imports psycopg.rows"]


def test_a_library_is_at_home_in_a_folder(package):
    assert strays(package("store/sql.py", "def late():\n    import psycopg"), HOMES) == []


@pytest.mark.parametrize("source", ["import numpy as np", "try:\n    from numpy import array\nexcept ImportError: ..."])
def test_an_import_at_the_top_is_found(package, source):
    assert len(eager(package("formats/numpy.py", source))) == 1
