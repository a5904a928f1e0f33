"""The processes that a handler starts by `multiprocessing`, other than by fork: they load the function in place of the user's script.

A script would run again in each of them, and a notebook or a pod has none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlfn.code import payload
from mlfn.code.worker_modules import MAIN
from mlfn.worker import context as user_context

_VARIABLE = "MLFN_FUNCTION_OF_CHILD"


def prepare(path: Path, pin: str | None, own: Collection[str]) -> None:
    """Have the children of this process load the function at `path`."""
    os.environ[_VARIABLE] = json.dumps({"payload": str(path), "pin": pin, "own": list(own)})


def load() -> dict[str, Any]:
    """Return the globals of the user's ``__main__``, in a child."""
    user_context.in_worker = True
    asked = json.loads(os.environ[_VARIABLE])
    payload.unpack_function(Path(asked["payload"]).read_bytes(), pin=asked["pin"], own=asked["own"])
    return {name: value for name, value in vars(sys.modules[MAIN]).items() if not name.startswith("__")}
