"""Imports go down the layers, never up and never round."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source import PACKAGE, edges, modules

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Low to high. A module may import its own layer and those before it.
LAYERS = (
    ("_version", "errors", "failpoints", "identity", "masker", "private_files", "secrets", "settings", "spec"),
    ("artifacts", "capture", "codec", "content", "packers", "payload", "store"),
    ("execution", "hints", "inputs", "user_context", "worker"),
    # The registry names classes by string and imports none of them, so that all from the kinds up may ask it.
    ("kinds", "registry"),
    ("places",),
    (
        "backlog",
        "children",
        "client",
        "dispatch",
        "failures",
        "fitting",
        "handle",
        "hearing",
        "inline",
        "leaving",
        "listing",
        "outputs",
        "parents",
        "planner",
        "recording",
        "remains",
        "signature",
        "submission",
        "sweep",
        "ticket",
        "verdict",
        "version",
        "waiting",
    ),
    ("declaration",),
    ("library", "mlrun_names", "serving", "testing"),
    (
        "__main__",
        "cards",
        "cli",
        "notebook",
        "service",
        "snapshot",
        "sweep_cards",
        "sweep_lines",
        "sweep_snapshot",
        "terminal",
    ),
    ("",),  # mlfn/__init__.py itself: nothing below may import a public name
)
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}


def unplaced(package: Path) -> list[str]:
    return sorted({module.room for module in modules(package)} - LAYER_OF.keys())


def upward(package: Path) -> list[str]:
    return [
        f"{importer.path.relative_to(package.parent)}:{item.line} imports {imported.name}"
        for importer, imported, item in edges(package)
        if LAYER_OF.get(imported.room, 0) > LAYER_OF.get(importer.room, 0)
    ]


def cycle(pairs: Iterable[tuple[str, str]]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for importer, imported in pairs:
        graph.setdefault(importer, set()).add(imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def module_cycle(package: Path) -> list[str]:
    return cycle((importer.name, imported.name) for importer, imported, _ in edges(package))


def room_cycle(package: Path) -> list[str]:
    return cycle((a.room, b.room) for a, b, _ in edges(package) if a.room != b.room)


def test_every_module_has_a_layer():
    assert unplaced(PACKAGE) == [], "add it to LAYERS above, or move it into a room that is there"


def test_imports_go_down():
    assert upward(PACKAGE) == []


def test_no_module_imports_itself_through_others():
    assert module_cycle(PACKAGE) == []


def test_no_two_rooms_import_each_other():
    assert room_cycle(PACKAGE) == []


@pytest.fixture
def package(tmp_path):
    """Give a function that writes a package from {file: source} and returns its folder."""

    def write(files: dict[str, str]) -> Path:
        root = tmp_path / "mlfn"
        for name, source in {"__init__.py": "", **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(source)
        return root

    return write


def test_a_module_in_no_layer_is_named(package):
    assert unplaced(package({"gadget.py": ""})) == ["gadget"]


@pytest.mark.parametrize(
    "source",
    [
        "import mlfn.cli",
        "from mlfn import cli",
        "from mlfn.cli import main",
        "from . import cli",
        "from .cli import main",
        "def late():\n    from mlfn import cli",
        "try:\n    import mlfn.cli\nexcept ImportError:\n    pass",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import mlfn.cli",
    ],
)
def test_an_import_upward_is_found_however_it_is_written(package, source):
    root = package({"errors.py": source, "cli/__init__.py": "main = None"})

    assert len(upward(root)) == 1
    assert "mlfn.cli" in upward(root)[0]


def test_a_public_name_is_above_everything(package):
    assert upward(package({"cli.py": "from mlfn import function"})) == ["mlfn/cli.py:1 imports mlfn"]


def test_an_import_for_types_alone_is_free(package):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mlfn.cli import main"

    assert upward(package({"errors.py": source, "cli.py": ""})) == []


def test_a_cycle_hidden_in_a_function_is_found(package):
    root = package({"handle.py": "import mlfn.planner", "planner.py": "def late():\n    from mlfn.handle import Run"})

    assert set(module_cycle(root)) == {"mlfn.handle", "mlfn.planner"}


def test_a_cycle_of_a_package_and_its_own_member_is_found(package):
    root = package(
        {
            "cli/__init__.py": "def main():\n    from mlfn.cli.app import root",
            "cli/app.py": "from mlfn.cli import exits",
            "cli/exits.py": "",
        }
    )

    assert set(module_cycle(root)) == {"mlfn.cli", "mlfn.cli.app"}


def test_a_cycle_of_rooms_without_a_cycle_of_modules_is_found(package):
    root = package(
        {
            "worker/__init__.py": "",
            "worker/main.py": "import mlfn.execution",
            "worker/report.py": "",
            "execution.py": "import mlfn.worker.report",
        }
    )

    assert module_cycle(root) == []
    assert set(room_cycle(root)) == {"execution", "worker"}
