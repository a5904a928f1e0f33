"""Services on a real cluster: pods of a plain Python image under restricted Pod Security, and a user with mlfn's own Role."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import NotFoundError, OptionError, ServiceError
from mlfn.spec.yaml_text import from_yaml
from tests.architecture.source import ROOT
from tests.brokers import Mosquitto
from tests.cluster.api import Namespace
from tests.ledger import wait_until

HOST = os.environ.get("CLUSTER_HOST", "")
INDEX = os.environ.get("CLUSTER_PIP_INDEX_URL", "")  # where it is set, pods reach no other
IMAGE = "mlfn.test/service:1"
"""A plain Python with what the server needs: nothing is installed in its pods."""
LEFT = ("deployments", "replicasets", "services", "horizontalpodautoscalers", "pods", "secrets")


@pytest.fixture(scope="module", autouse=True)
def secrets(namespace: Namespace) -> None:
    namespace.make_secret("score-token", value="of-the-cluster")
    namespace.make_secret("model-login", value="a-password")


@pytest.fixture(autouse=True)
def client(reach: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFN_ON", "kubernetes")
    if INDEX:
        monkeypatch.setenv("MLFN_PACKAGE_INDEX", INDEX)
        monkeypatch.setenv("MLFN_TRUSTED_HOST", HOST)
    yield
    for service in mlfn.services():
        service.delete()


@mlfn.function(kind="nuclio", image=IMAGE, cpu=0.5)
def double(x: int) -> int:
    print("doubles", x)
    return 2 * x


def left_in(namespace: Namespace) -> list[str]:
    """Return what of mlfn's is in a namespace, less the ConfigMap that all have in common."""
    label = "app.kubernetes.io/managed-by=mlfn"
    return [
        f"{kind}/{item['metadata']['name']}" for kind in LEFT for item in namespace.items(kind, labelSelector=label)
    ]


def in_cluster(namespace: Namespace) -> tuple[str, int]:
    """Return the address of the only service, which this node reaches as pods do."""
    [service] = namespace.items("services")
    return service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]


def posted(address: tuple[str, int], token: str | None, body: bytes = b'{"x": 4}') -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_reached(address: tuple[str, int], token: str, body: bytes = b'{"x": 4}') -> bool:
    with suppress(OSError):
        return posted(address, token, body)[0] == 200
    return False


