"""mlfn: submit Python functions as durable, tracked runs.

``import mlfn as mlrun`` is how users of MLRun write it. Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from mlfn import errors as errors
from mlfn import waiting
from mlfn._version import __version__

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mlfn.client import Client
    from mlfn.declaration import Function, function, handler
    from mlfn.errors import MlfnError
    from mlfn.handle import Run
    from mlfn.inputs import DataItem, data
    from mlfn.kinds.job import Job
    from mlfn.library.differences import diff
    from mlfn.listing import Runs, as_completed, get_function, run, runs, wait
    from mlfn.secrets import Secret
    from mlfn.settings import Settings, init
    from mlfn.spec.record import RunRecord
    from mlfn.spec.values import UNSET, Node, Retry
    from mlfn.sweep.description import Sweep
    from mlfn.sweep.space import choice, lograndint, loguniform, normal, ordinal, quniform, randint, uniform
    from mlfn.sweep.sweep_run import SweepRun
    from mlfn.ticket import Ticket
    from mlfn.user_context import Context, Pruned, context

_HOMES = {
    "mlfn.declaration": ("Function", "function", "handler"),
    "mlfn.errors": ("MlfnError",),
    "mlfn.handle": ("Run",),
    "mlfn.inputs": ("DataItem", "data"),
    "mlfn.kinds.job": ("Job",),
    "mlfn.library.differences": ("diff",),
    "mlfn.listing": ("Runs", "as_completed", "get_function", "run", "runs", "wait"),
    "mlfn.secrets": ("Secret",),
    "mlfn.settings": ("Settings", "init"),
    "mlfn.spec.values": ("UNSET", "Node", "Retry"),
    "mlfn.sweep.space": (
        "choice",
        "lograndint",
        "loguniform",
        "normal",
        "ordinal",
        "quniform",
        "randint",
        "uniform",
    ),
    "mlfn.sweep.description": ("Sweep",),
    "mlfn.sweep.sweep_run": ("SweepRun",),
    "mlfn.user_context": ("Context", "Pruned", "context"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "UNSET",
    "Context",
    "DataItem",
    "Function",
    "Job",
    "MlfnError",
    "Node",
    "Pruned",
    "Retry",
    "Run",
    "Runs",
    "Secret",
    "Settings",
    "Sweep",
    "SweepRun",
    "__version__",
    "as_completed",
    "choice",
    "context",
    "data",
    "diff",
    "function",
    "get_function",
    "handler",
    "init",
    "lograndint",
    "loguniform",
    "normal",
    "ordinal",
    "quniform",
    "randint",
    "run",
    "runs",
    "uniform",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mlfn' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    _be_seen()
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "errors", *(name for name in globals() if name.startswith("__"))})


def _progress_line(run: Run[Any]) -> AbstractContextManager[None]:
    from mlfn.terminal import progress_line

    return progress_line(run)


def _be_seen() -> None:
    """Let runs show themselves in IPython, if this process has it."""
    global _seen
    if not _seen and "IPython" in sys.modules:
        from mlfn.notebook import register

        _seen = register()


def _conduct(client: Client, record: RunRecord) -> Ticket | None:
    from mlfn.sweep.conduct import conduct

    return conduct(client, record)


_seen = False
waiting.observer = _progress_line
waiting.conductor = _conduct
