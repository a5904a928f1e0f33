"""Runs that a service on a cluster executes: each is a call of one of its pods, which streams what the run leaves."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.hosts.base import ServiceRecord
from mlfn.backends.hosts.checks import refuse_other_version
from mlfn.backends.hosts.kubernetes.host import KubernetesHost
from mlfn.backends.hosts.run_files import RUNS_PATH, TOKEN_HEADER, internal_token
from mlfn.backends.kinds.nuclio.configuration import configuration
from mlfn.backends.kinds.nuclio.options import DASHBOARD, Nuclio
from mlfn.backends.places.base import (
    Capabilities,
    EventsReceived,
    OneShot,
    PlaceConfig,
    Report,
    Slot,
    StatusChanged,
    StoredExecution,
    Terminated,
    Unavailable,
)
from mlfn.backends.places.inbox import Inbox
from mlfn.backends.places.kubernetes.follower import LocalLog
from mlfn.backends.places.kubernetes.objects import Wanted
from mlfn.backends.places.kubernetes.place import KubernetesPlace
from mlfn.backends.places.kubernetes.staging import Staged
from mlfn.backends.places.kubernetes.words import out_of_memory
from mlfn.backends.places.local.exits import Exit, explain
from mlfn.errors import MlfnError, OptionError, ServiceError, SkewError, StorageError
from mlfn.host.identity import new_id
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason, log_file
from mlfn.worker.pod.folders import FOLDER
from mlfn.worker.pod.stream import Shipped, StreamReader
from mlfn.worker.task import Task

logger = logging.getLogger("mlfn")
_AGAIN = 0.5  # seconds until another try
_AGAIN_BUSY = 0.1
_LOOK = 1.0  # seconds between looks at the pods of runs at work
_IDLE = 60.0  # seconds without a byte of a stream, after which it is opened again
_MOST_QUEUED = 1000
_SURE = 2  # looks in succession at which no pod knows a run, until it counts as lost
_DELETED = ": the pod that executed it was deleted, and not by mlfn, and what it had not reported is gone with it."
_REASONS: Mapping[type, Reason] = {StorageError: Reason.STORAGE, SkewError: Reason.SKEW}
_UNSTARTED = ": it was stopped before it began."


@dataclass
class Call:
    """An execution as its place knows it, and the thread that is at it."""

    id: str
    plan: Plan
    task: Task
    mark: str
    cursor: str = ""
    observed: bool = False  # it is known to have begun
    sent: bool = False  # a pod was asked to begin it, and may have
    pod: str | None = None
    stopping: bool = False
    kill_at: float | None = None
    words: str | None = None
    why: tuple[Reason, str] | None = None  # its pod goes, as the cluster says
    closed: bool = False


class KubernetesServicesPlace(OneShot):
    """The services of one namespace of one cluster."""

    OPTIONS = ()
    CAPABILITIES = Capabilities(outlives_client=True, manifests=True)

    @staticmethod
    def target(
        *, namespace: str | None = None, context: str | None = None, kubeconfig: str | None = None, **_: Any
    ) -> Mapping[str, Any]:
        """Return what to connect to; the options of the kind and of pods are the plan's."""
        return KubernetesPlace.target(namespace=namespace, context=context, kubeconfig=kubeconfig)

    @staticmethod
    def check() -> None:
        """Take no option of its own."""

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for what a service on a cluster cannot have."""
        if not _is_nuclios(plan):
            KubernetesHost.check_plan(plan)
        KubernetesPlace.check_plan(plan)

    @staticmethod
    def manifests(plan: Plan) -> list[dict[str, Any]]:
        """Return what would be created for the service that executes runs."""
        kind = Nuclio(**plan.kind.options)
        return [configuration(kind, plan)] if _is_nuclios(plan) else KubernetesHost.manifests(plan)

    @staticmethod
    def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
        """Return False: only `attach` asks the cluster."""
        return False

    def __init__(self, config: PlaceConfig, **reach: str | None) -> None:
        self._config = config
        self._reach = reach
        self._artifacts = ArtifactStore(**config.artifacts)
        self._host: KubernetesHost | None = None
        self._plans: dict[str, tuple[Plan, str]] = {}
        self._calls: dict[str, Call] = {}
        self._pods: dict[
            str, tuple[str, str]
        ] = {}  # with the token that they know mlfn by: of executions that have ended, until they are cleaned up
        self._inbox: Inbox[Report] = Inbox(self._take_report)
        self._deploying = threading.Lock()
        self._ready: dict[str, ServiceRecord] = {}  # by function version
        self._watch: threading.Thread | None = None

    # -- what the dispatcher asks for
    def scale_to(self, parallel: int | None) -> int:
        """Return as many runs as are wanted: those without a worker wait for the service."""
        return parallel or self._config.max_workers

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return a new execution; whether its function is deployed is seen when it starts."""
        if len(self._calls) >= _MOST_QUEUED:
            return Unavailable()
        if _is_nuclios(plan):
            return Unavailable(
                OptionError(
                    f"{plan.name} is served by Nuclio (engine='dashboard'), which executes no runs on a cluster: call its service, as in "
                    f"mlfn.service({plan.name!r}, on='kubernetes')(...), or submit it without engine=."
                )
            )
        try:
            where = self._opened().where
        except Exception as error:  # noqa: BLE001 - no cluster, no permission to read the kubeconfig
            return Unavailable(error)
        execution, mark = new_id(), f"\x1e{secrets.token_hex(8)}:"
        self._plans[execution] = plan, mark
        return Slot(execution, {**where, "mark": mark, "project": plan.project, "name": plan.name}, queued=True)

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Have a thread call the service."""
        plan, mark = self._plans.pop(execution)
        self._begin(Call(execution, plan, tasks[0], mark))

    def attach(self, stored: StoredExecution) -> None:
        """Read an execution of a dead client on, or begin it where no pod knows of it and none was ever seen to."""
        where = self._opened().where
        if any(stored.handle[name] != value for name, value in where.items()):
            logger.warning(
                "run %s is left as it is: it runs at %s in namespace %s, and the kubeconfig names %s, %s; choose that by "
                "KUBECONFIG or on('kubernetes', context=...).",
                *(stored.execution[:8], stored.handle["server"], stored.handle["namespace"], *where.values()),
            )
            return
        if not stored.tasks or stored.plan is None:
            self._inbox.put(Terminated(stored.execution, Reason.LOST, _DELETED, deleted=True))
            return
        call = Call(
            stored.execution, stored.plan, stored.tasks[0], stored.handle["mark"], stored.cursor or "", sent=True
        )
        call.observed = stored.cursor is not None
        self._begin(call)

    def collect(self, timeout: float) -> Sequence[Report]:
        """Return what the threads have to say."""
        return self._inbox.collect(timeout)

    def _take_report(self, report: Report) -> Iterator[Report]:
        if isinstance(report, Terminated):
            call = self._calls.pop(report.execution, None)
            if call is not None and call.pod is not None:
                self._pods[report.execution] = call.pod, self._token(call.plan)
        yield report

    def wake(self) -> None:
        """Interrupt `collect`."""
        self._inbox.wake()

    def stop(self, execution: str, run: str) -> None:
        """Have the run cancelled in its pod; its process is killed when it has not ended after the grace time."""
        call = self._calls.get(execution)
        if call is not None and not call.stopping:
            call.kill_at = time.monotonic() + self._config.grace
            call.stopping = True
            threading.Thread(target=self._stop, args=(call,), name="mlfn-stop", daemon=True).start()

    def cleanup(self, execution: str) -> None:
        """Have its pod forget it."""
        if self._plans.pop(execution, None) is not None:
            self._inbox.put(Terminated(execution, Reason.NEVER_STARTED, " was not started"))
        elif (known := self._pods.pop(execution, None)) is not None:
            told = (*known, execution, "forget")
            threading.Thread(target=self._tell, args=told, name="mlfn-forget", daemon=True).start()

    def close(self) -> list[str]:
        """Stop reading; what the services execute goes on."""
        for call in self._calls.values():
            call.closed = True
        self._calls.clear()
        return []

    def after_fork(self) -> None:
        """Leave the threads, which are the parent's, alone."""
        self._host = None

    # -- in a thread
    def _begin(self, call: Call) -> None:
        self._calls[call.id] = call
        if self._watch is None or not self._watch.is_alive():
            self._watch = threading.Thread(target=self._watch_pods, name="mlfn-service-pods", daemon=True)
            self._watch.start()
        threading.Thread(target=self._work, args=(call,), name=f"mlfn-call-{call.task.run[:8]}", daemon=True).start()

    def _work(self, call: Call) -> None:
        """See one run through."""
        missing = 0
        while not call.closed:
            try:
                missing, ended = self._step(call, missing)
            except (OSError, http.client.HTTPException, ServiceError) as error:
                self._note_break(call, error)
                ended = None
                time.sleep(_AGAIN)
            except Exception as error:  # noqa: BLE001 - whatever it is, it fails the run
                reason = _REASONS.get(type(error), Reason.ERROR)
                words = f": {error}" if isinstance(error, MlfnError) else f" cannot be sent to its service: {error!r}"
                ended = Terminated(call.id, reason, words, never_began=True)
            if ended is not None and not call.closed:
                self._inbox.put(ended)
                return

    def _watch_pods(self) -> None:
        """Note which pods are taken away: once one is gone, the cluster no longer says why."""
        while calls := [call for call in list(self._calls.values()) if not call.closed]:
            with contextlib.suppress(ServiceError):
                going = self._opened().taken_away()
                for call in calls:
                    call.why = going.get(call.pod or "", call.why)
            time.sleep(_LOOK)

    def _note_break(self, call: Call, error: Exception) -> None:
        """Note what the cluster says of a pod whose stream has broken off, while it still has it; say what is waited for."""
        if not call.observed:
            self._say_waiting(call, f"an answer of the cluster: {error}")
            return
        with contextlib.suppress(ServiceError):
            call.why = self._opened().why_gone(call.plan, call.pod) or call.why

    def _step(self, call: Call, missing: int) -> tuple[int, Terminated | None]:
        """Find the run or begin it, and read it to its end; return how often it was not found, and its end."""
        if call.sent:
            found = self._found(call)
            if found is not None:
                return 0, self._read(call, *found)
            if call.observed:
                time.sleep(_AGAIN)
                return missing + 1, self._gone(call) if missing + 1 >= _SURE else None
            call.sent = False
        if call.stopping:
            return 0, Terminated(call.id, Reason.PREEMPTED, _UNSTARTED)
        self._deploy(call)
        begun = self._asked_to_begin(call)
        if begun is not None:
            return 0, self._read(call, *begun)
        self._say_waiting(call, f"a free worker of the service {call.plan.name}: scale() gives it more")
        time.sleep(_AGAIN_BUSY)
        return 0, None

    def _gone(self, call: Call) -> Terminated:
        """Return the end of a run whose pod, or server, is gone without a word of it."""
        reason, message = call.why or (Reason.LOST, _DELETED)
        return Terminated(call.id, reason, message, deleted=reason is Reason.LOST)

    def _deploy(self, call: Call) -> None:
        """Deploy the function where it is not; refuse another version, which goes on answering."""
        plan, host = call.plan, self._opened()
        if plan.function in self._ready:
            return
        with self._deploying:
            record = host.find(plan.project, plan.name)
            if record is None or record.state != "ready":
                record, is_new = self._deployed(call, host)
                if is_new:
                    logger.warning(
                        "%s is deployed for its runs, at %s: it goes on after them, until `mlfn undeploy %s --on kubernetes`",
                        *(plan.name, record.url, plan.name),
                    )
            refuse_other_version(plan, record)
            self._ready[plan.function] = record

    def _deployed(self, call: Call, host: KubernetesHost) -> tuple[ServiceRecord, bool]:
        self._say_waiting(call, f"the service {call.plan.name} to be deployed")
        try:
            return host.deploy(call.plan)
        except ServiceError as error:  # not one to be tried again
            raise MlfnError(str(error)) from error

    def _found(self, call: Call) -> tuple[Any, str] | None:
        """Return the open stream of a run that has begun, and its pod; None where no pod knows of it."""
        pods = self._opened().pods(call.plan)
        for pod in [call.pod] if call.pod in pods else pods:
            answer = self._request(pod, "GET", f"{RUNS_PATH}/{call.id}/{call.cursor}", call.plan)
            if answer.status == 200:
                return answer, str(pod)
            _refuse_unreached(answer)
        return None

    def _asked_to_begin(self, call: Call) -> tuple[Any, str] | None:
        """Return the open stream of the run at a pod that has begun it; None where all are busy."""
        pods = self._opened().pods(call.plan, ready=True)
        if not pods:
            self._ready.pop(call.plan.function, None)
        body = self._body(call) if pods else b""
        for pod in pods:
            call.pod, call.sent = pod, True
            answer = self._request(pod, "POST", RUNS_PATH, call.plan, body)
            if answer.status == 200:
                return answer, pod
            call.pod, call.sent = None, False
            if answer.status == 409:
                self._ready.pop(call.plan.function, None)
                continue
            _refuse_unreached(answer, busy=True)
        return None

    def _body(self, call: Call) -> bytes:
        wanted = Wanted(call.id, self._opened().where["namespace"], call.plan, call.mark, self._config.grace)
        staged = Staged(wanted, self._config, [call.task], folder=f"{FOLDER}/runs/{call.id}")
        asked = staged.assignment
        asked["files"] = {key: path for key, path in asked["files"].items() if key != "payload"}
        files = {key: base64.b64encode(data).decode() for key, data in staged.files.items() if key != "payload"}
        body = {
            "execution": call.id,
            "version": call.plan.function,
            "task": staged.tasks[0].to_json(),
            "asked": asked,
            "files": files,
        }
        return json.dumps(body, default=list).encode()

    def _read(self, call: Call, answer: Any, pod: str) -> Terminated:
        """Read a stream to its end, and return the end of the run; raise OSError where it breaks off."""
        call.pod, call.sent = pod, True
        if not call.observed:
            call.observed = True
            self._inbox.put(EventsReceived(call.id, (), cursor=call.cursor))
        if call.stopping:
            self._tell(pod, self._token(call.plan), call.id, "stop")
        reader, ended = StreamReader(call.mark), None
        log = LocalLog(Path(log_file(self._config.folder, call.task.run, call.task.attempt)))
        try:
            for piece in _pieces(answer):
                for part in reader.feed(piece):
                    ended = self._take(call, part, log) or ended
                if call.closed:
                    break
        finally:
            log.close()
            answer.close()
        if ended is None:
            raise ConnectionError("the stream of the run broke off")
        return ended

    def _take(self, call: Call, part: Any, log: LocalLog) -> Terminated | None:
        if isinstance(part, bytes):
            log.write(part)
        elif isinstance(part, Shipped):
            self._artifacts.adopt(part.path, part.content)
        elif part["event"] == "batch":
            call.cursor = part["cursor"]
            self._inbox.put(EventsReceived(call.id, tuple(part["events"]), part["cursor"]))
        elif part["event"] == "exit":
            return self._ended(call, Exit(part["code"], part["signal"]), is_oom=part["oom"])
        return None

    def _ended(self, call: Call, exit_: Exit, *, is_oom: bool) -> Terminated:
        if exit_.code is None and exit_.signal is None:
            self._note_break(call, ConnectionError())
            return self._gone(call)
        reason, message = out_of_memory(call.plan) if is_oom else explain(exit_)
        return Terminated(call.id, reason, message, exit_.code, exit_.signal)

    def _stop(self, call: Call) -> None:
        """Have a run cancelled, and killed after the grace time; one that has not begun is not begun."""
        assert call.kill_at is not None
        action = "stop"
        while not call.closed and call.id in self._calls:
            if call.pod is not None and call.observed:
                self._tell(call.pod, self._token(call.plan), call.id, action)
            time.sleep(max(0.0, min(_AGAIN, call.kill_at - time.monotonic())) if action == "stop" else _AGAIN)
            if time.monotonic() >= call.kill_at:
                action = "kill"

    def _tell(self, pod: str, token: str, execution: str, action: str) -> None:
        with contextlib.suppress(Exception):  # done again where it matters
            self._send(pod, "POST", f"{RUNS_PATH}/{execution}/{action}", token, b"{}").read()

    def _request(self, pod: str, method: str, path: str, plan: Plan, body: bytes = b"") -> Any:
        return self._send(pod, method, path, self._token(plan), body)

    def _send(self, pod: str, method: str, path: str, token: str, body: bytes) -> Any:
        parts = urlsplit(self._opened().address_of(pod))
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=_IDLE)
        headers = {"Content-Type": "application/json", "Connection": "close", TOKEN_HEADER: token}
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse()

    def _token(self, plan: Plan) -> str:
        return internal_token(self._config.key, plan.project, plan.name)

    def _opened(self) -> KubernetesHost:
        if self._host is None:
            self._host = KubernetesHost(self._config, **self._reach)
        return self._host

    def _say_waiting(self, call: Call, words: str) -> None:
        if call.words != words:
            call.words = words
            self._inbox.put(StatusChanged(call.id, call.task.run, words))


def _is_nuclios(plan: Plan) -> bool:
    return Nuclio(**plan.kind.options).engine == DASHBOARD


def _pieces(answer: Any) -> Iterator[bytes]:
    while piece := answer.read1(1 << 16):
        yield piece


def _refuse_unreached(answer: Any, *, busy: bool = False) -> None:
    """Raise ConnectionError where a pod could not be asked, ServiceError for another refusal than is expected."""
    said = json.loads(answer.read() or b"{}").get("error", "")
    if answer.status == 503 and said != "busy":
        raise ConnectionError(said)
    if answer.status not in ((503,) if busy else (404,)):
        raise MlfnError(f"its service answered {answer.status}: {said}")
