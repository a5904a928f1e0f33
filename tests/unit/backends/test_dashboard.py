"""Functions of Nuclio, deployed through its dashboard.

What answers here is a stand-in: an HTTP server of these tests, which gives the answers that Nuclio documents for its dashboard.
"""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import NotFoundError, OptionError, ServiceError


class StandIn:
    """Plays the dashboard: functions pass through `states` after each change; `refuse` answers in its place, by method."""

    def __init__(self) -> None:
        self.functions: dict[str, dict[str, Any]] = {}
        self.states = ["building", "waitingForResourceConfiguration", "ready"]
        self.left: dict[str, list[str]] = {}
        self.status: dict[str, Any] = {}
        self.refuse: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.versions = 0
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def _answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                sent = self.rfile.read(size) or b"null"
                headers = {name.lower(): value for name, value in self.headers.items()}
                stand_in.asked.append((self.command, self.path, headers, json.loads(sent)))
                status, answer = stand_in.answer(self.command, self.path.partition("?")[0], json.loads(sent))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = _answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuse.get(method):
            return self.refuse[method].pop(0)
        name = path.removeprefix("/api/functions").strip("/")
        if method == "GET" and not name:
            return 200, {key: self._shown(key) for key in self.functions}
        if method == "GET" and name.endswith("/replicas"):
            return 200, {"names": ["nuclio-pod-a", "nuclio-gone", "nuclio-pod-b"]}
        if method == "GET" and "/logs/" in name:
            pod = name.rpartition("/")[2]
            if pod == "nuclio-gone":
                return 500, {"error": 'pods "nuclio-gone" not found'}
            line = '{"time": "2026-01-01T00:00:00.000Z", "method": "POST", "path": "/", "status": 200}'
            return 200, f"{line}\nfrom {pod}\n".encode()
        if method == "GET":
            shown = self._shown(name)
            return (200, shown) if shown else (404, {"error": "Function not found"})
        key = body["metadata"]["name"]
        if method == "DELETE":
            self.functions.pop(key, None)
            return 204, b""
        if method == "POST" and key in self.functions:
            return 409, {"error": "Function already exists"}
        stale = self.functions.get(key, {}).get("metadata", {}).get("resourceVersion")
        if method == "PUT" and body["metadata"].get("resourceVersion") != stale:
            return 409, {"error": "Function resource version is stale"}
        self.versions += 1
        body["metadata"]["resourceVersion"] = str(self.versions)
        self.functions[key] = body
        self.left[key] = list(self.states)
        return 202, b""

    def _shown(self, name: str) -> dict[str, Any] | None:
        if name not in self.functions:
            return None
        left = self.left[name]
        state = left.pop(0) if len(left) > 1 else left[0]
        status = {
            "state": state,
            "internalInvocationUrls": [f"nuclio-{name}.nuclio.svc.cluster.local:8080"],
            "externalInvocationUrls": [],
            **self.status,
        }
        return {**self.functions[name], "status": status}


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    made = StandIn()
    monkeypatch.setenv("MLFN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MLFN_NUCLIO_DASHBOARD", made.url)
    monkeypatch.setattr("mlfn.backends.hosts.dashboard._LOOK", 0.01)
    monkeypatch.setattr("mlfn.backends.hosts.dashboard.DashboardHost.SPARE", 0.0)
    yield made
    made.server.shutdown()
    made.server.server_close()


@mlfn.function(kind=mlfn.Nuclio(engine="dashboard"))
def double(x: int) -> int:
    return 2 * x


def deploy(function: Any = double, **options: Any) -> mlfn.Service:
    found: mlfn.Service = function.deploy(on="kubernetes", **options)
    return found


def test_a_function_is_created_and_found_again(dashboard: StandIn) -> None:
    service = deploy()

    assert (service.is_new, service.state, service.replicas) == (True, "ready", 1)
    assert service.url == "http://nuclio-default-double.nuclio.svc.cluster.local:8080"
    _, path, headers, body = next(item for item in dashboard.asked if item[0] == "POST")
    assert (path, headers["x-nuclio-project-name"]) == ("/api/functions", "default")
    assert headers["x-nuclio-function-namespace"] == "nuclio"
    assert body["kind"] == "NuclioFunction"
    env = {item["name"]: item for item in body["spec"]["env"]}
    assert env["NUCLIO_PYTHON_DECODE_EVENT_STRINGS"]["value"] == "no"
    facts = json.loads(zlib.decompress(base64.b64decode(env["MLFN_SERVICE_CODE"]["value"])))
    assert facts["server"]["name"] == "double" and len(facts["pin"]) == 64
    found = mlfn.service("double", on="kubernetes")
    assert [version.number for version in found.versions] == [1]
    assert [item.name for item in mlfn.services(on="kubernetes")] == ["double"]


