"""What a server is started with: a file in its folder, and what is in no file in its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.host.frozen import frozen
from mlfn.host.private_files import replace
from mlfn.spec.plan import Plan

FILE = "server.json"
VARIABLE = "MLFN_SERVER_SECRETS"
NEEDS_UVICORN = "A service needs uvicorn, which is not installed: pip install 'mlfn[nuclio]'."
# In no file: the key that payloads are signed by, and secrets.
_WITHHELD = ("key", "artifacts", "secrets")
_HIDDEN = ("token", "internal", "passwords")


@frozen
class ServerOptions:
    """Everything that a server needs to know. Durations in seconds, sizes in bytes; None is no limit.

    `binding` is what `mlfn.worker.binding.Binding` takes; `token` the value that requests have to bring.
    """

    name: str
    project: str
    version: str
    binding: Mapping[str, Any]
    outputs: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 1
    limit: float | None = None
    wait: float = 10.0
    queue: int = 1024
    max_body: int = 4 * 2**20
    rate: float | None = None
    cors: tuple[str, ...] = ()
    token: str | None = None
    internal: str = ""  # what mlfn itself brings, to have a run executed
    triggers: Mapping[str, Mapping[str, Any]] | None = None  # those other than HTTP, by their names
    passwords: Mapping[str, str] = field(default_factory=dict)  # of triggers
    grace: float = 10.0
    in_pod: bool = False  # its clients share no folder with it
    request_time: float = 30.0  # within which a request has to arrive
    engine: Mapping[str, Any] | None = None  # what Nuclio's processor is started with, where that serves

    @property
    def secrets(self) -> list[str]:
        """What no log may hold."""
        return [*([self.token] if self.token else []), *self.passwords.values()]

    @staticmethod
    def of_plan(plan: Plan, kind: Nuclio) -> dict[str, Any]:
        """Return those that a function declares itself, whichever host starts it."""
        http = kind.http
        others = {name: trigger.to_json() for name, trigger in kind.named_triggers.items() if trigger.KIND != "http"}
        return {
            "name": plan.name,
            "project": plan.project,
            "version": plan.function,
            "outputs": plan.outputs,
            "limit": plan.timeout,
            "wait": float(http.wait),
            "queue": http.queue,
            "max_body": int(http.max_body),
            "rate": http.rate,
            "cors": tuple(http.cors),
            "triggers": others or None,
        }

    def write(self, folder: Path) -> dict[str, str]:
        """Write what may be in a file, and return the variables for the rest."""
        withheld = {name: self.binding.get(name) for name in _WITHHELD}
        binding = {name: value for name, value in self.binding.items() if name not in _WITHHELD}
        hidden = {name: getattr(self, name) for name in _HIDDEN}
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        replace(folder / FILE, json.dumps({**plain, "binding": binding}).encode())
        return {VARIABLE: json.dumps({**hidden, "binding": withheld})}

    @classmethod
    def read(cls, folder: Path) -> ServerOptions:
        """Return the options of a folder; takes the secrets out of the environment."""
        data = json.loads((folder / FILE).read_bytes())
        secrets = json.loads(os.environ.pop(VARIABLE))
        binding = {**data["binding"], **secrets.pop("binding")}
        return cls.of_json({**data, **secrets, "binding": binding})

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> ServerOptions:
        """Return options that were JSON."""
        return cls(**{**data, **{name: tuple(data[name]) for name in ("outputs", "cors")}})
