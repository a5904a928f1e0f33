"""Imports Optuna, or asks to install it, and keeps it from writing to the user's terminal."""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from mlfn.errors import MissingExtraError, OptionError, nearest
from mlfn.host.imports import import_whole

MAJOR = 5


def require(*packages: str, what: str) -> None:
    """Refuse in one sentence if one of `packages` is not installed; imports nothing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    extra = "gp" if "torch" in packages else "search"
    install = "scipy" if missing == ["scipy"] and extra == "search" else f"'mlfn[{extra}]'"
    raise MissingExtraError(f"{what} needs {' and '.join(missing)}: pip install {install}")


def require_optuna(what: str) -> None:
    """Refuse in one sentence if Optuna is not installed, or is of another major version."""
    require("optuna", what=what)
    from importlib.metadata import version

    found = version("optuna")
    if found.partition(".")[0] != str(MAJOR):
        raise MissingExtraError(f"{what} needs Optuna {MAJOR}, and here is {found}: pip install 'mlfn[search]'")


def check_member(option: str, given: Any, names: Collection[str], *, method: str) -> None:
    """Refuse a sampler or pruner that is neither one of `names` nor an object with this method; imports nothing."""
    if isinstance(given, type):
        raise OptionError(f"{option}={given.__name__} is a class: write {option}={given.__name__}().")
    if not isinstance(given, str) and not callable(getattr(given, method, None)):
        raise OptionError(
            f"{option}={given!r} is no {option}: a name ({', '.join(names)}) or one of optuna.{option}s is allowed."
        )
    if isinstance(given, str) and given not in names:
        raise OptionError(f"{option}={given!r} is not known: {nearest(given, names)}")


def _load() -> None:
    if "optuna" not in sys.modules:
        with warnings.catch_warnings():
            # In a notebook, its progress bars, which are not used here, would ask for widgets.
            warnings.filterwarnings("ignore", message="IProgress not found")
            import_whole("optuna")
    import_whole("optuna")  # another thread may have begun


class _Inside(threading.local):
    depth = 0


_inside = _Inside()


class _Silence(logging.Filter):
    """Drops what Optuna logs while this thread is in a call of ours; its user's own studies log as ever."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _inside.depth


_silence = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's handlers, which write to stderr, from what it logs in this block."""
    _inside.depth += 1
    try:
        _load()
        for handler in logging.getLogger("optuna").handlers:
            handler.addFilter(_silence)  # a second time is none
        yield
    finally:
        _inside.depth -= 1
