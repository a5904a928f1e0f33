"""mlfn: submit Python functions as durable, tracked runs.

``import mlfn as mlrun`` is how users of MLRun write it. Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlfn import errors as errors
from mlfn._version import __version__ as __version__
from mlfn.dispatch import hooks

if TYPE_CHECKING:
    from mlfn.backends.kinds.dask import Dask as Dask
    from mlfn.backends.kinds.horovod import Horovod as Horovod
    from mlfn.backends.kinds.job import Job as Job
    from mlfn.backends.kinds.mpi import Mpi as Mpi
    from mlfn.backends.kinds.nuclio.options import Nuclio as Nuclio
    from mlfn.backends.kinds.nuclio.triggers import Cron as Cron
    from mlfn.backends.kinds.nuclio.triggers import Http as Http
    from mlfn.backends.kinds.nuclio.triggers import Kafka as Kafka
    from mlfn.backends.kinds.nuclio.triggers import Kinesis as Kinesis
    from mlfn.backends.kinds.nuclio.triggers import Mqtt as Mqtt
    from mlfn.backends.kinds.nuclio.triggers import Nats as Nats
    from mlfn.backends.kinds.nuclio.triggers import RabbitMq as RabbitMq
    from mlfn.backends.kinds.nuclio.triggers import V3ioStream as V3ioStream
    from mlfn.backends.kinds.spark import Spark as Spark
    from mlfn.dispatch.session import shutdown as shutdown
    from mlfn.errors import MlfnError as MlfnError
    from mlfn.functions.declaration import Function as Function
    from mlfn.functions.declaration import function as function
    from mlfn.functions.declaration import handler as handler
    from mlfn.functions.library.diff import diff as diff
    from mlfn.handles.finders import Runs as Runs
    from mlfn.handles.finders import as_completed as as_completed
    from mlfn.handles.finders import get_function as get_function
    from mlfn.handles.finders import run as run
    from mlfn.handles.finders import runs as runs
    from mlfn.handles.finders import wait as wait
    from mlfn.handles.run import Run as Run
    from mlfn.handles.service import Service as Service
    from mlfn.handles.services import service as service
    from mlfn.handles.services import services as services
    from mlfn.settings.current import init as init
    from mlfn.settings.declarations import Settings as Settings
    from mlfn.settings.secrets import Secret as Secret
    from mlfn.spec.data_item import DataItem as DataItem
    from mlfn.spec.data_item import data as data
    from mlfn.spec.values import UNSET as UNSET
    from mlfn.spec.values import Node as Node
    from mlfn.spec.values import Retry as Retry
    from mlfn.sweep.description import Sweep as Sweep
    from mlfn.sweep.handle import SweepRun as SweepRun
    from mlfn.sweep.spaces.distributions import choice as choice
    from mlfn.sweep.spaces.distributions import lograndint as lograndint
    from mlfn.sweep.spaces.distributions import loguniform as loguniform
    from mlfn.sweep.spaces.distributions import normal as normal
    from mlfn.sweep.spaces.distributions import ordinal as ordinal
    from mlfn.sweep.spaces.distributions import quniform as quniform
    from mlfn.sweep.spaces.distributions import randint as randint
    from mlfn.sweep.spaces.distributions import uniform as uniform
    from mlfn.worker.context import Context as Context
    from mlfn.worker.context import Pruned as Pruned
    from mlfn.worker.context import context as context

_HOMES = {
    "mlfn.functions.declaration": "Function function handler",
    "mlfn.dispatch.session": "shutdown",
    "mlfn.errors": "MlfnError",
    "mlfn.handles.run": "Run",
    "mlfn.handles.service": "Service",
    "mlfn.handles.services": "service services",
    "mlfn.spec.data_item": "DataItem data",
    "mlfn.backends.kinds.dask": "Dask",
    "mlfn.backends.kinds.horovod": "Horovod",
    "mlfn.backends.kinds.job": "Job",
    "mlfn.backends.kinds.mpi": "Mpi",
    "mlfn.backends.kinds.spark": "Spark",
    "mlfn.backends.kinds.nuclio.options": "Nuclio",
    "mlfn.backends.kinds.nuclio.triggers": "Cron Http Kafka Kinesis Mqtt Nats RabbitMq V3ioStream",
    "mlfn.functions.library.diff": "diff",
    "mlfn.handles.finders": "Runs as_completed get_function run runs wait",
    "mlfn.settings.secrets": "Secret",
    "mlfn.settings.current": "init",
    "mlfn.settings.declarations": "Settings",
    "mlfn.spec.values": "UNSET Node Retry",
    "mlfn.sweep.spaces.distributions": "choice lograndint loguniform normal ordinal quniform randint uniform",
    "mlfn.sweep.description": "Sweep",
    "mlfn.sweep.handle": "SweepRun",
    "mlfn.worker.context": "Context Pruned context",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker goes by the imports above
    __all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604 - they are strings


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mlfn' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    _register_notebook()
    return value


def __dir__() -> list[str]:
    return sorted({*_HOME_OF, "errors", *(name for name in globals() if name.startswith("__"))})


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports itself when it is first called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return call


def _register_notebook() -> None:
    """Register how runs show themselves in IPython, if this process has it."""
    global _is_registered
    if not _is_registered and "IPython" in sys.modules:
        from mlfn.ui.notebook import register

        _is_registered = register()


_is_registered = False
hooks.progress_display = _later("mlfn.ui.terminal.progress", "progress_line")
hooks.sweep_controller = _later("mlfn.sweep.controller.ownership", "resume_sweep")
hooks.condition = _later("mlfn.sweep.conditions.grammar", "parse_condition")
hooks.sweep_description = _later("mlfn.sweep.versions", "describe")
hooks.sweep_handle = _later("mlfn.sweep.handle", "SweepRun")
