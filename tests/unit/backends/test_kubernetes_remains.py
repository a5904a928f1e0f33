"""What is found in a namespace for garbage collection; the answers of an API server are written here."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mlfn.backends.places.kubernetes.bundle import worker_bundle
from mlfn.backends.places.kubernetes.connection import ApiError, UnreachableError
from mlfn.backends.places.kubernetes.objects import BUNDLE, EXECUTION, HOME, bundle_name
from mlfn.backends.places.kubernetes.remains import remains_in
from mlfn.errors import PlaceError


class Answers:
    """An API server with some objects, one a page; it has none of the operators."""

    host = "https://here"

    def __init__(self, **items: list[dict[str, Any]]) -> None:
        self._items = items

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        kind = path.rpartition("/")[2]
        if kind not in self._items:
            raise ApiError(404, "", "404 page not found")
        at = int(query.get("continue", 0))
        found = self._items[kind]
        more = {"continue": str(at + 1)} if at + 1 < len(found) else {}
        return {"items": found[at : at + 1], "metadata": more}


def made(name: str, *, days: float = 0.0, spec: Any = None, **labels: str) -> dict[str, Any]:
    then = datetime.now(timezone.utc) - timedelta(days=days)
    created = then.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"name": name, "namespace": "ml", "creationTimestamp": created, "labels": labels}, "spec": spec}


def found(**items: list[dict[str, Any]]) -> list[Any]:
    return remains_in(Answers(**items), "ml")  # type: ignore[arg-type]


def test_executions_are_found_whoever_created_them() -> None:
    jobs = [made("a", **{EXECUTION: "a", HOME: "of-1"}), made("b", days=1, **{EXECUTION: "b"})]

    one, other = found(jobs=jobs, deployments=[], configmaps=[])

    assert (one.name, one.execution, one.home) == ("Job ml/a", "a", "of-1")
    assert one.age < 60 < 86_000 < other.age and other.home == ""
    assert one.handle == {"path": "/apis/batch/v1/namespaces/ml/jobs/a"}


@pytest.mark.parametrize(
    ("name", "days", "user", "goes"),
    [
        ("mlfn-worker-0.1-aa", 31, "", True),
        ("mlfn-worker-0.1-aa", 29, "", False),
        ("mlfn-worker-0.1-aa", 31, "jobs", False),
        ("mlfn-worker-0.1-aa", 31, "deployments", False),
        (bundle_name(worker_bundle()[0]), 31, "", False),
    ],
    ids=["old", "not old enough", "a Job uses it", "a service uses it", "this very version"],
)
def test_a_config_map_with_mlfn_goes_once_nothing_uses_it(name: str, days: float, user: str, goes: bool) -> None:
    users = {kind: [] for kind in ("jobs", "deployments")}
    if user:
        users[user] = [made("a", spec={"volumes": [{"configMap": {"name": name}}]}, **{EXECUTION: "a"})]  # type: ignore[list-item]

    there = found(**users, configmaps=[made(name, days=days, **{BUNDLE: "0.1"})])

    assert [item.name for item in there if item.execution is None] == [f"ConfigMap ml/{name}"] * goes


@pytest.mark.parametrize("error", [UnreachableError("refused"), ApiError(403, "Forbidden", "jobs is forbidden")])
def test_a_cluster_that_cannot_be_asked_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Answers, "get", refuse)

    with pytest.raises(PlaceError, match=r"'ml' at https://here cannot be listed: .*mlfn doctor --on kubernetes"):
        found()
