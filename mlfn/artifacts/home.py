"""The folder below a chosen artifact root that belongs to one data folder: garbage collection goes no further."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from mlfn.errors import StorageError
from mlfn.host.private_files import locked, read_private, replace

_FILE = "artifacts.home"


def home_of(data: Path) -> str:
    """Return the name, made at first use. A data folder that was copied or moved gets another: the name must be its own.

    Were it the same, the copy would take the original's new artifacts for garbage.
    """
    path = data / _FILE
    try:
        with locked(path):
            known = _read(path)
            if known.get("of") != _identity(data):
                # Not 32 digits, as runs have: the whole may be copied into a data folder's own artifacts.
                known = {"home": f"of-{secrets.token_hex(8)}", "of": _identity(data)}
                replace(path, json.dumps(known).encode())
    except OSError as error:
        raise StorageError(
            f"Cannot keep which artifacts are of this data folder in {str(path)!r}: {error.strerror}."
        ) from error
    return str(known["home"])


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(read_private(path))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _identity(data: Path) -> list[Any]:
    return [socket.gethostname(), str(data.resolve()), os.stat(data).st_ino]
