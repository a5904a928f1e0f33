"""The processes that a handler starts by `multiprocessing`, other than by fork: they load the function in place of the user's script.

A script would run again in each of them, and a notebook or a pod has none.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from mlfn.code import payload, worker_modules
from mlfn.code.worker_modules import MAIN
from mlfn.worker import context as user_context

_VARIABLE = "MLFN_FUNCTION_OF_CHILD"
_BROUGHT = "mlfn-brought"


def prepare(path: Path, pin: str | None, own: Collection[str] | None, folder: Path | None) -> None:
    """Have the children of this process load the function at `path`, and what parameters have brought beside it.

    The latter is written to `folder`, the execution's own; without one they do not get it.
    """
    file = folder / _BROUGHT if folder is not None else None
    asked = {
        "payload": str(path),
        "pin": pin,
        "own": None if own is None else list(own),
        "brought": str(file) if file is not None else None,
    }
    os.environ[_VARIABLE] = json.dumps(asked)
    if file is not None:
        worker_modules.before_child(partial(_write_brought, file, threading.Lock()))


def _write_brought(file: Path, lock: threading.Lock) -> None:
    if not worker_modules.brought_by_values():
        return
    with lock:
        draft = file.with_suffix(".draft")  # another child may be reading
        draft.write_bytes(payload.dump_brought())
        draft.replace(file)


def load() -> dict[str, Any]:
    """Return the globals of the user's ``__main__``, in a child."""
    user_context.in_worker = True
    asked = json.loads(os.environ[_VARIABLE])
    payload.unpack_function(Path(asked["payload"]).read_bytes(), pin=asked["pin"], own=asked["own"])
    if asked["brought"] is not None and (file := Path(asked["brought"])).exists():
        payload.load_brought(file.read_bytes())
    return {name: value for name, value in vars(sys.modules[MAIN]).items() if not name.startswith("__")}
