"""The kinds mpi and horovod: the command lines they make, and the options they refuse."""

from __future__ import annotations

from typing import Any

import pytest

import mlfn
from mlfn.backends.kinds import mpijob
from mlfn.backends.kinds.base import WORKER, Command, Manifest
from mlfn.backends.places.kubernetes.operators import OperatorPlace
from mlfn.backends.places.local.place import LocalPlace
from mlfn.errors import OptionError, WorkerDiedError
from mlfn.spec.yaml_text import from_yaml


@mlfn.function
def handler() -> None: ...


def command(kind: Any) -> Command:
    launch = kind.launch(None, LocalPlace.CAPABILITIES)
    assert isinstance(launch, Command)
    return launch


def test_mpirun_starts_one_worker_in_each_rank() -> None:
    found = command(mlfn.Mpi(replicas=2, slots=3, mpi_args=["--mca", "btl", "tcp,{self}"]))

    assert found.ranks == 6
    assert found.argv[0] == "mpirun" and found.argv[-len(WORKER) :] == WORKER
    assert found.argv[found.argv.index("-n") :][:5] == ("-n", "6", "--mca", "btl", "tcp,{{self}}")


def test_ranks_of_horovod_find_each_other_by_gloo() -> None:
    found = command(mlfn.Horovod(replicas=3))

    assert found.argv == ("{python}", "-m", "mlfn.backends.kinds.horovodrun", "3", *WORKER)
    assert (dict(found.env), list(found.needs)) == ({}, ["horovod"])


def test_arguments_of_mpirun_have_horovod_use_it() -> None:
    found = command(mlfn.Horovod(replicas=2, slots=2, mpi_args=["--mca", "x", "{y}"]))

    assert found.argv == command(mlfn.Mpi(replicas=2, slots=2, mpi_args=["--mca", "x", "{y}"])).argv
    assert found.env["HOROVOD_CONTROLLER"] == "mpi"
    assert list(found.needs) == ["horovod", "mpirun"]


def test_pods_of_horovod_are_those_of_mpi() -> None:
    of_horovod, of_mpi = (
        from_yaml(handler.with_options(kind=kind, image="team/train:1").on("kubernetes").plan().split("---\n")[1])
        for kind in (mlfn.Horovod(replicas=3, slots=2, autotune=True), mlfn.Mpi(replicas=3, slots=2))
    )

    for job in (of_horovod, of_mpi):
        for labels in (
            job["metadata"]["labels"],
            *(item["template"]["metadata"]["labels"] for item in replicas_of(job)),
        ):
            del labels["mlfn.io/hash"]
    assert of_horovod == of_mpi


def replicas_of(job: Any) -> list[Any]:
    return list(job["spec"]["mpiReplicaSpecs"].values())


def test_ranks_of_horovod_in_pods_find_each_other_by_mpi() -> None:
    kind = mlfn.Horovod(replicas=3, slots=2, mpi_args=["--mca", "x", "{y}"], timeline="/data/{t}", autotune=True)
    launch = kind.launch(None, OperatorPlace.CAPABILITIES)

    assert isinstance(launch, Manifest)
    own = ("-x", "HOROVOD_CONTROLLER=mpi", "-x", "HOROVOD_CPU_OPERATIONS=mpi")
    options = ("-x", "HOROVOD_TIMELINE=/data/{{t}}", "-x", "HOROVOD_AUTOTUNE=1", "--mca", "x", "{{y}}")
    argv = launch.command.argv
    assert argv[argv.index("HOROVOD_CONTROLLER=mpi") - 1 :] == (*own, *options, *mpijob.WORKER)
    assert launch.command.env["OMPI_MCA_pml"] == "ob1"
    assert launch.command.ranks == 6
    assert list(launch.command.needs) == ["horovod", "mpirun"]


def test_timeline_and_autotune_are_variables_of_horovod() -> None:
    found = command(mlfn.Horovod(timeline="t.json", autotune=True))

    assert dict(found.env) == {"HOROVOD_TIMELINE": "t.json", "HOROVOD_AUTOTUNE": "1"}


@pytest.mark.parametrize("kind", [mlfn.Mpi, mlfn.Horovod])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("replicas", 0, "whole number, 1 or more"),
        ("replicas", "2", "whole number, 1 or more"),
        ("slots", True, "whole number, 1 or more"),
        ("mpi_args", "--mca btl tcp", "list of texts"),
        ("mpi_args", [1], "list of texts"),
    ],
)
def test_an_option_that_cannot_be_is_refused(kind: Any, option: str, value: Any, said: str) -> None:
    with pytest.raises(OptionError, match=rf"{kind.__name__}\({option}={value!r}\): a {said}".replace("[", r"\[")):
        kind(**{option: value})


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("timeline", 1, "path of a file"),
        ("autotune", "yes", "True or False"),
        ("elastic", 3, "two whole numbers"),
        ("elastic", (3, 4), "replicas=2 between them"),
        ("elastics", (1, 2), "did you mean 'elastic'"),
    ],
)
def test_an_option_of_horovod_is_refused(option: str, value: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        mlfn.Horovod(**{option: value})


def test_elastic_is_refused_on_one_machine() -> None:
    with pytest.raises(OptionError, match=r"elastic=\(1, 4\)\): no worker comes or goes while a run at on='local'"):
        handler.with_options(kind=mlfn.Horovod(elastic=(1, 4))).submit()


@pytest.mark.parametrize(("kind", "place"), [(mlfn.Mpi(), "inline"), (mlfn.Horovod(), "inline")])
def test_a_place_that_starts_no_ranks_is_refused(kind: Any, place: str) -> None:
    with pytest.raises(OptionError, match=f"does not run on='{place}': .*on='local'.* is allowed"):
        handler.with_options(kind=kind).on(place).submit()


@pytest.mark.parametrize("prefix", ["OMPI_COMM_WORLD", "HOROVOD"])
def test_a_rank_knows_its_place_from_its_launcher(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(f"{prefix}_{name}", value)
    kind = mlfn.Horovod() if prefix == "HOROVOD" else mlfn.Mpi()

    with kind.activate(None) as extras:  # type: ignore[arg-type]
        assert (extras.rank, extras.size, extras.local_rank) == (3, 4, 1)


def test_a_rank_that_no_launcher_told_says_so() -> None:
    with pytest.raises(WorkerDiedError, match=r"OMPI_COMM_WORLD_RANK is not set.*mpirun --version"):
        mlfn.Mpi().activate(None)  # type: ignore[arg-type]
