"""One member, one file: a kind, place, strategy, store or packer is added by adding a module."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import pytest

import mlfn.artifacts.formats
import mlfn.backends.hosts
import mlfn.backends.kinds
import mlfn.backends.places
import mlfn.store
import mlfn.sweep
from mlfn.artifacts.formats.pickled import PicklePacker
from mlfn.artifacts.formats.registry import PACKERS
from mlfn.backends.hosts.base import Host
from mlfn.settings.members import BUILT_IN, load
from mlfn.store.sql.engine import Engine
from mlfn.sweep.strategy import Strategy
from mlfn.testing.kind_place import CASES, Pair
from mlfn.testing.kind_place.table import pairs_of
from tests import kind_places
from tests.architecture.source import PACKAGE, modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


def has(protocol: type) -> Callable[[type], bool]:
    """Say whether a class has all that a protocol names."""
    names = [name for name in vars(protocol) if not name.startswith("_")]
    return lambda kind: all(hasattr(kind, name) for name in names)


# The hosts between which that of a cluster chooses, by the engine that a function names.
OF_CLUSTER = (
    "mlfn.backends.hosts.dashboard:DashboardHost",
    "mlfn.backends.hosts.kubernetes.host:KubernetesHost",
)
# By family: where members may lie, what makes a class one, and those that are registered.
FAMILIES: dict[str, tuple[ModuleType, Callable[[type], bool], list[str]]] = {
    "kind": (
        mlfn.backends.kinds,
        lambda kind: is_dataclass(kind) and hasattr(kind, "launch"),
        list(BUILT_IN["kind"].values()),
    ),
    "place": (
        mlfn.backends.places,
        lambda kind: hasattr(kind, "OPTIONS"),
        [*BUILT_IN["place"].values(), *BUILT_IN["engine"].values()],
    ),
    "host": (mlfn.backends.hosts, has(Host), [*BUILT_IN["host"].values(), *OF_CLUSTER]),
    "strategy": (mlfn.sweep, lambda kind: issubclass(kind, Strategy), list(BUILT_IN["strategy"].values())),
    "store": (
        mlfn.store,
        has(Engine),
        ["mlfn.store.sql.sqlite:SqliteEngine", "mlfn.store.sql.postgres:PostgresEngine"],
    ),
    "packer": (
        mlfn.artifacts.formats,
        lambda kind: all(hasattr(kind, name) for name in ("accepts", "pack", "unpack")),
        [f"{type(p).__module__}:{type(p).__qualname__}" for p in (*PACKERS, PicklePacker())],
    ),
}
# A packer's file is that of a family of types: text, bytes and bytearray are packed as one another, and so are a frame and
# its column.
SHARED = {
    "mlfn.artifacts.formats.text": 3,
    "mlfn.artifacts.formats.frames": 2,
    "mlfn.artifacts.formats.dask_collections": 3,
}


def members(package: ModuleType, is_member: Callable[[type], bool]) -> list[str]:
    """List the concrete members that a package defines, each as ``module:Class``."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [
        f"{module.__name__}:{kind.__qualname__}"
        for module in map(importlib.import_module, sorted(item.name for item in found))
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and is_concrete(kind) and is_member(kind)
    ]


def is_concrete(kind: type) -> bool:
    return not inspect.isabstract(kind) and not getattr(kind, "_is_protocol", False)


def crowded(targets: Iterable[str]) -> dict[str, int]:
    """Count the members of those modules that define several."""
    homes = [target.partition(":")[0] for target in targets]
    return {home: homes.count(home) for home in homes if homes.count(home) > 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_member_is_registered_and_every_registered_one_is_defined_where_it_is_said(family: str) -> None:
    package, is_member, registered = FAMILIES[family]

    assert sorted(members(package, is_member)) == sorted(registered)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_module_defines_two_members(family: str) -> None:
    package, is_member, _ = FAMILIES[family]

    assert crowded(members(package, is_member)) == (SHARED if family == "packer" else {})


def test_the_stores_are_those_that_a_url_can_open() -> None:
    (home,) = (module for module in modules(PACKAGE) if module.name == "mlfn.store")
    source = home.path.read_text()

    for target in FAMILIES["store"][2]:
        module, _, name = target.partition(":")
        assert f"from {module} import {name}" in source
    assert source.count("Engine(") == len(FAMILIES["store"][2])


def runs(kind: str, place: str) -> bool:
    """Say whether a kind runs at a place, on its own or by an engine."""
    return place in getattr(load("kind", kind), "ENGINES", [place])


def test_each_kind_at_each_place_has_a_pair() -> None:
    pairs = [(pair.name_of_kind(), pair.on) for pair in pairs_of(kind_places)]

    assert set(pairs) >= {pair for pair in itertools.product(BUILT_IN["kind"], BUILT_IN["place"]) if runs(*pair)}
    assert len(pairs) == len(set(pairs))


def pair_of(suite: type) -> type | None:
    """Return the pair that a class of tests is for: one pair may say what another says, and more."""
    return next((base for base in suite.__mro__ if base in pairs_of(kind_places)), None)


@pytest.mark.parametrize("pair", pairs_of(kind_places))
def test_each_pair_runs_every_case(pair: type[Pair]) -> None:
    names = (
        *("contract.test_kind_place", "integration.test_kind_place", "integration.test_kind_place_on_chaos"),
        "integration.test_kind_place_on_dask",
        *("cluster.test_kind_place", "horovod.test_kind_place", "spark.test_kind_place"),
        "operators.test_kind_place",
    )
    modules = [importlib.import_module(f"tests.{name}") for name in names]

    collected = [
        name
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__name__.startswith("Test") and pair_of(kind) is pair
        for name in dir(kind)
        if name.startswith("test_")
    ]

    assert sorted(collected) == sorted(f"test_{case}" for case in CASES)


def test_two_in_one_module_are_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "crowd"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("class A:\n    OPTIONS = ()\n")
    (package / "two.py").write_text(
        "from crowd.one import A\nclass B:\n    OPTIONS = ()\nclass C(B): ...\nclass Other: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    found = members(importlib.import_module("crowd"), FAMILIES["place"][1])

    assert found == ["crowd.one:A", "crowd.two:B", "crowd.two:C"]
    assert crowded(found) == {"crowd.two": 2}
