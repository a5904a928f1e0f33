"""The protocol of kinds, and what a kind asks its place to create."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Any, Protocol

from mlfn.backends.places.base import Capabilities
from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.worker.task import Extras, Task

WORKER = ("{python}", "-m", "mlfn.worker", "{folder}")
"""The command line of one rank. The place fills in the braces: its interpreter, and the folder of the assignment."""


@frozen
class Pooled:
    """A worker process of the place's own calls the handler; with `fresh`, one that runs nothing else."""

    fresh: bool = False

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"worker": {"fresh": self.fresh}}


@frozen
class Command:
    """A command that starts `WORKER` once for each rank, waits for all, and ends with an exit code other than 0 if one failed.

    It inherits the environment, with `env` added, and must hand it on to each rank; SIGTERM must end it and all its ranks.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"command": {"argv": list(self.argv), "env": dict(self.env)}}


Launch = Pooled | Command


class Kind(Protocol):
    """What runs. A kind is the class of its own options, and pure: it does no I/O but in `activate`."""

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return what to create for a run; raise OptionError, by field, for what cannot be honoured there."""
        ...

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Prepare the process of one rank, where the run runs; asked of ranks of a `Command` only."""
        ...
