"""The whole suite of kind x place on a real cluster."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, ClassVar

import mlfn
from mlfn.testing.kind_place import KindPlaceContract, Mark, Pair, never
from tests.cluster.api import Namespace
from tests.kind_places import FAILPOINTS, ONE_RANK


class JobOnKubernetes(Pair):
    """A job as a pod."""

    on = "kubernetes"
    failpoints = FAILPOINTS
    patience = 60.0
    limit = 1.0
    waits_for = "quota"
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}
    too_large = 12 << 20
    namespace: ClassVar[Namespace]
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "log_of_each_rank": ONE_RANK,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
        "pruned_child_is_pruned": never(
            "A pod gets no answer to a point: it is stopped, and this handler has ended before."
        ),
        "unmet_option_refused_by_name": never("Every option of a function means something to a cluster."),
    }

    @classmethod
    def setup_class(cls) -> None:
        cls.namespace = Namespace()

    @classmethod
    def teardown_class(cls) -> None:
        cls.namespace.close()

    def make_shared(self, folder: Path) -> Path:
        """Have each pod see the folder under its own path."""
        shared = super().make_shared(folder)
        shared.chmod(0o777)
        mount = {"name": "shared", "mountPath": str(shared)}
        volume = {"name": "shared", "hostPath": {"path": str(shared)}}
        pod = {"containers": [{"name": "main", "volumeMounts": [mount]}], "volumes": [volume]}
        self.place_options = {"pod": pod}  # type: ignore[misc]
        return shared

    def _environ(self) -> dict[str, str]:
        return {**super()._environ(), "KUBECONFIG": str(self.namespace.write_kubeconfig(self.root / "kubeconfig"))}

    def teardown_method(self) -> None:
        super().teardown_method()
        self.namespace.clear()

    def give_secret(self, name: str, value: str) -> None:
        """Create it in the cluster alone."""
        self.namespace.make_secret(name.lower().replace("_", "-"), value=value)

    def count_objects(self, sweep: mlfn.Run[Any]) -> int:
        """Return how many Jobs it has had."""
        return len({attempt.execution for child in sweep.children for attempt in child.attempts})

    def remove_objects(self) -> None:
        """Delete what is left."""
        self.namespace.clear()

    def preempt(self, run: mlfn.Run[Any]) -> None:
        """Evict its pod."""
        pod = self._pod(run)
        path = f"{self.namespace.path('pods')}/{pod}/eviction"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace.name},
        }
        self.namespace.api.post(path, body)

    def delete(self, run: mlfn.Run[Any]) -> None:
        """Delete its Job."""
        execution = run.attempts[-1].execution
        self.namespace.api.delete(f"{self.namespace.path('jobs')}/{execution}", {"propagationPolicy": "Background"})

    def _pod(self, run: mlfn.Run[Any]) -> str:
        attempt = run.attempts[-1]
        return self.namespace.pod_of(str(attempt.execution), attempt.unit or 0)

    def replay_journals(self) -> None:
        """Set the numbers of lines back, up to which journals are recorded."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE runs SET acknowledged = 0").rowcount > 0

    def unreachable(self) -> AbstractContextManager[None]:
        """Break the way to the API server."""
        return self.namespace.forwarder.cut()

    def accept(self, plan: str) -> None:
        """Have the API server check each object without creating it."""
        import yaml

        kinds = {"Job": "jobs", "Secret": "secrets", "ConfigMap": "configmaps"}
        objects = [item for item in yaml.safe_load_all(plan) if item]
        assert {item["kind"] for item in objects} >= {"Job", "Secret"}
        for item in objects:
            item["metadata"]["namespace"] = self.namespace.name
            self.namespace.api.post(self.namespace.path(kinds[item["kind"]]), item, dryRun="All")


class TestJobOnKubernetes(JobOnKubernetes, KindPlaceContract):
    def test_waits_as_pending_with_words(self) -> None:
        with self.namespace.quota(pods=str(self.width)):
            super().test_waits_as_pending_with_words()

    def test_cancel_pending_starts_nothing(self) -> None:
        with self.namespace.quota(pods=str(self.width)):
            super().test_cancel_pending_starts_nothing()
