"""Each kind at each place, and the cases of mlfn.testing.kind_place that it does not pass."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import mlfn
from mlfn.testing.kind_place import Mark, Pair, never
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


ONE_DRIVER = never("An application has one driver.")
SPARK_HANDLERS = """
from __future__ import annotations
from typing import TYPE_CHECKING
import mlfn

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

@mlfn.function
def injected(spark: SparkSession, n: int) -> tuple[str, int]:
    assert spark.range(n).count() == n
    return type(spark).__name__, n
"""


# What none does on this machine, whatever its kind.
ON_LOCAL: Mapping[str, Mark] = {
    "result_too_large_names_size_and_way_out": ON_THE_SAME_DISK,
    "preempted_uses_no_budget": NOTHING_PREEMPTS,
    "unreachable_place_concludes_nothing": NEVER_CUT_OFF,
    "exit_leaves_what_outlives_it": never("The exit waits for runs on this machine."),
    "grid_is_one_object": never("Its objects are worker processes, which do one run at a time each."),
}


class Local:
    """What the pairs of this machine have in common."""

    failpoints = FAILPOINTS
    deleted = "SIGTERM"
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}

    def delete(self, run: mlfn.Run[Any]) -> None:
        """Send SIGTERM to its process."""
        [pid] = {note.pid for note in self.notes("start") if note.run == run.id}
        os.kill(pid, signal.SIGTERM)

    def replay_journals(self) -> None:
        """Set the cursors back, up to which journals were read."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE executions SET cursor = '0'").rowcount > 0


class JobOnLocal(Local, Pair):
    """A job in a worker process of this machine."""

    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        **ON_LOCAL,
        "log_of_each_rank": ONE_RANK,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
    }


def injecting_session(pair: Pair) -> tuple[mlfn.Function[..., Any, Any], str]:
    """Return a function of Spark's session at a pair."""
    sys.modules.pop("spark_handlers", None)
    (pair.work / "spark_handlers.py").write_text(SPARK_HANDLERS)
    injected = importlib.import_module("spark_handlers").injected
    return injected.with_options(kind=pair.kind, **pair.options).on(pair.on, **pair.place_options), "SparkSession"


class SparkOnLocal(JobOnLocal):
    """A Spark application of its own for each run, on this machine."""

    kind: Any = mlfn.Spark(
        executors=1,
        conf={
            # Half the processor's time until a session is there: what runs is too short for Java's second compiler.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.ui.enabled": False,
        },
    )
    patience = 90.0
    limit = 20.0  # seconds of the run, of which Spark takes some to start
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        **JobOnLocal.EXPECTED,
        "log_of_each_rank": ONE_DRIVER,
        "one_rank_fails_all_with_its_traceback": ONE_DRIVER,
        "grid_is_one_object": never("Each child is an application."),
    }

    def injecting(self) -> tuple[mlfn.Function[..., Any, Any], str]:
        """Return a function of a session."""
        return injecting_session(self)


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
    limit = 1.0
    waits_for = "quota"
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}
    too_large = 12 << 20
    plural = "jobs"
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
        """Delete its object."""
        execution = run.attempts[-1].execution
        path = f"{self.namespace.path(self.plural)}/{execution}"
        self.namespace.api.delete(path, {"propagationPolicy": "Background"})

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

        objects = [item for item in yaml.safe_load_all(plan) if item]
        kinds = [f"{item['kind'].lower()}s" for item in objects]
        assert set(kinds) >= {self.plural, "secrets"}
        for kind, item in zip(kinds, objects, strict=True):
            item["metadata"]["namespace"] = self.namespace.name
            self.namespace.api.post(self.namespace.path(kind), item, dryRun="All")


