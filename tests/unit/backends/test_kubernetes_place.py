"""What a place on Kubernetes makes of what it is told; requests to an API server are counted here, and none is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlfn.backends.places.base import EventsReceived, PlaceConfig, Report, Slot, StatusChanged, Terminated
from mlfn.backends.places.kubernetes.messages import PodSeen, PodsListed
from mlfn.backends.places.kubernetes.objects import Wanted, execution
from mlfn.backends.places.kubernetes.place import KubernetesPlace
from mlfn.backends.places.kubernetes.words import LIMITS
from mlfn.spec.record import Reason
from mlfn.worker.task import Task
from tests.unit.backends.test_kubernetes import PLAN

INDEX = "batch.kubernetes.io/job-completion-index"
GIVES_UP = {"conditions": [{"type": "FailureTarget", "status": "True", "reason": "MaxFailedIndexesExceeded"}]}
FAILED = {"containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 1}}}]}
STARTS = {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}]}


class CountedRequests:
    """What the API server is asked for; it has one Job, with this status."""

    where = {"server": "https://here", "namespace": "ml"}  # noqa: RUF012 - nobody changes it
    namespace = "ml"

    def __init__(self) -> None:
        self.created: list[Wanted] = []
        self.status: dict[str, Any] | None = {}
        self.mounting: str | None = None

    def create(self, wanted: Wanted, tasks: Sequence[Task]) -> None:
        self.created.append(wanted)

    def object(self, resource: object, name: str) -> dict[str, Any] | None:
        return None if self.status is None else {"kind": "Job", "status": self.status}

    def why_no_pod(self, resource: object, name: str) -> str | None:
        return None

    def why_not_mounted(self, pod: str) -> str | None:
        return self.mounting

    def delete_pod(self, name: str) -> None: ...

    def delete(self, resource: object, name: str) -> None: ...


@pytest.fixture
def requests() -> CountedRequests:
    return CountedRequests()


@pytest.fixture
def place(requests: CountedRequests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesPlace]:
    artifacts = {"root": str(tmp_path), "home": "", "former": str(tmp_path)}
    config = PlaceConfig("client", tmp_path, artifacts, b"k" * 32, tmp_path / "secrets", 1, False, 1.0, 1.0)
    made = KubernetesPlace(config)
    monkeypatch.setattr(made, "_opened", lambda: requests)
    yield made
    made.close()


def reserved(place: KubernetesPlace, waiting: int, **options: Any) -> Slot:
    slot = place.reserve(PLAN, waiting=waiting, backlog=1, parallel=None, **{"failures": None, **options})
    assert isinstance(slot, Slot)
    return slot


def started(place: KubernetesPlace, units: int, **options: Any) -> str:
    """Start an execution with so many units, and return its name once it is created."""
    name = reserved(place, units, **options).execution
    place.start(name, [Task(f"run-{n}", 1, {}) for n in range(units)])
    reports_of(place, lambda found: any(isinstance(report, EventsReceived) for report in found))
    place._inbox.put(PodsListed(frozenset()))
    return name


def pod(execution: str, index: int, status: dict[str, Any]) -> dict[str, Any]:
    labels = {"mlfn.io/execution": execution, INDEX: str(index)}
    scheduled = {"type": "PodScheduled", "status": "True"}
    return {"metadata": {"name": f"p-{index}", "labels": labels}, "status": {"conditions": [scheduled], **status}}


def reports_of(place: KubernetesPlace, are_enough: Any) -> list[Report]:
    found: list[Report] = []
    until = time.monotonic() + 30
    while not are_enough(found):
        assert time.monotonic() < until, found
        found += place.collect(0.1)
    return found


def ends(place: KubernetesPlace, count: int) -> list[tuple[str, str, bool]]:
    """Return run, reason and whether others deleted it, of so many units, in the order of their ends."""
    found = reports_of(place, lambda all_: sum(isinstance(report, Terminated) for report in all_) >= count)
    return [(str(end.run), str(end.reason), end.deleted) for end in found if isinstance(end, Terminated)]


def test_a_grid_beyond_what_one_job_holds_is_several(place: KubernetesPlace) -> None:
    left, sizes = 100_001, []
    while left:
        sizes.append(reserved(place, left).units)
        left -= sizes[-1]

    assert sizes == [10_000] * 10 + [1]


def test_a_job_counts_the_failures_of_its_grid(place: KubernetesPlace, requests: CountedRequests) -> None:
    started(place, 3, failures=2)

    [wanted] = requests.created
    spec = execution(wanted, "bundle")["spec"]
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (0, 1)


def test_units_that_a_job_gave_up_are_no_failures(place: KubernetesPlace, requests: CountedRequests) -> None:
    name = started(place, 3, failures=1)
    requests.status = GIVES_UP
    place._inbox.put(PodSeen(pod(name, 1, {}), is_deleted=True))
    place._inbox.put(PodSeen(pod(name, 0, FAILED)))

    assert ends(place, 3) == [("run-0", "error", False), ("run-1", "preempted", False), ("run-2", "preempted", False)]


@pytest.mark.parametrize("status", [{}, None])
def test_a_pod_that_others_deleted_is_lost_all_the_same(
    place: KubernetesPlace, requests: CountedRequests, status: dict[str, Any] | None
) -> None:
    name = started(place, 2, failures=1)
    requests.status = status
    place._inbox.put(PodSeen(pod(name, 0, {}), is_deleted=True))

    assert ends(place, 1) == [("run-0", "lost", True)]


def test_a_secret_that_somebody_deleted_is_waited_for_with_words_and_then_ends_the_run(
    place: KubernetesPlace, requests: CountedRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place._ASK_WHY", 0.0)
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", {**LIMITS, "mount": 1.5})
    name = started(place, 1)
    requests.mounting = f'MountVolume.SetUp failed for volume "task" : secret "{name}" not found'

    place._inbox.put(PodSeen(pod(name, 0, STARTS)))
    found = reports_of(place, lambda all_: any(isinstance(report, Terminated) for report in all_))

    said = [report.message for report in found if isinstance(report, StatusChanged)]
    assert said[0] == "its container to be created"
    assert "not found; that one holds its task, and was deleted by somebody else" in str(said[1])
    assert isinstance(found[-1], Terminated) and found[-1].reason is Reason.ERROR
    assert "waited 1.5 s for what its pod mounts" in found[-1].message
