"""Horovod: N ranks train together, and find each other by Gloo or by MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

from mlfn.backends.kinds.base import WORKER, Command, Launch
from mlfn.backends.kinds.mpi import RANK_BY_MPI, check_ranks, literal, mpirun, rank_of
from mlfn.backends.kinds.mpijob import mpijob
from mlfn.backends.places.base import Capabilities
from mlfn.errors import OptionError
from mlfn.spec.plan import Plan
from mlfn.spec.values import option_values
from mlfn.worker.task import Extras, Task

INSTALL_HOROVOD = "HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 pip install --no-build-isolation horovod"
_BY_MPI: Mapping[str, str] = {"HOROVOD_CONTROLLER": "mpi", "HOROVOD_CPU_OPERATIONS": "mpi"}
# What `horovodrun --mpi` has mpirun use as well: TCP, and no other way.
_TRANSPORT: Mapping[str, str] = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^openib"}
_RANK_BY_GLOO = ("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK")


@option_values
@dataclass(frozen=True)
class Horovod:
    """Run the handler in ``replicas * slots`` ranks of Horovod; the value of rank 0 is the run's.

    `replicas` are the workers (on Kubernetes, pods), `slots` the ranks in each. On this machine all ranks are its processes, and
    find each other by Gloo; with `mpi_args`, more arguments of ``mpirun``, by MPI, as they do on Kubernetes. `timeline` is a file to which Horovod
    writes what it did when; `autotune` has it choose its own parameters. `elastic` says how few and how many workers there may
    be while it runs.
    """

    ENGINES: ClassVar[Mapping[str, str]] = {"local": "local", "kubernetes": "kubernetes_operators"}

    replicas: int = 2
    slots: int = 1
    mpi_args: Sequence[str] = ()
    timeline: str | None = None
    autotune: bool = False
    elastic: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_ranks(self)
        if self.timeline is not None and not (isinstance(self.timeline, str) and self.timeline):
            raise OptionError(f"Horovod(timeline={self.timeline!r}): the path of a file is allowed, as a text.")
        if not isinstance(self.autotune, bool):
            raise OptionError(f"Horovod(autotune={self.autotune!r}): True or False is allowed.")
        if self.elastic is not None:
            self._check_elastic(self.elastic)

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return the command line that starts the ranks, or the MPIJob in which mpirun does."""
        if self.elastic is not None:
            raise OptionError(
                f"Horovod(elastic={self.elastic}): no worker comes or goes while a run at on={plan.place.name!r} goes on; "
                "leave elastic= out, and set replicas= to the number of workers."
            )
        environ = {} if self.timeline is None else {"HOROVOD_TIMELINE": self.timeline}
        if self.autotune:
            environ["HOROVOD_AUTOTUNE"] = "1"
        ranks, needs = self.replicas * self.slots, {"horovod": INSTALL_HOROVOD}
        if capabilities.manifests:
            exported = [arg for name, value in {**_BY_MPI, **environ}.items() for arg in ("-x", f"{name}={value}")]
            args = [literal(arg) for arg in (*exported, *self.mpi_args)]
            job = mpijob(args, replicas=self.replicas, slots=self.slots)
            assert job.command is not None
            wanted = {"horovod": f"{INSTALL_HOROVOD}, in the image of the function", **job.command.needs}
            return replace(job, command=replace(job.command, env={**job.command.env, **_TRANSPORT}, needs=wanted))
        if self.mpi_args:
            by_mpi = mpirun(ranks, self.mpi_args)
            return replace(
                by_mpi, env={**by_mpi.env, **_TRANSPORT, **_BY_MPI, **environ}, needs={**needs, **by_mpi.needs}
            )
        argv = ("{python}", "-m", "mlfn.backends.kinds.horovodrun", str(ranks), *WORKER)
        return Command(argv, environ, ranks, needs)

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Return what the launcher says of this rank."""
        names = _RANK_BY_GLOO if _RANK_BY_GLOO[0] in os.environ else RANK_BY_MPI
        return nullcontext(rank_of(os.environ, names))

    def _check_elastic(self, value: object) -> None:
        fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(type(item) is int for item in value)
        if not fits or not 1 <= value[0] <= self.replicas <= value[1]:  # type: ignore[index]
            raise OptionError(
                f"Horovod(elastic={value!r}): two whole numbers are allowed, the fewest and the most workers, with "
                f"replicas={self.replicas} between them, as in elastic=(1, {self.replicas + 2})."
            )
        object.__setattr__(self, "elastic", tuple(value))  # type: ignore[arg-type]