class NuclioOnKubernetes(JobOnKubernetes):
    """A run that a deployed service of a cluster executes."""

    kind = mlfn.Nuclio(workers=2)
    options: ClassVar[Mapping[str, Any]] = {"image": "mlfn.test/service:1"}
    patience = 90.0  # the first run of each case deploys
    waits_for = "worker"
    plural = "deployments"
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "log_of_each_rank": ONE_RANK,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
        "grid_is_one_object": never("Each of its runs is a call of the service."),
        "unmet_option_refused_by_name": never("Every option of a function means something to a cluster."),
    }

    def delete(self, run: mlfn.Run[Any]) -> None:
        """Delete the pod that executes it."""
        path = f"{self.namespace.path('pods')}/{self._pod(run)}"
        self.namespace.api.delete(path, {"gracePeriodSeconds": 0})

    def _pod(self, run: mlfn.Run[Any]) -> str:
        [pod] = self.namespace.items("pods")
        return str(pod["metadata"]["name"])

    def replay_journals(self) -> None:
        """Set the cursors back, up to which journals were read."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE executions SET cursor = '0'").rowcount > 0


THREAD_OF_A_WORKER = never(
    "It is a thread of a process that has other tasks too: no signal and no limit is for it alone."
)
ENDS_WITH_ITS_CLIENT = never("A task ends with its client: the run is tried again, and so runs twice.")


class DaskOnLocal(Pair):
    """A task of a Dask cluster that is started for it on this machine."""

    kind = "dask"
    failpoints = FAILPOINTS
    limit = 2.0
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "result_too_large_names_size_and_way_out": ON_THE_SAME_DISK,
        "log_of_each_rank": never("A task has one rank."),
        "ignored_sigterm_is_killed_after_grace": THREAD_OF_A_WORKER,
        "timeout_holds_without_a_client": ENDS_WITH_ITS_CLIENT,
        "exit_signal_oom_each_has_its_reason": THREAD_OF_A_WORKER,
        "one_rank_fails_all_with_its_traceback": never("A task has one rank."),
        "killed_between_create_and_first_status": ENDS_WITH_ITS_CLIENT,
        "killed_before_recording_the_end": ENDS_WITH_ITS_CLIENT,
        "hour_away_loses_nothing": ENDS_WITH_ITS_CLIENT,
        "unreachable_place_concludes_nothing": NEVER_CUT_OFF,
        "exit_leaves_what_outlives_it": ENDS_WITH_ITS_CLIENT,
    }

    def setup_method(self) -> None:
        """Have the case start a cluster of its own, whose workers are in its folder."""
        from mlfn.backends.places.dask.own import end_all

        end_all()
        super().setup_method()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill it once what has ended by now is reported, which a worker does by beats."""
        time.sleep(0.5)
        super().kill(process)

    def count_objects(self, sweep: mlfn.Run[Any]) -> int:
        """Return how many executions it has had."""
        return len({attempt.execution for child in sweep.children for attempt in child.attempts})

    @contextmanager
    def scheduler(self) -> Iterator[Any]:
        """Connect to the cluster of this case, as a colleague would."""
        from distributed import Client

        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection:
            [(handle,)] = connection.execute("SELECT handle FROM executions").fetchall()
        with Client(json.loads(handle)["scheduler"], set_as_default=False) as client:
            yield client

    def preempt(self, run: mlfn.Run[Any]) -> None:
        """Retire its worker."""
        with self.scheduler() as client:
            [worker] = [name for name, keys in client.processing().items() if keys]
            client.retire_workers([worker])

    def delete(self, run: mlfn.Run[Any]) -> None:
        """Cancel its task at the scheduler."""
        from distributed import Future

        with self.scheduler() as client:
            [key] = [key for keys in client.processing().values() for key in keys]
            client.cancel([Future(key, client)], force=True)

    def replay_journals(self) -> None:
        """Set the numbers of lines back, up to which journals are recorded."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE runs SET acknowledged = 0").rowcount > 0


class NuclioOnLocal(Pair):
    """A run that a deployed service of this machine executes."""

    kind = mlfn.Nuclio(workers=2)
    failpoints = FAILPOINTS
    patience = 90.0  # the first run of each case deploys
    unmet: ClassVar[Mapping[str, Any]] = {"gpus": 64}
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        "result_too_large_names_size_and_way_out": ON_THE_SAME_DISK,
        "log_of_each_rank": ONE_RANK,
        "preempted_uses_no_budget": NOTHING_PREEMPTS,
        "one_rank_fails_all_with_its_traceback": ONE_RANK,
        "unreachable_place_concludes_nothing": NEVER_CUT_OFF,
        "grid_is_one_object": never("Each of its runs is a call of the service."),
    }

    def teardown_method(self) -> None:
        for path in self.data.glob("services/*/*/service.json"):
            with suppress(ProcessLookupError):
                os.killpg(json.loads(path.read_bytes())["handle"]["process"]["pid"], signal.SIGKILL)
        super().teardown_method()

    def count_objects(self, sweep: mlfn.Run[Any]) -> int:
        """Return how many calls its service has had for it."""
        return len({attempt.execution for child in sweep.children for attempt in child.attempts})

    def delete(self, run: mlfn.Run[Any]) -> None:
        """End the service that executes it."""
        [service] = mlfn.services()
        os.killpg(service._record.handle["process"]["pid"], signal.SIGKILL)

    def replay_journals(self) -> None:
        """Set the cursors back, up to which journals were read."""
        with closing(sqlite3.connect(self.data / "mlfn.db")) as connection, connection:
            assert connection.execute("UPDATE executions SET cursor = '0'").rowcount > 0


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


class TwoRanks(Local):
    """What the pairs of two ranks on this machine have in common."""

    ranks = 2
    settings: ClassVar[Mapping[str, object]] = {"heartbeat": 0.2, "grace": 1, "max_workers": 4}


class MpiOnLocal(TwoRanks, Pair):
    """A function in two ranks of `mpirun`."""

    kind = mlfn.Mpi(replicas=2)
    limit = 3.0  # seconds, of which mpirun takes some to start
    EXPECTED: ClassVar[Mapping[str, Mark]] = ON_LOCAL


class HorovodOnLocal(TwoRanks, Pair):
    """A function in two ranks of Horovod, which find each other by Gloo."""

    kind = mlfn.Horovod(replicas=2)
    limit = 3.0  # seconds, of which the launcher takes some to start
    EXPECTED: ClassVar[Mapping[str, Mark]] = ON_LOCAL


class MpiOnKubernetes(JobOnKubernetes):
    """A function in two ranks of an MPIJob, each in a pod of its own."""

    kind = mlfn.Mpi(replicas=2)
    ranks = 2
    options: ClassVar[Mapping[str, Any]] = {"image": "mlfn.test/mpi:1"}
    plural = "mpijobs"
    patience = 120.0
    limit = 3.0
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        **{
            name: mark
            for name, mark in JobOnKubernetes.EXPECTED.items()
            if name not in ("log_of_each_rank", "one_rank_fails_all_with_its_traceback")
        },
        "grid_is_one_object": never("Each child is an MPIJob."),
    }


class DaskOnKubernetes(JobOnKubernetes):
    """A function in a pod beside a Dask cluster of its own."""

    kind: Any = mlfn.Dask(workers=1)
    options: ClassVar[Mapping[str, Any]] = {"image": "mlfn.test/dask:1"}
    plural = "daskjobs"
    patience = 240.0  # three pods a run, and several runs one after the other
    limit = 3.0
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        **JobOnKubernetes.EXPECTED,
        "log_of_each_rank": never("A cluster has one function."),
        "one_rank_fails_all_with_its_traceback": never("A cluster has one function."),
        "grid_is_one_object": never("Each child is a DaskJob."),
    }


NO_WAIT_FOR_QUOTA = never("The operator does not wait for quota: what it cannot submit has failed.")


class SparkOnKubernetes(JobOnKubernetes):
    """A function in the driver's pod of a Spark application."""

    kind: Any = mlfn.Spark(
        dynamic_allocation=(0, 1),  # most cases need none
        driver_memory="512m",
        executor_memory="512m",
        conf={
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.kubernetes.driver.request.cores": "50m",
            "spark.kubernetes.executor.request.cores": "50m",
            "spark.ui.enabled": False,
        },
    )
    options: ClassVar[Mapping[str, Any]] = {"image": "mlfn.test/spark:1"}
    plural = "sparkapplications"
    patience = 240.0  # a sweep is resumed as one application after the other
    limit = 20.0
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        **{name: mark for name, mark in JobOnKubernetes.EXPECTED.items() if name != "unmet_option_refused_by_name"},
        "log_of_each_rank": ONE_DRIVER,
        "one_rank_fails_all_with_its_traceback": ONE_DRIVER,
        "grid_is_one_object": never("Each child is an application."),
        "waits_as_pending_with_words": NO_WAIT_FOR_QUOTA,
        "cancel_pending_starts_nothing": NO_WAIT_FOR_QUOTA,
    }

    def injecting(self) -> tuple[mlfn.Function[..., Any, Any], str]:
        """Return a function of a session."""
        return injecting_session(self)

    @classmethod
    def setup_class(cls) -> None:
        super().setup_class()
        cls.namespace.permit_drivers()


class HorovodOnKubernetes(MpiOnKubernetes):
    """A function in two ranks of Horovod, each in a pod of its own."""

    kind = mlfn.Horovod(replicas=2)
    options: ClassVar[Mapping[str, Any]] = {"image": "mlfn.test/horovod:1"}
