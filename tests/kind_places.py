"""Each kind at each place, and the cases of mlfn.testing.kind_place that it does not pass."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import mlfn
from mlfn.testing.kind_place import Mark, Pair, never, notimpl
from tests.chaos.process import ProcessEngine
from tests.cluster.api import Namespace

FAILPOINTS = {
    "killed_between_record_and_create": "store.Claimed.committed",
    "killed_between_create_and_first_status": "store.Started.before",
    "killed_before_recording_the_end": "store.Finished.before",
}

ON_THE_SAME_DISK = never("A result of any size is a file on the disk that both sides share.")
ONE_RANK = never("A job has one rank.")
NOTHING_PREEMPTS = never("Nothing preempts a process of this machine.")
NEVER_CUT_OFF = never("A machine is not cut off from itself.")


class JobOnLocal(Pair):
    """A job in a worker process of this machine."""

    failpoints = FAILPOINTS
    deleted = "SIGTERM"
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "result_too_large_names_size_and_way_out": ON_THE_SAME_DISK,
        "waits_as_pending_with_words": notimpl("A run that waits does not say what it waits for."),
        "log_of_each_rank": ONE_RANK,
        "timeout_holds_without_a_client": notimpl("The client keeps the time limit of a local run."),
        "preempted_uses_no_budget": NOTHING_PREEMPTS,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
        "unreachable_place_concludes_nothing": NEVER_CUT_OFF,
        "exit_leaves_what_outlives_it": never("The exit waits for runs on this machine."),
        "grid_is_one_object": never("Its objects are worker processes, which do one run at a time each."),
    }

    def delete(self, run: mlfn.Run[Any]) -> None:
        """Send SIGTERM to its process."""
        [pid] = {note.pid for note in self.notes("start") if note.run == run.id}
        os.kill(pid, signal.SIGTERM)

    def replay_journals(self) -> None:
        """Set the cursors back, up to which journals were read."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE executions SET cursor = '0'").rowcount > 0


class JobOnChaos(Pair):
    """A job at an engine of real processes, on the way to which a seed makes calls and reports suffer."""

    on = "chaos"
    place_options: ClassVar[Mapping[str, Any]] = {"seed": 7}
    failpoints = FAILPOINTS
    waits_for = "room"
    limit = 4.0  # seconds of the unit, which takes some of them to start
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "result_too_large_names_size_and_way_out": ON_THE_SAME_DISK,
        "log_of_each_rank": ONE_RANK,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
    }

    def engine(self) -> ProcessEngine:
        """Return its engine."""
        return ProcessEngine(self.data / "engine", room=2)

    def count_objects(self, sweep: mlfn.Run[Any]) -> int:
        """Return how many objects it has had."""
        return len(self.engine().created())

    def preempt(self, run: mlfn.Run[Any]) -> None:
        """Evict its unit."""
        [(name, index)] = self.engine().holding(run.id)
        self.engine().end(name, index, "evicted")

    def delete(self, run: mlfn.Run[Any]) -> None:
        """Delete its object."""
        [(name, _)] = self.engine().holding(run.id)
        self.engine().delete(name)

    def replay_journals(self) -> None:
        """Set the numbers of lines back, up to which journals are recorded."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE runs SET acknowledged = 0").rowcount > 0

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Have the engine give no answer."""
        cut_off = self.engine().cut_off
        cut_off.touch()
        yield
        cut_off.unlink()


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


NOTHING_WAITS = never("Nothing waits: `submit` runs it at once.")
OUTPUT_OF_THE_CALLER = never("What it prints goes to the caller's own stdout and stderr.")
THREAD_OF_THE_CALLER = never("The caller's own thread runs it, which only ctrl-C interrupts.")
PROCESS_OF_THE_CALLER = never("It ends with the caller's process.")


class JobInline(Pair):
    """A job in the caller's own thread."""

    on = "inline"
    in_caller = True
    unmet: ClassVar[Mapping[str, Any]] = {"requirements": ["mlfn-no-such-package"]}
    failpoints = FAILPOINTS
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "result_too_large_names_size_and_way_out": ON_THE_SAME_DISK,
        "waits_as_pending_with_words": NOTHING_WAITS,
        "log_followed_live_equals_log_after": OUTPUT_OF_THE_CALLER,
        "parallel_logs_never_mix": OUTPUT_OF_THE_CALLER,
        "log_of_each_rank": ONE_RANK,
        "cancel_pending_starts_nothing": NOTHING_WAITS,
        "cancel_running_is_confirmed_after_finally": THREAD_OF_THE_CALLER,
        "ignored_sigterm_is_killed_after_grace": THREAD_OF_THE_CALLER,
        "timeout_has_its_words": THREAD_OF_THE_CALLER,
        "timeout_holds_without_a_client": PROCESS_OF_THE_CALLER,
        "exit_signal_oom_each_has_its_reason": PROCESS_OF_THE_CALLER,
        "preempted_uses_no_budget": NOTHING_PREEMPTS,
        "python_skew_names_both_sides": never("The caller's own Python runs it."),
        "deleted_by_others_is_named": PROCESS_OF_THE_CALLER,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
        "killed_between_record_and_create": PROCESS_OF_THE_CALLER,
        "killed_between_create_and_first_status": PROCESS_OF_THE_CALLER,
        "killed_before_recording_the_end": PROCESS_OF_THE_CALLER,
        "hour_away_loses_nothing": PROCESS_OF_THE_CALLER,
        "other_process_cancels": THREAD_OF_THE_CALLER,
        "unreachable_place_concludes_nothing": NEVER_CUT_OFF,
        "replayed_journal_changes_nothing": never("It writes no journal: its reports go into the store at once."),
        "exit_leaves_what_outlives_it": PROCESS_OF_THE_CALLER,
        "grid_is_one_object": never("Its runs are calls in the caller's process, and no objects."),
        "stopping_one_unit_leaves_others": never("Its children run one after the other, in the caller's own thread."),
    }
