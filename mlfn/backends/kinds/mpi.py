"""MPI: N ranks run the same handler, started by Open MPI's `mpirun`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from mlfn.backends.kinds.base import WORKER, Command, Launch
from mlfn.backends.kinds.mpijob import mpijob
from mlfn.backends.places.base import Capabilities
from mlfn.errors import OptionError, WorkerDiedError
from mlfn.spec.plan import Plan
from mlfn.spec.values import option_values
from mlfn.worker.task import Extras, Task

# As parameters in the environment, which an option in `mpi_args` overrides: a laptop has fewer cores than ranks, a container
# runs as root.
ENVIRON: Mapping[str, str] = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}
INSTALL_MPIRUN = "apt-get install openmpi-bin"
INSTALL_MPI4PY = "pip install mpi4py"
RANK_BY_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")


@option_values
@dataclass(frozen=True)
class Mpi:
    """Run the handler in ``replicas * slots`` ranks; the value of rank 0 is the run's.

    `replicas` are the workers (on Kubernetes, pods), `slots` the ranks in each. On this machine all ranks are its processes.
    `mpi_args` are more arguments of ``mpirun``, as in ``["--mca", "btl", "tcp,self"]``.
    """

    ENGINES: ClassVar[Mapping[str, str]] = {"local": "local", "kubernetes": "kubernetes_operators"}

    replicas: int = 2
    slots: int = 1
    mpi_args: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_ranks(self)

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return the command line of mpirun."""
        if capabilities.manifests:
            return mpijob([literal(arg) for arg in self.mpi_args], replicas=self.replicas, slots=self.slots)
        return mpirun(self.replicas * self.slots, self.mpi_args)

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Return what mpirun says of this rank; a missing mpi4py is then named with what to type."""
        return _activated(rank_of(os.environ, RANK_BY_MPI))


@contextmanager
def _activated(extras: Extras) -> Iterator[Extras]:
    try:
        yield extras
    except ModuleNotFoundError as error:
        if error.name == "mpi4py":
            error.msg = (
                f"No module named 'mpi4py', by which ranks of kind='mpi' talk: {INSTALL_MPI4PY}, where they run."
            )
            error.args = (error.msg,)  # from which its copies are made
        raise


def mpirun(ranks: int, mpi_args: Sequence[str]) -> Command:
    """Return the command line of mpirun for ranks of this machine."""
    # What a killed mpirun leaves behind goes with the run's folder.
    own = ("--mca", "orte_tmpdir_base", "{folder}", "-n", str(ranks))
    return Command(("mpirun", *own, *map(literal, mpi_args), *WORKER), ENVIRON, ranks, {"mpirun": INSTALL_MPIRUN})


def check_ranks(kind: Any) -> None:
    """Raise OptionError for numbers of ranks or arguments of mpirun that cannot be."""
    name = type(kind).__name__
    for option in ("replicas", "slots"):
        value = getattr(kind, option)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name}({option}={value!r}): a whole number, 1 or more, is allowed.")
    args: Any = kind.mpi_args
    if not isinstance(args, (list, tuple)) or not all(isinstance(arg, str) for arg in args):
        raise OptionError(
            f'{name}(mpi_args={args!r}): a list of texts is allowed, one per argument, as in ["--mca", "btl", "tcp,self"].'
        )
    object.__setattr__(kind, "mpi_args", tuple(args))


def literal(text: str) -> str:
    """Return a text in which braces stand for themselves."""
    return text.replace("{", "{{").replace("}", "}}")


def rank_of(environ: Mapping[str, str], names: Sequence[str]) -> Extras:
    """Return rank, size and local rank from variables of these names."""
    try:
        rank, size, local_rank = (int(environ[name]) for name in names)
        return Extras(rank, size, local_rank)
    except (KeyError, ValueError) as error:
        raise WorkerDiedError(
            f"No launcher has told this process its rank: {names[0]} is not set ({error}). Is the first mpirun on PATH that of "
            "Open MPI? `mpirun --version` says so."
        ) from error
