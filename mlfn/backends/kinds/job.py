"""A plain function call: the kind that every place knows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from mlfn.backends.kinds.base import Launch, Pooled
from mlfn.backends.places.base import Capabilities
from mlfn.errors import OptionError
from mlfn.spec.plan import Plan
from mlfn.spec.values import option_values
from mlfn.worker.task import Extras, Task


@option_values
@dataclass(frozen=True)
class Job:
    """Run the handler once in a worker process.

    `fresh` gives every run a process of its own; otherwise a process is reused while its function version has work.
    """

    fresh: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.fresh, bool):
            raise OptionError(f"Job(fresh={self.fresh!r}): True or False is allowed.")

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return a process of the place's own workers."""
        return Pooled(fresh=self.fresh)

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Return the only rank."""
        return nullcontext(Extras())