def test_a_service_answers_another_process_and_leaves_nothing(namespace: Namespace, tmp_path: Path) -> None:
    service = double.with_options(image=mlfn.UNSET).deploy()

    assert (service.is_new, service.state, service(x=4)) == (True, "ready", 8)
    assert service.invoke(x="four").json()["field"] == "x"
    assert service.address == f"http://default-double.{namespace.name}.svc:8080"
    program = tmp_path / "other.py"
    program.write_text(
        "import mlfn\nservice = mlfn.service('double')\nprint(service(x=5), service.metrics['mlfn_workers_ready{function=\"double\"}'])\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environ, check=False)
    assert done.stdout == "10 1.0\n", done.stderr
    lines = list(service.logs())
    assert "doubles 5" in lines
    assert lines[0].startswith("[mlfn: installs uvicorn, "), "a plain image of Python lacks the server"
    wait_until(lambda: any('"status": 400' in line for line in service.logs(which="access")))

    service.delete()

    assert service.state == "deleted"
    with pytest.raises(NotFoundError, match="No service 'double' is deployed"):
        mlfn.service("double")
    with pytest.raises(NotFoundError, match="was deleted: deploy it again"):
        service(x=1)
    wait_until(lambda: left_in(namespace) == [], timeout=60)


def test_an_unchanged_version_is_left_as_it_is(namespace: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    double.deploy()
    before = [item["metadata"]["resourceVersion"] for item in namespace.items("pods")]

    again = double.deploy()

    assert not again.is_new
    assert "double is deployed in this version already" in caplog.text
    assert [item["metadata"]["resourceVersion"] for item in namespace.items("pods")] == before


class Load:
    """Clients that go on sending requests to a service within the cluster, each over a connection of its own."""

    def __init__(self, address: tuple[str, int], token: str) -> None:
        self._address, self._token = address, token
        self.answers: list[tuple[int, bytes]] = []
        self.failures: list[str] = []
        self._goes_on, self._began = True, time.monotonic()
        self._threads = [threading.Thread(target=self._send, args=(kept,)) for kept in (True, True, False)]

    @contextmanager
    def going_on(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        yield
        self._goes_on = False
        for thread in self._threads:
            thread.join()

    def _send(self, kept: bool) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        while self._goes_on:
            try:
                connection.request("POST", "/", b'{"x": 4}', headers)
                answer = connection.getresponse()
                self.answers.append((answer.status, answer.read()))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{time.monotonic() - self._began:.1f} s: {error!r}")
                connection.close()
            if not kept:
                connection.close()
            time.sleep(0.01)
        connection.close()


def test_another_version_takes_over_without_a_failed_request(namespace: Namespace) -> None:
    slower = double.with_options(env={"MODE": "second"})
    service = double.deploy()
    token = service._host.token(service._record)
    assert token is not None

    wait_until(lambda: is_reached(in_cluster(namespace), token))  # the node learns of new pods some time later
    load = Load(in_cluster(namespace), token)
    with load.going_on():
        second = slower.deploy()
        time.sleep(1)
        third = second.rollback()
        time.sleep(5)  # the pods of the second version end meanwhile

    assert load.failures == []
    assert set(load.answers) == {(200, b"8")}
    assert len(load.answers) > 100
    assert [version.number for version in third.versions] == [1, 2, 3]
    assert third.versions[-1].hash == third.versions[0].hash != third.versions[1].hash
    codes = [name for name in left_in(namespace) if re.search(r"double-\d+-", name) and name.startswith("secrets/")]
    assert len(codes) == 1, "the code of earlier versions is removed"


def test_what_does_not_begin_says_why_and_the_version_before_goes_on(namespace: Namespace) -> None:
    def init_context(context: Any) -> None:
        if os.environ.get("MODE") == "broken":
            raise RuntimeError("no model at s3://models")

    def handler(context: Any, event: Any) -> str:
        return "well"

    from mlfn.worker.classic import ClassicHandler

    classify = mlfn.function(
        ClassicHandler(handler, init_context), name="classify", kind="nuclio", image=IMAGE, cpu=0.5
    )
    service = classify.deploy()

    with pytest.raises(ServiceError, match=r"The service classify did not begin(.|\n)*no model at s3://models"):
        classify.with_options(env={"MODE": "broken"}).deploy()
    with pytest.raises(ServiceError, match=r"did not begin: it waits for its image: .*no-such-image"):
        classify.with_options(image="mlfn.test/no-such-image:1").deploy()
    with pytest.raises(ServiceError, match=r"did not begin: it waits for a node: .*Insufficient cpu"):
        classify.with_options(cpu=500, kind=mlfn.Nuclio(ready_timeout=5)).deploy()
    with pytest.raises(ServiceError, match=r'did not begin: .*secret "no-such-secret" not found'):
        classify.with_options(secrets=[mlfn.Secret("no-such-secret")]).deploy()

    assert service.post("x").text == "well"
    assert [version.number for version in service.versions] == [1]
    wait_until(lambda: len(namespace.items("pods")) == 1, timeout=60)


def test_a_first_version_that_does_not_begin_leaves_nothing(namespace: Namespace) -> None:
    with pytest.raises(ServiceError, match="no-such-image"):
        double.with_options(image="mlfn.test/no-such-image:1").deploy()

    assert mlfn.services() == []
    wait_until(lambda: left_in(namespace) == [], timeout=60)


def test_requests_bring_the_token_and_no_secret_is_in_a_manifest(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    @mlfn.function(
        kind=mlfn.Nuclio(triggers=[mlfn.Http(token=mlfn.Secret("SCORE_TOKEN"))]),
        secrets=[mlfn.Secret("MODEL_LOGIN")],
        image=IMAGE,
        cpu=0.5,
    )
    def login(ctx: mlfn.Context) -> int:
        return len(ctx.secret("MODEL_LOGIN"))

    monkeypatch.setenv("SCORE_TOKEN", "of-the-cluster")
    service = login.deploy()

    assert service() == len("a-password")
    address = in_cluster(namespace)
    wait_until(lambda: is_reached(address, "of-the-cluster", b"{}"))
    assert posted(address, None, b"{}")[0] == 401
    assert posted(address, "another", b"{}")[0] == 401
    assert posted(address, "of-the-cluster", b"{}") == (200, b"10")
    shown = json.dumps(
        [namespace.items(kind) for kind in ("deployments", "replicasets", "pods", "services", "configmaps")]
    )
    assert "of-the-cluster" not in shown and "a-password" not in shown
    [pod] = namespace.items("pods")
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_pods_are_added_and_a_range_is_the_clusters_to_choose_in(namespace: Namespace) -> None:
    service = double.deploy()
    service.scale(2)

    assert (service.replicas, len(namespace.items("pods"))) == (2, 2)
    assert {json.loads(posted(in_cluster(namespace), service._host.token(service._record))[1]) for _ in range(8)} == {8}
    wait_until(lambda: sum("doubles 4" in line for line in service.logs()) == 8)
    assert {line.partition("] ")[0] for line in service.logs() if "doubles" in line}, "lines say which pod wrote them"

    ranged = double.with_options(kind=mlfn.Nuclio(replicas=(1, 3))).deploy()

    [scaler] = namespace.items("horizontalpodautoscalers")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (1, 3)
    with pytest.raises(OptionError, match="the cluster itself chooses between 1 and 3 pods of double"):
        ranged.scale(2)
    double.deploy()
    assert namespace.items("horizontalpodautoscalers") == []


def test_a_log_is_followed_into_the_next_version() -> None:
    service = double.deploy()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(service.logs(follow=True)))
    thread.start()
    assert service(x=1) == 2
    second = double.with_options(env={"MODE": "second"}).deploy()

    assert second(x=21) == 42
    wait_until(lambda: any("doubles 21" in line for line in found))
    second.delete()
    thread.join(30)

    assert not thread.is_alive()
    assert "doubles 1" in found


def test_a_plan_is_accepted_by_the_cluster(namespace: Namespace) -> None:
    plan = double.with_options(kind=mlfn.Nuclio(replicas=(1, 3))).plan(x=1)
    kinds = {
        "Deployment": "deployments",
        "Service": "services",
        "Secret": "secrets",
        "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    }

    items = [from_yaml(document) for document in plan.split("---\n")[1:]]

    assert {item["kind"] for item in items} == set(kinds)
    for item in items:
        item["metadata"]["namespace"] = namespace.name
        namespace.api.post(namespace.path(kinds[item["kind"]]), item, dryRun="All")


def test_another_function_does_not_take_a_services_name(namespace: Namespace) -> None:
    double.with_options(name="x-double").deploy()

    with pytest.raises(OptionError, match="which is default/x-double: give the function another name"):
        double.with_options(project="default-x").deploy()


def test_what_others_have_made_is_left_alone(namespace: Namespace) -> None:
    own = {"metadata": {"name": "default-double"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}}}
    namespace.api.post(namespace.path("services"), own)

    with pytest.raises(OptionError, match=r"Service default-double in namespace .* is not mlfn's to change"):
        double.deploy()

    [service] = namespace.items("services")
    assert service["spec"]["selector"] == {"app": "theirs"}
    namespace.api.delete(f"{namespace.path('services')}/default-double")
    wait_until(lambda: left_in(namespace) == [], timeout=60)


def test_a_cluster_that_does_not_answer_for_a_while_fails_no_deploy(namespace: Namespace) -> None:
    found: list[mlfn.Service] = []
    thread = threading.Thread(target=lambda: found.append(double.deploy()))
    thread.start()
    wait_until(lambda: namespace.items("services"))
    time.sleep(0.5)  # by now it waits for its pods

    with namespace.forwarder.cut():
        time.sleep(2)
    thread.join(120)

    assert [service.state for service in found] == ["ready"]


APP = f"""
import mlfn


@mlfn.function(kind="nuclio", image={IMAGE!r}, cpu=0.5)
def triple(x: int) -> int:
    return 3 * x
"""


def typed(*args: str) -> str:
    """Run a command in a process of its own, and return what it printed to stdout."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    del environ["MLFN_ON"]
    done = subprocess.run(
        [sys.executable, "-m", "mlfn", *args], capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_service_is_deployed_asked_and_removed_from_a_shell(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    kinds = [
        from_yaml(item)["kind"]
        for item in typed("deploy", "app.py::triple", "--on", "kubernetes", "--dry-run").split("---\n")
    ]
    assert kinds == ["Deployment", "Service", "Secret", "Secret"]
    assert left_in(namespace) == []

    assert (
        typed("deploy", "app.py::triple", "--on", "kubernetes") == f"http://default-triple.{namespace.name}.svc:8080\n"
    )
    assert typed("invoke", "triple", "x=4", "--on", "kubernetes") == "12\n"
    rows = typed("services", "--on", "kubernetes").splitlines()[1:]
    assert [row.split()[:3] for row in rows] == [["triple", "default", "ready"]]
    assert "installs" not in typed("services", "triple", "--logs", "--on", "kubernetes")
    typed("undeploy", "triple", "--on", "kubernetes")
    assert mlfn.services() == []


def test_a_run_that_a_service_executes_outlives_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "client.py"
    program.write_text(
        f"""
import os, time, mlfn


@mlfn.function(kind="nuclio", image={IMAGE!r}, cpu=0.5)
def slow(seconds: float) -> float:
    print("begins", flush=True)
    time.sleep(seconds)
    return seconds


run = slow.submit(6.0)
while "begins" not in run.logs():
    time.sleep(0.1)
print(run.id, flush=True)
os._exit(1)
"""
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environ, check=False)
    run = mlfn.run(done.stdout.strip())

    assert run.result(timeout=60) == 6.0
    assert run.logs() == "begins\n"
    assert len(run.attempts) == 1


def test_messages_of_a_broker_come_to_a_pod(namespace: Namespace, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, host=HOST, login=("trainer", "drowssap"))
    broker.start()
    try:
        namespace.make_secret("broker", password="drowssap")
        password = mlfn.Secret("BROKER", key="password")
        trigger = mlfn.Mqtt(broker.url, ["numbers"], qos=1, client_id="double", username="trainer", password=password)
        service = double.with_options(kind=mlfn.Nuclio(triggers=[trigger])).deploy()
        wait_until(lambda: any("listening" in line for line in service.logs()))

        broker.publish("numbers", '{"x": 21}')

        wait_until(lambda: any("doubles 21" in line for line in service.logs()))
    finally:
        broker.stop()
