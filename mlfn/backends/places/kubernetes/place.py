"""Executions as Jobs: threads talk to the API server, and `collect` decides what is to be reported."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlfn.artifacts.home import home_of
from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.base import (
    Capabilities,
    EventsReceived,
    LogRequest,
    OneShot,
    PlaceConfig,
    Remains,
    Report,
    Slot,
    StatusChanged,
    StoredExecution,
    Terminated,
    Unavailable,
)
from mlfn.backends.places.inbox import Inbox
from mlfn.backends.places.kubernetes import objects
from mlfn.backends.places.kubernetes.bundle import worker_bundle
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.follower import Followed, Follower, open_log
from mlfn.backends.places.kubernetes.merging import merged
from mlfn.backends.places.kubernetes.messages import (
    Created,
    Deleted,
    Held,
    JobSeen,
    LogEnded,
    LogRead,
    Message,
    MountSeen,
    NotDone,
    OfExecution,
    PodSeen,
    PodsListed,
)
from mlfn.backends.places.kubernetes.objects import EXECUTION, JOB, ROLE, Resource, Wanted, resource_of
from mlfn.backends.places.kubernetes.requests import Requests, is_final, keep_secret, refusal, without_answer
from mlfn.backends.places.kubernetes.watch import PodWatch
from mlfn.backends.places.kubernetes.words import (
    LIMITS,
    RANKS,
    End,
    Waiting,
    explain,
    gives_up,
    has_begun,
    is_over,
    object_end,
    waiting_for,
    without_mount,
    without_operator,
    without_pod,
)
from mlfn.backends.places.threads import Threads
from mlfn.errors import OptionError
from mlfn.host.identity import new_id
from mlfn.settings import current as settings
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason, log_file
from mlfn.worker.pod.stream import StreamReader
from mlfn.worker.task import Task

logger = logging.getLogger(__name__)
_INDEX = "batch.kubernetes.io/job-completion-index"
_THREADS = 4
_LOOK = 1.0  # seconds between looks at what no message tells
_ASK, _ASK_AT_WORK = 3.0, 30.0  # seconds after which a Job is asked for units without a pod
_ASK_WHY = 5.0  # seconds after which it is asked why a pod's container is not created; again after six times that
_AGAIN = 1.0
_CLOSING = 5.0
_NOT_CREATED = ("creating", "mount", "volume")  # sorts of waiting of a pod that has a node, and no container
_UNSTARTED = ": it was stopped before it began."
_GIVEN_UP = End(Reason.PREEMPTED, ": its Job ended before it did, as too many others of its sweep had failed.")
_DELETED = ": its execution was deleted in the cluster, and not by mlfn."


@dataclass
class Unit:
    """One unit, as its place knows it."""

    run: str
    task: Task
    lines: int = 0  # of its journal, that are recorded
    pod: Mapping[str, Any] | None = None
    is_deleted: bool = False
    follower: Follower | None = None
    log_lines: int | None = None  # of its journal, once its log is read to the end
    words: str | None = None
    waits_since: tuple[str, float] = ("", 0.0)
    asked: float = 0.0  # when its pod was last asked what it cannot mount
    is_stopped: bool = False
    has_started: bool = False  # its function's process has said so
    has_ended: bool = False

    @property
    def is_unstarted(self) -> bool:
        """Whether it has no pod yet."""
        return self.pod is None and not self.has_ended

    @property
    def is_open(self) -> bool:
        """Whether its Job tells what becomes of it: it has no pod yet, or that was deleted."""
        return not self.has_ended and (self.pod is None or self.is_deleted)

    @property
    def is_at_work(self) -> bool:
        """Whether its pod is there, and not over."""
        return self.pod is not None and not self.has_ended and not self.is_deleted and not is_over(self.pod)


@dataclass
class Execution:
    """An execution, as its place knows it; units by their index."""

    name: str
    plan: Plan | None
    mark: str
    units: dict[int, Unit]
    parallel: int | None = None
    failures: int | None = None  # at how many of its units the Job itself ends the others
    resource: Resource = JOB
    is_created: bool = False
    missing: int = 0  # looks in succession at which there was no Job
    asked: float = 0.0  # when the Job was last asked for
    over_since: float | None = None  # nothing needs it any more
    is_deleting: bool = False
    held_at: float | None = None  # since when no other unit begins
    create_at: float | None = None  # when to try again
    since: float = field(default_factory=time.monotonic)

    def unit_of(self, run: str) -> Unit | None:
        """Return the unit that runs a run."""
        return next((unit for unit in self.units.values() if unit.run == run), None)


class KubernetesPlace(OneShot):
    """Pods of one namespace of one cluster."""

    OPTIONS = ("namespace", "context", "kubeconfig", "pod")
    CAPABILITIES = Capabilities(
        outlives_client=True,
        max_units=10_000,
        window="place",
        counts_failures=True,
        deadline="place",
        manifests=True,
    )

    @staticmethod
    def check(
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
        pod: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise OptionError for an option's value that does not fit."""
        texts = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
        for name, value in texts.items():
            if value is not None and (not isinstance(value, str) or not value):
                raise OptionError(f"on('kubernetes', {name}={value!r}): a text is allowed.")
        if pod is not None and not isinstance(pod, Mapping):
            raise OptionError(f"on('kubernetes', pod={pod!r}): a part of a pod's spec, as a mapping, is allowed.")
        merged({}, pod or {})

    @staticmethod
    def target(*, pod: Mapping[str, Any] | None = None, **reach: str | None) -> Mapping[str, Any]:
        """Return what to connect to; what belongs to a pod is the plan's."""
        return {name: value for name, value in reach.items() if value is not None}

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for what says the same field twice."""
        node = plan.node or {}
        if node.get("spot") in ("require", "prevent") and "nodeAffinity" in (node.get("affinity") or {}):
            raise OptionError(
                f"{plan.name} asks for mlfn.Node(spot={node['spot']!r}, affinity={{'nodeAffinity': ...}}), which both say "
                "affinity.nodeAffinity: leave one out, and name the labels of spot nodes in nodeAffinity yourself."
            )

    @staticmethod
    def keep_secret(name: str, value: str, *, key: str | None = None) -> None:
        """Keep a value in a Secret of the current context's namespace; its other keys stay."""
        connection = Connection()
        keep_secret(connection, connection.namespace, name, value, key=key)

    @staticmethod
    def diagnose() -> Iterator[tuple[str, str, str]]:
        """Yield what stands for and against runs in the current context's namespace."""
        from mlfn.backends.places.kubernetes.checks import checks

        return checks(Connection())

    @staticmethod
    def remains(*, namespace: str | None = None, **reach: str | None) -> Sequence[Remains]:
        """Return the executions of a namespace, and the ConfigMaps with mlfn that none of them needs."""
        from mlfn.backends.places.kubernetes.remains import remains_in

        connection = Connection(**reach)
        return remains_in(connection, namespace or connection.namespace)

    @staticmethod
    def remove(found: Remains, *, namespace: str | None = None, **reach: str | None) -> None:
        """Delete an object, with the pods and the Secret that it owns."""
        from mlfn.backends.places.kubernetes.remains import remove

        remove(Connection(**reach), found)

    @staticmethod
    def manifests(plan: Plan) -> list[dict[str, Any]]:
        """Return what would be created for one run, without the content of its Secret; the namespace is the context's."""
        namespace = plan.place.options.get("namespace") or "default"
        wanted = Wanted("mlfn-run", namespace, plan, "", settings.current().grace)
        bundle = objects.bundle_name(worker_bundle()[0])
        shown = [
            objects.execution(wanted, bundle),
            objects.secret(wanted, {}, b"", {}, owner=""),
            *(objects.companion(wanted, bundle, item) for item in objects.companions_of(plan)),
        ]
        if "namespace" not in plan.place.options:
            for item in shown:
                del item["metadata"]["namespace"]
        del shown[1]["metadata"]["ownerReferences"]
        shown[1]["data"] = {}
        return shown

    @staticmethod
    def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
        """Return False: only `attach` asks the cluster."""
        return False

    def __init__(
        self,
        config: PlaceConfig,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
    ) -> None:
        self._config = config
        self._namespace = namespace
        self._reach = {"context": context, "kubeconfig": kubeconfig}
        self._artifacts = ArtifactStore(**config.artifacts)
        self._inbox: Inbox[Message] = Inbox(self._take, self._look_at_all)
        self._executions: dict[str, Execution] = {}
        self._reserved: dict[str, tuple[Plan, str, int | None, int | None]] = {}
        self._pods: dict[
            str, dict[str, Mapping[str, Any]]
        ] = {}  # by execution and name: also those of executions not owned
        self._is_listed = False
        self._threads = Threads(_THREADS)
        self._requests: Requests | None = None
        self._watch: PodWatch | None = None

    # -- what the dispatcher asks for

    def warm(self) -> None:
        """Connect ahead of the first run."""
        with contextlib.suppress(Exception):  # raised again for the first run
            self._opened()

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return a new execution."""
        try:
            where = self._opened().where
        except Exception as error:  # noqa: BLE001 - no cluster, no permission to read the kubeconfig
            return Unavailable(error)
        name, mark = _new_name(), f"\x1e{secrets.token_hex(8)}:"
        self._reserved[name] = (plan, mark, parallel, failures)
        units = min(waiting, self.CAPABILITIES.max_units)
        resource = dict(vars(resource_of(plan)))
        handle = {**where, "mark": mark, "parallel": parallel, "failures": failures, "resource": resource}
        return Slot(name, handle, units, queued=True)

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Have a thread create it."""
        plan, mark, parallel, failures = self._reserved.pop(execution)
        units = {index: Unit(task.run, task) for index, task in enumerate(tasks)}
        self._executions[execution] = Execution(execution, plan, mark, units, parallel, failures, resource_of(plan))
        self._create(self._executions[execution])

    def attach(self, stored: StoredExecution) -> None:
        """Watch it from where its journals are recorded; delete it if no run needs it."""
        tasks = {task.run: task for task in stored.tasks}
        lines = stored.acknowledged
        units = {
            stored.units[run]: Unit(run, task, lines=lines.get(run, 0), has_started=lines.get(run, 0) > 0)
            for run, task in tasks.items()
        }
        handle = stored.handle
        resource = Resource(**handle.get("resource", {}))
        parallel, failures = handle["parallel"], handle.get("failures")
        execution = Execution(stored.execution, stored.plan, handle["mark"], units, parallel, failures, resource)
        where = self._opened().where
        if any(handle[name] != value for name, value in where.items()):
            # Nothing is known of it here: what is not there may run elsewhere.
            logger.warning(
                "run %s is left as it is: it runs at %s in namespace %s, and the kubeconfig names %s, %s; choose that by "
                "KUBECONFIG or on('kubernetes', context=...).",
                *(next(iter(tasks), stored.execution)[:8], handle["server"], handle["namespace"], *where.values()),
            )
            return
        self._executions[stored.execution] = execution
        if not units:
            execution.over_since = float("-inf")
            return
        if stored.cursor is None:
            self._create(execution)
            return
        execution.is_created = True
        for pod in self._pods.get(execution.name, {}).values():
            self._inbox.put(PodSeen(pod))

    def collect(self, timeout: float) -> Sequence[Report]:
        """Wait for messages of the threads, and return what they come to."""
        return self._inbox.collect(timeout, _LOOK)

    def wake(self) -> None:
        """Interrupt `collect`."""
        self._inbox.wake()

    def stop(self, execution: str, run: str) -> None:
        """Delete the pod of one unit, at once or when it is there."""
        found = self._executions.get(execution)
        unit = found.unit_of(run) if found is not None else None
        if found is not None and unit is not None and not unit.is_stopped:
            unit.is_stopped = True
            self._stop_unit(found, unit)

    def cleanup(self, execution: str) -> None:
        """Have it deleted once its units have ended; its end is reported after that."""
        if self._reserved.pop(execution, None) is not None:
            self._inbox.put(Deleted(execution))
        elif (found := self._executions.get(execution)) is not None and found.over_since is None:
            found.over_since = time.monotonic()
            self._inbox.look_soon()

    @staticmethod
    def read_log(wanted: LogRequest, offset: int) -> bytes:
        """Return a log out of the cluster from `offset` on."""
        reach = json.loads(wanted.target or "{}")
        reach.pop("namespace", None)
        connection, namespace = Connection(**reach), wanted.handle["namespace"]
        if connection.host != wanted.handle["server"]:
            return b""  # the kubeconfig names another cluster by now
        selector = f"{EXECUTION}={wanted.execution}"
        pods = connection.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
        own = [pod["metadata"] for pod in pods if _index_of(pod) == (wanted.unit or 0) and not _is_beside(pod)]
        name = next((metadata["name"] for metadata in own), None)
        if name is None:
            return b""
        reader, found = StreamReader(wanted.handle["mark"]), []
        with contextlib.suppress(ApiError):  # it has not begun
            for piece in open_log(connection, namespace, name, follow=False).pieces():
                found += [part for part in reader.feed(piece) if isinstance(part, bytes)]
        return b"".join(found)[offset:]

    def close(self) -> list[str]:
        """Return the executions that are deleted by now."""
        over = [execution for execution in self._executions.values() if execution.over_since is not None]
        for execution in over:
            if not execution.is_deleting:
                self._delete(execution)
        until = time.monotonic() + _CLOSING
        gone: list[str] = []
        while len(gone) < len(over) and time.monotonic() < until:
            message = self._inbox.next(until - time.monotonic())
            if isinstance(message, Deleted):
                gone.append(message.execution)
        self._end_threads()
        self._executions.clear()
        return gone

    def after_fork(self) -> None:
        """Forget the threads, which are the parent's."""
        self._watch = None

    def _end_threads(self) -> None:
        if self._watch is not None:
            self._watch.is_closed = True
        for execution in self._executions.values():
            for unit in execution.units.values():
                if unit.follower is not None:
                    unit.follower.is_closed = True
        self._threads.close()
        if self._requests is not None:
            self._requests.connection.close()

    # -- what threads do

    def _opened(self) -> Requests:
        """Return the requests of this place; connect, and begin to watch, at first use."""
        if self._requests is None:
            connection = Connection(**self._reach)
            self._requests = Requests(connection, self._namespace or connection.namespace, self._config)
            self._watch = PodWatch(connection, self._requests.namespace, self._inbox.put)
            self._watch.start()
        return self._requests

    def _in_thread(
        self, action: Callable[[Requests], Message | None], otherwise: Callable[[Exception], Message]
    ) -> None:
        """Do something in a thread, and tell what it returns; `otherwise` tells what it raised."""

        def run() -> None:
            try:
                message = action(requests)
            except Exception as error:  # noqa: BLE001 - told to the thread that decides
                message = otherwise(error)
            if message is not None:
                self._inbox.put(message)

        requests = self._opened()
        self._threads.do(run)

    def _create(self, execution: Execution) -> None:
        assert execution.plan is not None
        wanted = Wanted(
            execution.name,
            self._opened().namespace,
            execution.plan,
            execution.mark,
            self._config.grace,
            len(execution.units),
            execution.parallel,
            execution.failures,
            home_of(self._config.folder),
        )
        tasks = [execution.units[index].task for index in sorted(execution.units)]
        execution.since = time.monotonic()

        def create(requests: Requests) -> Message:
            requests.create(wanted, tasks)
            return Created(execution.name)

        self._in_thread(create, lambda error: Created(execution.name, error))

    def _delete(self, execution: Execution) -> None:
        execution.is_deleting = True

        def delete(requests: Requests) -> Message:
            requests.delete(execution.resource, execution.name)
            return Deleted(execution.name)

        self._in_thread(delete, lambda error: NotDone(execution.name, error))

    def _ask(self, execution: Execution) -> None:
        """Ask for a Job, and why it has no pod."""
        execution.asked = time.monotonic()
        deleted = frozenset(index for index, unit in execution.units.items() if unit.is_deleted and not unit.has_ended)

        def ask(requests: Requests) -> Message:
            job = requests.object(execution.resource, execution.name)
            words = None if job is None else requests.why_no_pod(execution.resource, execution.name)
            return JobSeen(execution.name, job, words, deleted)

        self._in_thread(ask, lambda error: NotDone(execution.name, error))

    def _ask_why(self, execution: Execution, index: int, unit: Unit) -> None:
        """Ask what the pod of a unit cannot mount."""
        assert unit.pod is not None
        unit.asked, name = time.monotonic(), unit.pod["metadata"]["name"]

        def ask(requests: Requests) -> Message:
            return MountSeen(execution.name, index, requests.why_not_mounted(name))

        self._in_thread(ask, lambda error: NotDone(execution.name, error))

    def _stop_unit(self, execution: Execution, unit: Unit) -> None:
        """Delete the pod of a unit; one without a pod is looked after by `_stop_unstarted`."""
        if unit.pod is None:
            self._inbox.look_soon()
            return
        name = unit.pod["metadata"]["name"]

        def stop(requests: Requests) -> None:
            requests.delete_pod(name)

        self._in_thread(stop, lambda error: NotDone(execution.name, error))

    def _hold(self, execution: Execution, parallel: int) -> None:
        """Let no other unit begin."""
        execution.held_at = float("inf")

        def hold(requests: Requests) -> Message:
            requests.hold(execution.name, parallel)
            return Held(execution.name)

        self._in_thread(hold, lambda error: NotDone(execution.name, error))

    # -- what messages come to

    def _take(self, message: Message) -> Iterator[Report]:
        if isinstance(message, PodSeen):
            yield from self._take_pod(message)
        elif isinstance(message, PodsListed):
            yield from self._take_list(message)
        elif (execution := self._executions.get(message.execution)) is not None:
            yield from self._take_of(execution, message)
        elif isinstance(message, Deleted):
            yield Terminated(message.execution, Reason.NEVER_STARTED, " was not started")

    def _take_of(self, execution: Execution, message: OfExecution) -> Iterator[Report]:
        if isinstance(message, LogRead):
            unit = execution.unit_of(message.events.run or "")
            if unit is not None and any(event["event"] == "started" for event in message.events.events):
                unit.has_started = True
            yield message.events
        elif isinstance(message, LogEnded):
            execution.units[message.index].log_lines = message.lines
            yield from self._conclude(execution, execution.units[message.index])
        elif isinstance(message, Created):
            yield from self._take_created(execution, message.error)
        elif isinstance(message, JobSeen):
            yield from self._take_job(execution, message)
        elif isinstance(message, MountSeen):
            unit = execution.units[message.index]
            if message.words is not None and unit.waits_since[0] in _NOT_CREATED:
                yield from self._wait(execution, unit, without_mount(message.words, execution.name))
        elif isinstance(message, Deleted):
            yield from self._take_deleted(execution)
        elif isinstance(message, Held):
            execution.held_at = time.monotonic()
        else:
            execution.is_deleting, execution.held_at = False, None  # another look tries again

    def _take_created(self, execution: Execution, error: Exception | None) -> Iterator[Report]:
        if error is None:
            execution.is_created = True
            execution.since = time.monotonic()
            yield EventsReceived(execution.name, (), cursor="seen")
            for unit in execution.units.values():
                if unit.is_stopped:
                    self._stop_unit(execution, unit)
            return
        if isinstance(error, UnreachableError) or (isinstance(error, ApiError) and not is_final(error)):
            execution.create_at = time.monotonic() + _AGAIN
            words = without_answer(self._opened().where["server"], error)
            for unit in execution.units.values():
                yield StatusChanged(execution.name, unit.run, words)
            return
        reason, words = refusal(error)
        for unit in execution.units.values():
            unit.has_ended = True
            yield Terminated(execution.name, reason, words, never_began=True, run=unit.run)

    def _take_pod(self, seen: PodSeen) -> Iterator[Report]:
        metadata = seen.pod["metadata"]
        name = metadata["labels"][EXECUTION]
        known = self._pods.setdefault(name, {})
        if seen.is_deleted:
            known.pop(metadata["name"], None)
            if not known:
                del self._pods[name]
        else:
            known[metadata["name"]] = seen.pod
        if (execution := self._executions.get(name)) is not None:
            yield from self._note_pod(execution, seen.pod, is_deleted=seen.is_deleted)

    def _take_list(self, listed: PodsListed) -> Iterator[Report]:
        """Take pods that are not listed any more as deleted."""
        self._is_listed = True
        gone = [pod for pods in self._pods.values() for name, pod in pods.items() if name not in listed.names]
        for pod in gone:
            yield from self._take_pod(PodSeen(pod, is_deleted=True))

    def _note_pod(self, execution: Execution, pod: Mapping[str, Any], *, is_deleted: bool) -> Iterator[Report]:
        unit = execution.units.get(_index_of(pod))
        if unit is None or unit.has_ended:
            return
        if _is_beside(pod):
            yield from self._note_pod_beside(execution, unit, pod, is_deleted=is_deleted)
            return
        unit.pod, unit.is_deleted = pod, unit.is_deleted or is_deleted
        # A pod alone is none of that: its client may have died before it created the Secret, without which no container begins.
        if not execution.is_created and (has_begun(pod) or is_over(pod)):
            execution.is_created = True
            yield EventsReceived(execution.name, (), cursor="seen")
        if unit.is_stopped and not is_deleted and "deletionTimestamp" not in pod["metadata"]:
            self._stop_unit(execution, unit)
        waiting = None if is_over(pod) else waiting_for(pod)
        if waiting is not None and not is_deleted:
            if not (waiting.sort == "creating" and unit.waits_since[0] in _NOT_CREATED):
                yield from self._wait(execution, unit, waiting)
            return
        if unit.follower is None and has_begun(pod):
            unit.waits_since = ("", 0.0)
            self._follow(execution, unit)
        yield from self._conclude(execution, unit)

    def _note_pod_beside(
        self, execution: Execution, unit: Unit, pod: Mapping[str, Any], *, is_deleted: bool
    ) -> Iterator[Report]:
        """Say what a pod waits for that the run waits for; one that ends before the main one is there ends the unit."""
        main = unit.pod
        if unit.has_started or is_deleted or execution.over_since is not None:
            return
        if main is not None and (is_over(main) or waiting_for(main) is not None):
            return  # that says what is the matter
        if not is_over(pod):
            waiting = waiting_for(pod) or self._waiting_beside(execution)
            if waiting is not None:
                yield from self._wait(execution, unit, replace(waiting, sort=RANKS.get(waiting.sort, waiting.sort)))
            elif main is not None and unit.words is not None:
                unit.words, unit.waits_since = None, ("", 0.0)
                yield StatusChanged(execution.name, unit.run, None)
            return
        if main is not None:
            return  # what has made it makes another one
        assert execution.plan is not None
        unit.has_ended = True
        end = explain(execution.plan, pod, is_deleted=False)
        yield Terminated(
            execution.name, end.reason, end.message, end.exit_code, end.signal, never_began=True, run=unit.run
        )

    def _waiting_beside(self, execution: Execution) -> Waiting | None:
        """Return what another pod beside the main one waits for."""
        pods = self._pods.get(execution.name, {}).values()
        found = (waiting_for(pod) for pod in pods if _is_beside(pod) and not is_over(pod))
        return next((waiting for waiting in found if waiting is not None), None)

    def _wait(self, execution: Execution, unit: Unit, waiting: Waiting) -> Iterator[Report]:
        if unit.words != waiting.words:
            unit.words = waiting.words
            yield StatusChanged(execution.name, unit.run, waiting.words)
        if unit.waits_since[0] != waiting.sort:
            unit.waits_since = (waiting.sort, time.monotonic())

    def _follow(self, execution: Execution, unit: Unit) -> None:
        assert unit.pod is not None and self._requests is not None
        followed = Followed(
            execution.name,
            _index_of(unit.pod),
            unit.run,
            self._requests.namespace,
            unit.pod["metadata"]["name"],
            execution.mark,
            Path(log_file(self._config.folder, unit.run, unit.task.attempt)),
            unit.lines,
        )
        unit.follower = Follower(self._requests.connection, followed, self._artifacts, self._inbox.put)
        unit.follower.start()

    def _conclude(self, execution: Execution, unit: Unit, job: Mapping[str, Any] | None = None) -> Iterator[Report]:
        """Report the end of a unit, once its pod is over and its log is read; `job` was asked for after its pod was deleted."""
        pod = unit.pod
        if unit.has_ended or pod is None or not (unit.is_deleted or is_over(pod)):
            return
        if unit.follower is not None and unit.log_lines is None:
            return
        assert execution.plan is not None
        end = explain(execution.plan, pod, is_deleted=unit.is_deleted)
        if end.deleted and execution.failures is not None and job is None:
            if unit.is_deleted:
                self._ask(execution)  # its Job may have deleted it
            return
        if end.deleted and job is not None and gives_up(job):
            end = _GIVEN_UP
        unit.has_ended = True
        yield Terminated(
            execution.name,
            end.reason,
            end.message,
            end.exit_code,
            end.signal,
            deleted=end.deleted,
            run=unit.run,
            lines=unit.log_lines,
        )

    def _take_job(self, execution: Execution, seen: JobSeen) -> Iterator[Report]:
        """Conclude at the second look that a Job is gone; say why it has no pod."""
        yield from self._take_deleted_pods(execution, seen)
        if seen.job is None:
            execution.missing += 1
            if execution.missing >= 2 and not execution.is_deleting:
                for unit in execution.units.values():
                    if not unit.has_ended and unit.follower is None:
                        unit.has_ended = True
                        yield Terminated(execution.name, Reason.LOST, _DELETED, deleted=True, run=unit.run)
            return
        execution.missing = 0
        end = self._end_without_pod(execution, seen.job)
        age = time.monotonic() - execution.since
        waiting = without_pod(seen.words) if seen.words else without_operator(seen.job, age)
        for unit in execution.units.values():
            if unit.pod is not None or unit.has_ended:
                continue
            if end is not None:
                unit.has_ended = True
                yield Terminated(
                    execution.name,
                    end.reason,
                    end.message,
                    deleted=end.deleted,
                    never_began=not end.deleted,
                    run=unit.run,
                )
            elif waiting is not None:
                yield from self._wait(execution, unit, waiting)

    def _end_without_pod(self, execution: Execution, job: Mapping[str, Any]) -> End | None:
        """Return how units without a pod ended, if they have."""
        if not gives_up(job):
            return object_end(job)
        return _GIVEN_UP if self._is_all_read(execution) else None

    def _take_deleted_pods(self, execution: Execution, seen: JobSeen) -> Iterator[Report]:
        """Report the ends of units whose pods were deleted, now that it is known whether their Job has done that."""
        job = seen.job or {}
        if not gives_up(job) or self._is_all_read(execution):
            for index in sorted(seen.deleted):
                yield from self._conclude(execution, execution.units[index], job)

    def _is_all_read(self, execution: Execution) -> bool:
        """Return whether each end of a unit is reported that came by itself: how many failed decides what becomes of the others."""
        over = (unit.pod for unit in execution.units.values() if not unit.has_ended and not unit.is_deleted)
        return self._is_listed and not any(pod is not None and is_over(pod) for pod in over)

    def _take_deleted(self, execution: Execution) -> Iterator[Report]:
        if execution.over_since is not None:
            del self._executions[execution.name]
            yield Terminated(execution.name, Reason.LOST, _DELETED, deleted=True)
            return
        for unit in execution.units.values():  # all of it was to stop
            if unit.pod is None and not unit.has_ended:
                unit.has_ended = True
                yield Terminated(execution.name, Reason.PREEMPTED, _UNSTARTED, run=unit.run)

    def _look_at_all(self) -> Iterator[Report]:
        for execution in list(self._executions.values()):
            yield from self._look(execution)

    def _look(self, execution: Execution) -> Iterator[Report]:
        """Do what no message asks for: try again, ask for a Job without pods, end what has waited too long."""
        now = time.monotonic()
        if execution.over_since is not None:
            is_at_work = any(
                unit.pod is not None and not is_over(unit.pod) and not unit.is_deleted
                for unit in execution.units.values()
            )
            if not execution.is_deleting and not (is_at_work and now < execution.over_since + self._config.grace):
                self._delete(execution)
            return
        if execution.create_at is not None and now >= execution.create_at:
            execution.create_at = None
            self._create(execution)
        if execution.is_created:
            yield from self._stop_unstarted(execution, now)
            every = _ASK if not any(unit.is_at_work for unit in execution.units.values()) else _ASK_AT_WORK
            if (
                any(unit.is_open for unit in execution.units.values())
                and now > max(execution.since, execution.asked) + every
            ):
                self._ask(execution)
        for index, unit in execution.units.items():
            if unit.is_stopped and unit.is_at_work:
                self._stop_unit(execution, unit)  # again, as the first time may have failed
            if unit.waits_since[0] and not unit.has_ended and not unit.has_started:
                yield from self._look_at_waiting(execution, index, unit, now)

    def _look_at_waiting(self, execution: Execution, index: int, unit: Unit, now: float) -> Iterator[Report]:
        """End a unit that has waited too long; ask why the container of a pod is not created."""
        sort, since = unit.waits_since
        if now > since + LIMITS[sort]:
            unit.has_ended = True
            self._stop_unit(execution, unit)
            yield Terminated(
                execution.name, Reason.ERROR, f" waited {LIMITS[sort]:g} s for {unit.words}.", run=unit.run
            )
        elif sort in _NOT_CREATED and unit.is_at_work and now > max(since + _ASK_WHY, unit.asked + 6 * _ASK_WHY):
            self._ask_why(execution, index, unit)

    def _stop_unstarted(self, execution: Execution, now: float) -> Iterator[Report]:
        """Where all units without a pod are to stop, see to it that none of them gets one, and report their ends."""
        unstarted = [unit for unit in execution.units.values() if unit.is_unstarted]
        if not unstarted or not all(unit.is_stopped for unit in unstarted) or execution.is_deleting:
            return
        at_work = sum(not unit.has_ended for unit in execution.units.values()) - len(unstarted)
        if not at_work:
            self._delete(execution)
        elif execution.held_at is None:
            self._hold(execution, at_work)
        elif now > execution.held_at + _LOOK:  # a pod that was being made then is seen by now
            for unit in unstarted:
                unit.has_ended = True
                yield Terminated(execution.name, Reason.PREEMPTED, _UNSTARTED, run=unit.run)


def _new_name() -> str:
    """Return a new id that begins with a letter, as the names of Services and of what operators make have to."""
    first, rest = (found := new_id())[0], found[1:]
    return f"{first if first.isalpha() else 'abcdef'[int(first) % 6]}{rest}"


def _is_beside(pod: Mapping[str, Any]) -> bool:
    return ROLE in pod["metadata"]["labels"]


def _index_of(pod: Mapping[str, Any]) -> int:
    return int(pod["metadata"]["labels"].get(_INDEX, 0))
