"""Importing what several threads may import first."""

from __future__ import annotations

import importlib
from typing import Any


def import_whole(module: str) -> Any:
    """Import a module once its package is complete, and return it.

    An import of ``package.module`` does not wait for a package that another thread is importing: each would then find the other's
    modules half made. An import of the package does.
    """
    importlib.import_module(module.partition(".")[0])
    return importlib.import_module(module)
