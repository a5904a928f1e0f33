"""What a server says of itself, in a file of its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mlfn.host.frozen import frozen
from mlfn.host.private_files import replace

FILE = "status.json"
State = Literal["starting", "ready", "failed", "ended"]


@frozen
class Status:
    """Whether it is ready, where, and who it is; `error` says why it failed, `kind` by which type of error."""

    state: State
    process: Mapping[str, Any]
    url: str | None = None
    error: str | None = None
    kind: str | None = None

    def write(self, folder: Path) -> None:
        """Write it."""
        replace(folder / FILE, json.dumps(vars(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> Status | None:
        """Return what is there; None before the server has begun."""
        try:
            return cls(**json.loads((folder / FILE).read_bytes()))
        except FileNotFoundError:
            return None
