"""What is created in a cluster for a service, and what is made of what a cluster says of it; without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.backends.hosts.kubernetes.host import KubernetesHost
from mlfn.backends.hosts.kubernetes.manifests import password_variables, requirements, service_name
from mlfn.backends.hosts.kubernetes.readiness import trouble_of, trouble_of_deployment
from mlfn.backends.hosts.kubernetes.records import is_rolled_out, record_of
from mlfn.errors import OptionError
from mlfn.spec.yaml_text import to_yaml
from tests.unit.backends.test_nuclio import planned

GOLDEN = Path(__file__).parents[2] / "data" / "nuclio" / "deployment.yaml"
ON_KUBERNETES: dict[str, Any] = {"place": {"name": "kubernetes", "options": {"namespace": "ml"}}}
FULL = mlfn.Nuclio(replicas=(1, 3), workers=2, target_cpu=60, ready_timeout="3m", triggers=[mlfn.Http(max_body="1Mi")])
MORE = {
    "cpu": 0.5,
    "mem": 512 << 20,
    "image": "team/score:1",
    "env": {"MODE": "fast"},
    "secrets": [{"name": "S3_CREDS", "key": "token", "env": None}],
    "timeout": 30.0,
    "node": {"selector": {"pool": "cpu"}},
}


def test_the_manifests_are_as_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("hosts.kubernetes.manifests", "places.kubernetes.objects"):
        monkeypatch.setattr(f"mlfn.backends.{module}.__version__", "1.2.3")
    monkeypatch.setattr("mlfn.backends.hosts.kubernetes.host.worker_bundle", lambda: ("0123456789abcdef", b""))

    made = KubernetesHost.manifests(planned(FULL, **MORE, **ON_KUBERNETES))

    assert "---\n".join(map(to_yaml, made)) == GOLDEN.read_text(), f"it has changed: {GOLDEN}"


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        (mlfn.Nuclio(replicas=(0, 3)), {"cpu": 1}, "nothing starts a Deployment that is at 0; use replicas=\\(1, 3\\)"),
        (mlfn.Nuclio(replicas=(1, 3)), {}, "say how much one asks for, as in @mlfn.function\\(cpu=0.5"),
        (mlfn.Nuclio(replicas=2, triggers=[mlfn.Http(), mlfn.Cron("@hourly")]), {}, "each of its pods would keep"),
        (
            mlfn.Nuclio(),
            {"mem": 1 << 30, "retry": {"times": 3, "mem": "x2"}},
            "a service, which has the memory that it was",
        ),
        (mlfn.Nuclio(prebuilt=True), {"image": "a:1"}, "it builds no image; use image="),
        (mlfn.Nuclio(triggers=[mlfn.Http(ingresses={"a.example": "/"})]), {}, "for the Service fraud-score"),
        (
            mlfn.Nuclio(triggers=[mlfn.RabbitMq(url="amqp://b", exchange="a", queue="q")]),
            {},
            "which needs Nuclio itself",
        ),
        (
            mlfn.Nuclio(triggers=[mlfn.Nats("nats://b:4222", "a", "q", workers=4)]),
            {},
            r"Nats\(workers=4\), which needs",
        ),
        (
            mlfn.Nuclio(replicas=2, triggers=[mlfn.Mqtt("tcp://b:1883", ["a/#"])]),
            {},
            r"each of its pods would get each message; use replicas=1, or a shared subscription, as in topics=\['\$share/score/a/#'\]",
        ),
    ],
)
def test_what_the_embedded_server_cannot_do_is_refused(kind: mlfn.Nuclio, more: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        KubernetesHost.check_plan(planned(kind, **more, **ON_KUBERNETES))


def test_triggers_bring_what_they_need_into_a_pod() -> None:
    password = mlfn.Secret("BROKER_LOGIN", key="password")
    shared = mlfn.Mqtt("tcp://b:1883", ["$share/score/a/#"], username="a", password=password)
    kind = mlfn.Nuclio(replicas=2, triggers=[shared, mlfn.Nats("nats://b:4222", "a", "q")])
    plan = planned(kind, **ON_KUBERNETES)
    KubernetesHost.check_plan(plan)

    [container] = KubernetesHost.manifests(plan)[0]["spec"]["template"]["spec"]["containers"]

    reference = {"name": "broker-login", "key": "password"}
    assert {"name": "MLFN_TRIGGER_PASSWORD_0", "valueFrom": {"secretKeyRef": reference}} in container["env"]
    assert password_variables(kind) == {"mqtt": "MLFN_TRIGGER_PASSWORD_0"}
    assert requirements(kind)[-2:] == ["paho-mqtt", "nats-py"]
    assert "paho-mqtt" not in requirements(mlfn.Nuclio())


def test_another_engine_than_there_is_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Nuclio\(engine='knative'\): Allowed: dashboard, deployment"):
        mlfn.Nuclio(engine="knative")


@pytest.mark.parametrize(
    ("project", "name", "called"), [("fraud", "score", "fraud-score"), ("2024", "x", "mlfn-2024-x")]
)
def test_a_service_has_a_name_of_the_cluster(project: str, name: str, called: str) -> None:
    assert service_name(project, name) == called


def deployed(**status: Any) -> dict[str, Any]:
    [made] = [
        item
        for item in KubernetesHost.manifests(planned(FULL, **MORE, **ON_KUBERNETES))
        if item["kind"] == "Deployment"
    ]
    made["metadata"] |= {"uid": "u", "generation": 2}
    return {**made, "status": status}


def test_a_record_is_read_from_its_deployment() -> None:
    record = record_of(deployed(availableReplicas=1))

    assert (record.project, record.name, record.state, record.replicas) == ("fraud", "score", "ready", 1)
    assert record.url == "http://fraud-score.ml.svc:8080"
    assert [item.number for item in record.versions] == [1]
    assert record_of(deployed()).state == "failed"


def test_a_version_is_there_once_all_pods_are_its_own() -> None:
    ready = {"updatedReplicas": 1, "availableReplicas": 1, "replicas": 1}

    assert is_rolled_out(deployed(observedGeneration=2, **ready))
    assert not is_rolled_out(deployed(observedGeneration=1, **ready))
    assert not is_rolled_out(deployed(observedGeneration=2, **{**ready, "replicas": 2}))
    assert not is_rolled_out(deployed(observedGeneration=2, **{**ready, "updatedReplicas": 0}))


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    container = {"name": "main", "state": state, "lastState": last or {}}
    return {"metadata": {"name": "score-1"}, "status": {"containerStatuses": [container], **status}}


def test_a_server_that_ended_has_its_own_last_line() -> None:
    said = {
        "terminated": {
            "exitCode": 1,
            "message": '{"error": "Traceback:\\n  x\\nValueError: no model", "kind": "ValueError"}',
        }
    }
    plan = planned(FULL, **MORE, **ON_KUBERNETES)

    for found in (pod(said), pod({"waiting": {"reason": "CrashLoopBackOff"}}, said)):
        trouble = trouble_of(plan, found)
        assert trouble is not None
        assert (trouble.words, trouble.error, trouble.is_final(0)) == ("ValueError: no model", "ValueError", True)


def test_an_image_is_waited_for_and_room_for_longer() -> None:
    plan = planned(FULL, **MORE, **ON_KUBERNETES)
    image = trouble_of(plan, pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}))
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes have room"}
    room = trouble_of(plan, pod({}, conditions=[unscheduled]))

    assert image is not None and room is not None
    assert "no such image" in image.words and "0/1 nodes have room" in room.words
    assert (image.is_final(1), image.is_final(30), room.is_final(1000)) == (False, True, False)
    assert trouble_of(plan, pod({"running": {}})) is None


def test_a_refused_pod_is_said_by_its_deployment() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": 'pods "a" is forbidden: violates PodSecurity'}

    trouble = trouble_of_deployment(deployed(conditions=[condition]))

    assert trouble is not None
    assert (trouble.sort, "violates PodSecurity" in trouble.words) == ("refused", True)
    assert trouble_of_deployment(deployed()) is None


def test_a_place_without_services_is_refused() -> None:
    with pytest.raises(OptionError, match="on='inline' has no services: on='kubernetes' or on='local' is allowed"):
        mlfn.services(on="inline")
