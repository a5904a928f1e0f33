"""What a pod is beside one that runs a function by itself, as the first argument says."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from mlfn.errors import MlfnError
from mlfn.worker.pod import ranks, spark, unit
from mlfn.worker.pod.preparation import asked_of_pod, prepare
from mlfn.worker.pod.requirements import TARGET


def take(role: str, *arguments: str) -> NoReturn:
    """Be what an argument says."""
    if role == "command":
        _become(_prepared(), arguments)
    if role == "executor":
        _become(_prepared(), spark.executor(os.environ))
    if role == "driver":
        os.environ.update(spark.driver(arguments, os.environ))
        unit.run()
    ranks.main(role, *arguments)


def _prepared() -> Mapping[str, Any]:
    """Prepare this pod as one that runs the function, and return the function's plan."""
    asked, _ = asked_of_pod()
    try:
        prepare(asked, sys.stdout.buffer.write)
    except MlfnError as error:
        sys.exit(str(error))
    sys.stdout.flush()
    plan: Mapping[str, Any] = asked["plan"]
    return plan


def _become(plan: Mapping[str, Any], argv: tuple[str, ...]) -> NoReturn:
    """Become a command, whose ``{python}`` is this one."""
    environ = {**os.environ, **plan["env"], "PYTHONPATH": TARGET}
    filled = [sys.executable if argument == "{python}" else argument for argument in argv]
    os.chdir(plan["cwd"])
    os.execvpe(filled[0], filled, environ)  # noqa: S606 - no shell
