"""Names that would mislead a reader, or put a module over a function."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

import mlfn
from tests.architecture.source import PACKAGE, modules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Importing a module sets its name on the package: `mlfn/run.py` would replace `mlfn.run`.
PUBLIC = {*getattr(mlfn, "__all__", ()), "context", "function", "handler", "hub", "run", "runs"}
SAY_NOTHING = {"common", "helpers", "misc", "util", "utils"}
# Raised to steer a run, not to say that it failed; the public API names them so.
SIGNALS = {"Pruned"}
# What is decided by one of these names belongs in the registry's tables, or in the member itself.
MEMBERS = {"dask", "horovod", "inline", "job", "kubernetes", "local", "nuclio", "serving", "spark"}
DISPATCHED = {"kind", "place"}


def rooms(package: Path) -> set[str]:
    return {module.room for module in modules(package)}


def nondescript(package: Path) -> list[str]:
    return [module.name for module in modules(package) if SAY_NOTHING & set(module.name.split("."))]


def misnamed_errors(package: Path) -> list[str]:
    return [
        f"{module.name}.{node.name}"
        for module in modules(package)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and any(_is_exception(base) for base in node.bases)
        and not node.name.endswith("Error")
        and node.name not in SIGNALS
    ]


def _is_exception(base: ast.expr) -> bool:
    # What derives from BaseException itself is a signal by nature, as KeyboardInterrupt is.
    name = ast.unparse(base)
    return name.endswith(("Error", "Exception")) and name != "BaseException"


def dispatch_by_name(package: Path) -> list[str]:
    return [
        f"{module.path.relative_to(package).as_posix()}:{line}"
        for module in modules(package)
        if module.name != "mlfn.backends.registry"
        for line in _comparisons(module.tree)
    ]


def _comparisons(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_is_dispatched(side) for side in sides) and any(_names_a_member(side) for side in sides):
                yield node.lineno
        elif isinstance(node, ast.Match) and _is_dispatched(node.subject):
            yield from (case.pattern.lineno for case in node.cases if _names_a_member(case.pattern))


def _is_dispatched(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "name":
        node = node.value
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in DISPATCHED


def _names_a_member(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Constant) and part.value in MEMBERS for part in ast.walk(node))


def test_no_module_has_the_name_of_a_public_name():
    assert rooms(PACKAGE) & PUBLIC == set()


def test_no_module_has_a_name_that_says_nothing():
    assert nondescript(PACKAGE) == []


def test_errors_end_in_error():
    assert misnamed_errors(PACKAGE) == []


def test_kinds_and_places_are_told_apart_in_the_registry_alone():
    assert dispatch_by_name(PACKAGE) == []


@pytest.fixture
def package(tmp_path):
    """Give a function that writes a package of one module and returns its folder."""

    def write(name: str, source: str) -> Path:
        root = tmp_path / "mlfn"
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(source)
        return root

    return write


@pytest.mark.parametrize("name", ["utils.py", "store/helpers.py", "misc/__init__.py"])
def test_a_name_that_says_nothing_is_found(package, name):
    assert len(nondescript(package(name, ""))) == 1


def test_an_error_under_another_name_is_found(package):
    source = (
        "class Oops(ValueError): ...\nclass GoodError(Exception): ...\n"
        "class Pruned(Exception): ...\nclass Cancelled(BaseException): ..."
    )

    assert misnamed_errors(package("errors.py", source)) == ["mlfn.errors.Oops"]


@pytest.mark.parametrize(
    "test",
    ["kind == 'job'", "'job' != spec.kind", "self.place.name in ('local', 'inline')", "kind not in {'dask'}"],
)
def test_a_comparison_with_a_kinds_name_is_found_outside_the_registry(package, test):
    root = package("planner.py", f"if {test}: ...")

    assert dispatch_by_name(root) == ["planner.py:1"]


def test_a_match_on_a_kind_is_found(package):
    assert dispatch_by_name(package("planner.py", "match spec.kind:\n    case 'job': ...")) == ["planner.py:2"]


def test_another_meaning_of_kind_is_free(package):
    assert dispatch_by_name(package("formats/frames.py", "if array.dtype.kind in 'mM': ...")) == []


def test_the_registry_may_compare_names(package):
    assert dispatch_by_name(package("backends/registry.py", "if kind == 'job': ...")) == []
