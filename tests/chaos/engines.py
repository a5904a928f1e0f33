"""Engines by their address, which is an option of the place; and what an engine is asked for."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.binding import binding_of
from mlfn.spec.plan import Plan
from mlfn.worker.execution import resolve_secrets
from tests.chaos.engine import Engine, Template
from tests.chaos.process import ProcessEngine

VIRTUAL: dict[str, Engine] = {}
"""Engines of this process, by address."""


def open_engine(address: str, config: PlaceConfig) -> Engine:
    """Return the engine at an address: one of this process, or a folder's, which is the data folder's own where none is named."""
    if address in VIRTUAL:
        return VIRTUAL[address]
    return ProcessEngine(Path(address) if address else config.folder / "engine", room=config.max_workers)


def template_of(plan: Plan, config: PlaceConfig, parallel: int | None) -> Template:
    """Return what the units of a plan have in common."""
    masked = tuple(resolve_secrets(plan.secrets, os.environ, config.secrets_file).values()) if plan.secrets else ()
    return Template(parallel, plan.timeout, config.grace, plan.mem, functools.partial(binding_of, plan, config), masked)
