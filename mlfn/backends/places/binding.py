"""What a worker is bound to that shares the caller's files: a plan, as the message or the assignment that tells it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.backends.kinds.base import Command, Launch, Manifest, Pooled
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.registry import launch_of
from mlfn.code.envelope import derive, pin_of
from mlfn.errors import MlfnError
from mlfn.host.installation import ROOT
from mlfn.settings.secrets import values_for
from mlfn.spec.plan import Plan
from mlfn.worker.task import Calling


def binding_of(plan: Plan, config: PlaceConfig, execution: str) -> dict[str, Any]:
    """Return what `mlfn.worker.binding.Binding` takes: the key is the execution's own, and the payload is pinned."""
    launch, payload = launch_of(plan), config.folder / "payloads" / plan.payload
    return {
        "payload": str(payload),
        "pin": _pin(payload, config.key),
        "execution": execution,
        "key": derive(config.key, execution).hex(),
        "env": {**(launch.env if isinstance(launch, Pooled) else {}), **plan.env},
        "cwd": plan.workspace.cwd,
        "sys_path": plan.workspace.sys_path,
        "root": ROOT,
        "threads": max(1, int(plan.cpu)) if plan.cpu else None,
        "mem": plan.mem,
        "artifacts": config.artifacts,
        "secrets_file": str(config.secrets_file),
        "secrets": values_for(plan.secrets, os.environ),
        "by_reference": plan.workspace.by_reference,
        "sources": plan.workspace.sources,
        "logging": plan.workspace.logging,
        "heartbeat": config.heartbeat,
        "grace": config.grace,
        "timeout": plan.timeout,
        "kind": {"name": plan.kind.name, "options": plan.kind.options},
        "command": _command_of(launch),
        "activated": launch.activated if isinstance(launch, Pooled) else isinstance(launch, Manifest),
        "calling": replace(Calling.of(plan), mem=plan.mem).to_json(),
    }


def _command_of(launch: Launch) -> dict[str, Any] | None:
    command = launch.command if isinstance(launch, Manifest) else launch
    return vars(command) if isinstance(command, Command) else None


def _pin(payload: Path, key: bytes) -> str | None:
    """Return what a worker may load; None where that is not signed or cannot be read, which fails the run there."""
    with suppress(MlfnError, OSError), payload.open("rb") as file:
        return pin_of(file, key)
    return None
