"""Which kinds, places, strategies and packers there are: those of mlfn, and those of installed packages.

A package adds a member by an entry point in its ``pyproject.toml``::

    [project.entry-points."mlfn.places"]
    slurm = "mlfn_slurm.place:SlurmPlace"

The groups are ``mlfn.kinds``, ``mlfn.places``, ``mlfn.engines``, ``mlfn.hosts``, ``mlfn.strategies`` and ``mlfn.packers``. An engine is a place
that no user names: what holds the runs of a kind that runs in no process of the user's place. A host has the name of the place whose
services it deploys. A member is imported when it is used,
and no other with it. The table lies this low because a setting names a place.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from mlfn.errors import MlfnError, UnknownNameError, nearest

Family = Literal["kind", "place", "engine", "host", "strategy", "packer"]

BUILT_IN: Mapping[Family, dict[str, str]] = {
    "kind": {
        "dask": "mlfn.backends.kinds.dask:Dask",
        "job": "mlfn.backends.kinds.job:Job",
        "mpi": "mlfn.backends.kinds.mpi:Mpi",
        "horovod": "mlfn.backends.kinds.horovod:Horovod",
        "nuclio": "mlfn.backends.kinds.nuclio.options:Nuclio",
        "spark": "mlfn.backends.kinds.spark:Spark",
    },
    "place": {
        "local": "mlfn.backends.places.local.place:LocalPlace",
        "inline": "mlfn.backends.places.inline:InlinePlace",
        "kubernetes": "mlfn.backends.places.kubernetes.place:KubernetesPlace",
    },
    "engine": {
        "dask": "mlfn.backends.places.dask.place:DaskPlace",
        "kubernetes_operators": "mlfn.backends.places.kubernetes.operators:OperatorPlace",
        "kubernetes_services": "mlfn.backends.places.kubernetes.services:KubernetesServicesPlace",
        "services": "mlfn.backends.places.services:ServicesPlace",
    },
    "host": {
        "local": "mlfn.backends.hosts.local:LocalHost",
        "kubernetes": "mlfn.backends.hosts.cluster:ClusterHost",
    },
    "strategy": {
        "grid": "mlfn.sweep.strategies.grid:Grid",
        "zip": "mlfn.sweep.strategies.zip:Zip",
        "random": "mlfn.sweep.strategies.random:Random",
        "rows": "mlfn.sweep.strategies.rows:Rows",
        "search": "mlfn.sweep.optuna.search:Search",
        "given": "mlfn.sweep.strategies.iterable:Given",
        "ask_tell": "mlfn.sweep.strategies.ask_tell:AskTell",
    },
    "packer": {},  # those of mlfn are asked in an order of their own: mlfn.artifacts.formats.registry
}
_GROUPS: Mapping[Family, str] = {
    "kind": "mlfn.kinds",
    "place": "mlfn.places",
    "engine": "mlfn.engines",
    "host": "mlfn.hosts",
    "strategy": "mlfn.strategies",
    "packer": "mlfn.packers",
}


def targets(family: Family) -> dict[str, str]:
    """Return ``module:attribute`` by the name of each member; a name of mlfn's own cannot be taken by a package."""
    return {**installed().get(_GROUPS[family], {}), **BUILT_IN[family]}


def load(family: Family, name: str) -> Any:
    """Import and return the member called `name`.

    Raises:
        UnknownNameError: there is none.
        MlfnError: the package that has it cannot be imported.

    """
    target = BUILT_IN[family].get(name) or targets(family).get(name)
    if target is None:
        raise UnknownNameError(f"No {family} is called {name!r}: {nearest(name, targets(family))}")
    return load_target(family, name, target)


def load_target(family: Family, name: str, target: str) -> Any:
    """Import and return ``module:attribute``."""
    module, _, path = target.partition(":")
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        if module.partition(".")[0] == "mlfn":
            raise
        raise MlfnError(
            f"The {family} {name!r} of the installed package {module.partition('.')[0]!r} cannot be loaded from {target!r} "
            f"({type(error).__name__}: {error}); install what it needs, or mend its entry point."
        ) from error


@functools.cache
def packages() -> frozenset[str]:
    """Return the outermost packages that the members of installed packages lie in."""
    return frozenset(
        target.partition(":")[0].partition(".")[0] for named in installed().values() for target in named.values()
    )


@functools.cache
def installed() -> Mapping[str, Mapping[str, str]]:
    """Return the entry points of installed packages by group and name."""
    if not any(map(_mentions_mlfn, _entry_point_files())):
        return {}
    import importlib.metadata  # 25 ms, which few environments need

    return {
        group: {point.name: point.value for point in importlib.metadata.entry_points(group=group)}
        for group in _GROUPS.values()
    }


def _entry_point_files() -> list[str]:
    found = []
    for folder in dict.fromkeys(sys.path):
        with suppress(OSError):
            found += [
                os.path.join(folder, name, "entry_points.txt")
                for name in os.listdir(folder or ".")
                if name.endswith((".dist-info", ".egg-info"))
            ]
    return found


def _mentions_mlfn(path: str) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        return b"[mlfn." in file.read()
    return False
