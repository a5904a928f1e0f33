"""A kind of a package of its own: N processes run the handler side by side, as `mpirun` would start them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from mlfn.backends.kinds.base import WORKER, Command, Launch
from mlfn.backends.places.base import Capabilities
from mlfn.spec.plan import Plan
from mlfn.worker.task import Extras, Task

# Starts the rest of its command line N times; at the first that fails it ends the others.
_LAUNCHER = """
import os, signal, subprocess, sys, time

size, *command = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: [rank.terminate() for rank in ranks])
ranks = []
for number in range(int(size)):
    ranks.append(subprocess.Popen(command, env={**os.environ, "RANK": str(number), "WORLD_SIZE": size}))
while any(rank.poll() is None for rank in ranks):
    if any(rank.poll() for rank in ranks):
        for rank in ranks:
            rank.terminate()
    time.sleep(0.01)
sys.exit(max(abs(rank.returncode) for rank in ranks))
"""


@dataclass(frozen=True)
class Ranks:
    """Run the handler in so many processes; the value of rank 0 is the run's."""

    size: int = 2

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return the launcher's command."""
        launcher = _LAUNCHER.replace("{", "{{").replace("}", "}}")
        return Command(("{python}", "-c", launcher, str(self.size), *WORKER), ranks=self.size)

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Return what the launcher says of this rank."""
        return nullcontext(Extras(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])))
