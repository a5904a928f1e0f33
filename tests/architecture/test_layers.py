"""Imports go down the layers, never up and never round."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source import PACKAGE, edges, modules

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Floors of rooms, low to high. A module may import its own floor and those below it.
FLOORS = (
    ("_version", "errors", "host", "settings", "spec"),
    ("artifacts", "code", "store"),
    ("worker",),
    ("backends",),
    ("dispatch",),
    ("handles", "serving"),
    ("sweep",),
    ("functions",),
    ("server",),
    ("__main__", "ui"),
    ("", "testing"),  # mlfn/__init__.py itself, whose names only contract suites import
)
MOST_FLOORS = 11
LOOSE_FILES = {"__init__.py", "__main__.py", "_version.py", "errors.py"}
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def unplaced(package: Path) -> list[str]:
    return sorted({module.room for module in modules(package)} - FLOOR_OF.keys())


def upward(package: Path) -> list[str]:
    return [
        f"{importer.path.relative_to(package.parent)}:{item.line} imports {imported.name}"
        for importer, imported, item in edges(package)
        if FLOOR_OF.get(imported.room, 0) > FLOOR_OF.get(importer.room, 0)
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


def test_every_room_has_a_floor():
    assert unplaced(PACKAGE) == [], "add it to FLOORS above, or move it into a room that is there"


def test_floors_and_loose_files_stay_few():
    assert len(FLOORS) <= MOST_FLOORS
    assert {path.name for path in PACKAGE.glob("*.py")} == LOOSE_FILES


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
        "import mlfn.ui",
        "from mlfn import ui",
        "from mlfn.ui import main",
        "from . import ui",
        "from .ui import main",
        "def late():\n    from mlfn import ui",
        "try:\n    import mlfn.ui\nexcept ImportError:\n    pass",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import mlfn.ui",
    ],
)
def test_an_import_upward_is_found_however_it_is_written(package, source):
    root = package({"errors.py": source, "ui/__init__.py": "main = None"})

    assert len(upward(root)) == 1
    assert "mlfn.ui" in upward(root)[0]


def test_a_public_name_is_above_everything(package):
    assert upward(package({"ui.py": "from mlfn import function"})) == ["mlfn/ui.py:1 imports mlfn"]


def test_an_import_for_types_alone_counts(package):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mlfn.ui import main"

    assert len(upward(package({"errors.py": source, "ui.py": ""}))) == 1


def test_a_cycle_hidden_in_a_function_is_found(package):
    root = package(
        {"handles.py": "import mlfn.dispatch", "dispatch.py": "def late():\n    from mlfn.handles import Run"}
    )

    assert set(module_cycle(root)) == {"mlfn.handles", "mlfn.dispatch"}


def test_a_cycle_of_a_package_and_its_own_member_is_found(package):
    root = package(
        {
            "ui/__init__.py": "def main():\n    from mlfn.ui.app import root",
            "ui/app.py": "from mlfn.ui import exits",
            "ui/exits.py": "",
        }
    )

    assert set(module_cycle(root)) == {"mlfn.ui", "mlfn.ui.app"}


def test_a_cycle_of_rooms_without_a_cycle_of_modules_is_found(package):
    root = package(
        {
            "worker/__init__.py": "",
            "worker/main.py": "import mlfn.store",
            "worker/report.py": "",
            "store.py": "import mlfn.worker.report",
        }
    )

    assert module_cycle(root) == []
    assert set(room_cycle(root)) == {"store", "worker"}