def test_what_was_sent_runs_where_the_processor_calls_it(dashboard: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging
    import signal
    import sys

    import nuclio_sdk

    from mlfn.serving.processor import Service

    service = deploy()
    spec = next(item for item in dashboard.asked if item[0] == "POST")[3]["spec"]
    for item in spec["env"]:
        monkeypatch.setenv(item["name"], item["value"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    monkeypatch.setattr("mlfn.serving.server.journals.set_up", lambda secrets: None)  # of this process too
    monkeypatch.setattr("mlfn.worker.context.in_worker", False)  # again, after the test
    http = sys.modules["nuclio_sdk.event"].TriggerInfo("http", "default-http")
    context = nuclio_sdk.Context(nuclio_sdk.Logger(logging.INFO), nuclio_sdk.Platform("kube"), "0", http)
    namespace: dict[str, Any] = {"Service": Service}
    exec(base64.b64decode(spec["build"]["functionSourceCode"]), namespace)
    try:
        namespace["init_context"](context)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def answer(**headers: str) -> Any:
        event = nuclio_sdk.Event(
            body={"x": 4}, content_type=b"application/json", headers=headers, method=b"POST", path=b"/", trigger=http
        )
        return namespace["handler"](context, event)

    token = service._host.token(service._record)
    assert (answer(Authorization=f"Bearer {token}").body, answer().status_code) == ("8", 401)


def test_an_unchanged_function_is_left_and_another_version_replaces_it(
    dashboard: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    deploy()
    again = deploy()
    assert not again.is_new and "double is deployed in this version already" in caplog.text

    other = deploy(double.with_options(env={"MODE": "fast"}))
    assert [version.number for version in other.versions] == [1, 2]
    puts = [item for item in dashboard.asked if item[0] == "PUT"]
    assert [(item[1], item[3]["metadata"]["resourceVersion"]) for item in puts] == [
        ("/api/functions/default-double", "1")
    ]


def test_a_change_by_another_client_is_looked_at_again(dashboard: StandIn) -> None:
    deploy()
    dashboard.refuse["PUT"] = [(409, {"error": "Function resource version is stale"})]

    service = deploy(double.with_options(env={"MODE": "fast"}))

    assert service.is_new
    assert len([item for item in dashboard.asked if item[0] == "PUT"]) == 2


def test_a_build_that_fails_says_the_builders_words(dashboard: StandIn) -> None:
    dashboard.states = ["building", "error"]
    dashboard.status = {
        "message": "Failed to build processor image",
        "logs": [{"level": "error", "message": "pip failed", "err": "No matching distribution for scikit-lern"}],
    }

    with pytest.raises(
        ServiceError, match=r"(?s)double did not begin.*'error'.*No matching distribution for scikit-lern"
    ):
        deploy()


def test_an_image_that_is_missing_is_named(dashboard: StandIn) -> None:
    dashboard.states = ["waitingForResourceConfiguration", "unhealthy"]
    dashboard.status = {"message": "Back-off pulling image: ImagePullBackOff"}
    kind = mlfn.Nuclio(engine="dashboard", prebuilt=True)

    with pytest.raises(ServiceError, match=r"its image registry\.example\.com/score:1 cannot be pulled"):
        deploy(double.with_options(kind=kind, image="registry.example.com/score:1"))
    body = next(item for item in dashboard.asked if item[0] == "POST")[3]
    assert body["spec"]["handler"] == "mlfn.serving.deployed:handler"


def test_what_does_not_become_ready_in_time_is_said(dashboard: StandIn) -> None:
    dashboard.states = ["waitingForResourceConfiguration"]

    with pytest.raises(ServiceError, match=r"not ready within 0\.2 seconds.*'waitingForResourceConfiguration'"):
        deploy(double.with_options(kind=mlfn.Nuclio(engine="dashboard", ready_timeout=0.2)))


REFUSALS: list[tuple[int, str, str]] = [
    (401, "Unauthorized", "wants a login, and answers 401.*mlfn secret set NUCLIO_DASHBOARD_TOKEN"),
    (403, "Forbidden", "wants a login, and answers 403"),
    (500, "Failed to create function", r"failed with 500 \(Failed to create function\): its own log says why"),
    (412, "Project does not exist", "refuses it with 412: Project does not exist"),
    (400, "Function name is invalid", "refuses it with 400: Function name is invalid"),
]


@pytest.mark.parametrize(("status", "said", "words"), REFUSALS)
def test_a_refusal_has_its_words(dashboard: StandIn, status: int, said: str, words: str) -> None:
    dashboard.refuse["POST"] = [(status, {"error": said})] * 9

    with pytest.raises(ServiceError, match=f"double cannot be deployed: Nuclio's dashboard at {dashboard.url} {words}"):
        deploy()


def test_a_token_is_sent_where_there_is_one(dashboard: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUCLIO_DASHBOARD_TOKEN", "sesame-open")

    deploy()

    assert {item[2]["authorization"] for item in dashboard.asked} == {"Bearer sesame-open"}


def test_a_dashboard_that_does_not_answer_is_named(dashboard: StandIn) -> None:
    dashboard.server.shutdown()
    dashboard.server.server_close()

    with pytest.raises(ServiceError, match=f"dashboard does not answer at {dashboard.url}.*port-forward"):
        deploy()


def test_without_a_dashboard_its_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFN_DATA", str(tmp_path / "data"))

    with pytest.raises(OptionError, match="set MLFN_NUCLIO_DASHBOARD"):
        deploy()


def test_it_is_scaled_read_and_deleted(dashboard: StandIn) -> None:
    service = deploy()
    service.scale(3)

    spec = dashboard.functions["default-double"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["build"]["mode"]) == (3, 3, "neverBuild")
    assert service.replicas == 3
    assert list(service.logs()) == ["from nuclio-pod-a", "from nuclio-pod-b"]
    assert [json.loads(line)["status"] for line in service.logs(which="access")] == [200, 200]
    # The dashboard would follow for ever otherwise.
    assert all(item[1].endswith("?follow=false") for item in dashboard.asked if "/logs/" in item[1])
    service.delete()
    assert service.state == "deleted"
    with pytest.raises(NotFoundError, match="No service 'double' is deployed"):
        mlfn.service("double", on="kubernetes")


def test_what_mlfn_has_not_made_is_left_alone(dashboard: StandIn) -> None:
    dashboard.functions["default-double"] = {"metadata": {"name": "default-double"}, "spec": {}}
    dashboard.left["default-double"] = ["ready"]

    with pytest.raises(OptionError, match="which is what mlfn has not made: give the function another name"):
        deploy()
    assert mlfn.services(on="kubernetes") == []


def test_code_that_is_too_large_is_refused(dashboard: StandIn) -> None:
    import random

    table = bytes(random.Random(7).randbytes(150_000))

    @mlfn.function(kind=mlfn.Nuclio(engine="dashboard"))
    def large(x: int) -> int:
        return table[x]

    with pytest.raises(OptionError, match="KiB packed, and Nuclio gets 96 KiB at most"):
        deploy(large)


def test_passwords_reach_triggers_by_value(dashboard: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "sesame-open")
    password = mlfn.Secret("BROKER_PASSWORD")
    triggers = [
        mlfn.Mqtt(url="tcp://broker:1883", topics=["a"], username="me", password=password),
        mlfn.Kafka(topics=["a"], brokers=["kafka:9092"], group="g", username="me", password=password),
    ]

    deploy(double.with_options(kind=mlfn.Nuclio(engine="dashboard", triggers=triggers)))

    sent = next(item for item in dashboard.asked if item[0] == "POST")[3]["spec"]["triggers"]
    assert sent["mqtt"]["password"] == sent["kafka-cluster"]["attributes"]["sasl"]["password"] == "sesame-open"
    assert not any("password" in trigger["attributes"] for trigger in sent.values())


def test_runs_are_refused_by_name(dashboard: StandIn) -> None:
    error = double.on("kubernetes").submit(1).exception(20)

    assert "executes no runs on a cluster: call its service" in str(error)
