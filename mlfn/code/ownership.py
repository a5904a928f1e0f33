"""Tells the user's own modules from installed ones."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from types import ModuleType
from typing import Any

from mlfn.code.bundle import find_spec
from mlfn.settings.members import packages

_INSTALLED_FOLDERS = {"site-packages", "dist-packages"}


def is_own_module(module: ModuleType | str | None) -> bool:
    """Return whether a module is the user's own code.

    These are ``__main__``, notebook cells, files outside the standard library and site-packages (an editable install too), and
    modules without a file that no import finds. mlfn itself is not, nor is a package that adds members to it: a worker loads
    them by name, and a copy of their classes would be another class.
    """
    name = module.__name__ if isinstance(module, ModuleType) else module
    if name is None or name in ("__main__", "__mp_main__"):
        return True
    if (outermost := name.partition(".")[0]) == "mlfn" or outermost in packages():
        return False
    loaded = module if isinstance(module, ModuleType) else sys.modules.get(name)
    return _is_own_loaded(name, loaded) if loaded is not None else _is_own_found(name)


def _is_own_loaded(name: str, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return is_own_file(file)
    spec = getattr(module, "__spec__", None)
    return _is_own_spec(name, spec) if spec is not None else name not in sys.builtin_module_names


def _is_own_found(name: str) -> bool:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    # A worker cannot import a module that no import finds here: it is the user's, and travels as code.
    return spec is None or _is_own_spec(name, spec)


def _is_own_spec(name: str, spec: Any) -> bool:
    if spec.origin in ("built-in", "frozen") or name in sys.builtin_module_names:
        return False
    if spec.origin is not None and spec.has_location:
        return is_own_file(spec.origin)
    # A namespace package has folders and no file.
    return all(is_own_file(folder) for folder in spec.submodule_search_locations or ())


@functools.lru_cache(maxsize=4096)
def is_own_file(path: str) -> bool:
    """Return whether a file is outside the standard library and everything that pip installs into."""
    absolute = os.path.abspath(path)
    if _INSTALLED_FOLDERS.intersection(absolute.split(os.sep)):
        return False
    return not absolute.startswith(_installed_folders())


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    paths = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    # Of a virtual environment, the standard library is where its base Python is; os.__file__ knows best.
    paths.append(os.path.dirname(os.__file__))
    return tuple({os.path.join(os.path.abspath(path), "") for path in paths if path})
