"""The MPIJob of a kind whose ranks run in several pods: what the MPI operator makes pods of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.backends.kinds.base import Command, Manifest, Pod

ENVIRON: Mapping[str, str] = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}

WORKER = ("{python}", "/mlfn/worker/mlfn.zip", "rank", "{folder}")
"""The command line of one rank in a pod."""

_INSTALL = "kubectl apply --server-side -f https://raw.githubusercontent.com/kubeflow/mpi-operator/v0.6.0/deploy/v2beta1/mpi-operator.yaml"

SSH = "-p 2222 -i /mlfn/ssh/id_rsa -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
"""What `mpirun` has to add when it reaches other pods by `ssh`."""


# A Python that Debian's mpirun starts over SSH has no variables of its pod: those that it needs go with it.
_EXPORTED = ("MLFN_MAIN_POD",)


def mpijob(mpi_args: Sequence[str], *, replicas: int, slots: int) -> Manifest:
    """Return `replicas` pods with `slots` ranks each, which `mpirun` starts in the first of them.

    A variable that the ranks are to have is among the arguments of mpirun, as in ``["-x", "NAME=value"]``.
    """
    specs: dict[str, Any] = {"Launcher": {"replicas": 1, "restartPolicy": "Never", "template": Pod("launcher")}}
    if replicas > 1:
        template = Pod("worker", ("serve",), ports={"ssh": 2222})
        specs["Worker"] = {"replicas": replicas - 1, "restartPolicy": "Never", "template": template}
    ranks = replicas * slots
    spec = {
        "slotsPerWorker": slots,
        "runLauncherAsWorker": True,
        "launcherCreationPolicy": "WaitForWorkersReady",
        "sshAuthMountPath": "/mlfn/ssh",
        "mpiImplementation": "OpenMPI",
        "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 0},
        "mpiReplicaSpecs": specs,
    }
    exported = [arg for name in _EXPORTED for arg in ("-x", name)]
    argv = ("mpirun", "-n", str(ranks), "--mca", "plm_rsh_args", SSH, *exported, *mpi_args, *WORKER)
    needs = {"mpirun": "apt-get install openmpi-bin openssh-server, in the image of the function"}
    command = Command(argv, ENVIRON, ranks, needs)
    return Manifest("kubeflow.org/v2beta1", "MPIJob", "mpijobs", spec, command, install=_INSTALL)
