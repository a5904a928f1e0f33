"""A plain function call: the kind that every place knows."""

from __future__ import annotations

from dataclasses import dataclass

from mlfn.errors import OptionError
from mlfn.spec.values import option_values


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
