"""A kind of a package of its own: the handler runs under ``nice``, in a process that nothing else uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

from mlfn.backends.kinds.base import WORKER, Command, Launch
from mlfn.backends.places.base import Capabilities
from mlfn.errors import OptionError
from mlfn.spec.plan import Plan
from mlfn.worker.task import Extras, Task


@dataclass(frozen=True)
class Niceness:
    """What a handler gets that asks for it."""

    value: int


@dataclass(frozen=True)
class Nice:
    """Run the handler with so much less of the processor's time."""

    INJECTS: ClassVar[Mapping[str, str]] = {"many_kinds.nice_kind.Niceness": "niceness"}
    by: int = 10

    def __post_init__(self) -> None:
        if type(self.by) is not int or not 0 <= self.by <= 19:
            raise OptionError(f"Nice(by={self.by!r}): a whole number from 0 to 19 is allowed.")

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return the command of the only rank."""
        return Command(("nice", "-n", str(self.by), *WORKER))

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Return the only rank."""
        return nullcontext(Extras(supplied={"niceness": Niceness(os.nice(0))}, page="http://127.0.0.1/nice"))
