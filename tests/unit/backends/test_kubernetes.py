"""What is created in a cluster, and what is made of what a cluster says; without one."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn import errors
from mlfn.backends.kinds.base import Companion
from mlfn.backends.kinds.pods import label_value, secret_name
from mlfn.backends.places.kubernetes.connection import Connection
from mlfn.backends.places.kubernetes.requests import refuse_other
from mlfn.backends.places.kubernetes.words import LIMITS, explain, waiting_for, without_operator
from mlfn.spec.call_shape import CallShape
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason
from mlfn.spec.yaml_text import from_yaml

PLAN = Plan.of_body(
    {
        **dict.fromkeys(("function", "name", "project", "payload", "cwd"), "f"),
        "kind": {"name": "job", "options": {}},
        "place": {"name": "kubernetes", "options": {}},
        "shape": vars(CallShape()),
        **{name: [] for name in ("accepts", "outputs", "requirements", "sys_path", "by_reference", "secrets")},
        "retry": None,
        "sources": {},
        "mem": 256 << 20,
        "timeout": 2.0,
    }
)


@mlfn.function(cpu=0.5, mem="256Mi", gpus=1, secrets=[mlfn.Secret("S3_CREDS", key="token")], image="team/train:1")
def train(n: int) -> int:
    return n


def manifests(function: Any, n: int = 4) -> dict[str, Any]:
    documents = function.plan(n).split("---\n")[1:]
    return {item["kind"]: item for item in map(from_yaml, documents)}


def test_a_plan_is_a_comment_and_manifests() -> None:
    text = train.on("kubernetes", namespace="ml").plan(4)

    head, *documents = text.split("---\n")
    assert all(line.startswith("# ") for line in head.splitlines()) and '"n": 4' in head
    assert [from_yaml(document)["kind"] for document in documents] == ["Job", "Secret"]


def test_a_job_asks_for_what_its_function_asks_for_and_for_no_right() -> None:
    job = manifests(train.on("kubernetes", namespace="ml"))["Job"]

    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert (job["metadata"]["namespace"], job["spec"]["backoffLimit"], spec["restartPolicy"]) == ("ml", 0, "Never")
    assert container["image"] == "team/train:1"
    wanted = {"cpu": "500m", "memory": str(256 << 20), "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    reference = {"secretKeyRef": {"name": "s3-creds", "key": "token"}}
    assert {"name": "S3_CREDS_TOKEN", "valueFrom": reference} in container["env"]
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_image_of_the_settings_is_for_pods_whose_function_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def image_of(function: Any) -> str:
        [container] = manifests(function.on("kubernetes"))["Job"]["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    plain = train.with_options(image=mlfn.UNSET)
    monkeypatch.setenv("MLFN_IMAGE", "team/all:2")

    assert (image_of(plain), image_of(train)) == ("team/all:2", "team/train:1")
    assert "team/all:2" not in plain.on("local").plan(1)


def test_a_node_is_asked_for_by_labels_taints_and_priority() -> None:
    taint = {"key": "gpu", "operator": "Exists"}
    node = mlfn.Node(selector={"disk": "fast"}, tolerations=[taint], priority="high")

    spec = manifests(train.with_options(node=node).on("kubernetes"))["Job"]["spec"]["template"]["spec"]

    assert (spec["nodeSelector"], spec["tolerations"], spec["priorityClassName"]) == ({"disk": "fast"}, [taint], "high")


def on_spot(how: str, **node: Any) -> dict[str, Any]:
    function = train.with_options(node=mlfn.Node(spot=how, **node)).on("kubernetes")
    spec: dict[str, Any] = manifests(function)["Job"]["spec"]["template"]["spec"]
    return spec


def test_spot_nodes_are_tolerated_required_or_prevented() -> None:
    azure = "kubernetes.azure.com/scalesetpriority"
    own = {"key": "gpu", "operator": "Exists"}

    allowed, required, prevented = on_spot("allow", tolerations=[own]), on_spot("require"), on_spot("prevent")

    taint = {"key": azure, "operator": "Equal", "value": "spot", "effect": "NoSchedule"}
    assert own in allowed["tolerations"] and taint in allowed["tolerations"] and "affinity" not in allowed
    rule = "requiredDuringSchedulingIgnoredDuringExecution"
    any_of = required["affinity"]["nodeAffinity"][rule]["nodeSelectorTerms"]
    assert {"matchExpressions": [{"key": azure, "operator": "In", "values": ["spot"]}]} in any_of
    assert taint in required["tolerations"]
    [none_of] = prevented["affinity"]["nodeAffinity"][rule]["nodeSelectorTerms"]
    assert {"key": azure, "operator": "NotIn", "values": ["spot"]} in none_of["matchExpressions"]
    assert "tolerations" not in prevented


def test_spot_beside_a_node_affinity_is_refused() -> None:
    both = train.with_options(node=mlfn.Node(spot="require", affinity={"nodeAffinity": {}}), secrets=mlfn.UNSET)

    with pytest.raises(errors.OptionError, match=r"spot='require'.*leave one out"):
        both.on("kubernetes").submit(1)


def test_a_part_of_a_pods_spec_is_merged_by_name() -> None:
    mount = {"name": "data", "mountPath": "/data"}
    part = {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "containers": [{"name": "main", "volumeMounts": [mount]}],
        "runtimeClassName": "gvisor",
    }

    spec = manifests(train.on("kubernetes", pod=part))["Job"]["spec"]["template"]["spec"]

    assert (spec["runtimeClassName"], spec["volumes"][-1]["name"]) == ("gvisor", "data")
    [container] = spec["containers"]
    assert container["volumeMounts"][-1] == mount and len(container["volumeMounts"]) > 1


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"containers": [{"name": "main", "image": "x"}]}, "containers[main].image='x' is what image="),
        ({"restartPolicy": "Always"}, "restartPolicy='Always' is what retry="),
        ({"tolerations": []}, "node=mlfn.Node(tolerations=...)"),
    ],
)
def test_a_part_that_says_what_an_option_says_is_refused_by_its_path(part: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.OptionError) as refused:
        train.on("kubernetes", pod=part).plan(1)

    assert said in str(refused.value)


@pytest.mark.parametrize("options", [{"namespace": 3}, {"context": ""}, {"pod": "x"}])
def test_an_option_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(errors.OptionError, match=rf"on\('kubernetes', {name}="):
        train.on("kubernetes", **options).plan(1)


def test_names_become_what_a_cluster_takes() -> None:
    assert label_value("größe of it") == "gr-e-of-it"
    assert label_value("_x_") == "x"
    assert secret_name("S3_CREDS") == "s3-creds"


def pod(status: dict[str, Any], *, deleted: bool = False) -> dict[str, Any]:
    metadata = {"name": "p", "labels": {}, **({"deletionTimestamp": "now"} if deleted else {})}
    return {"metadata": metadata, "status": status}


def with_state(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "state": state}], "conditions": [SCHEDULED]}


SCHEDULED = {"type": "PodScheduled", "status": "True"}


@pytest.mark.parametrize(
    ("status", "sort", "said"),
    [
        ({}, "room", "a node"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: too little cpu."}]},
            "room",
            "a node: 0/1 nodes: too little cpu",
        ),
        (with_state(waiting={"reason": "ErrImagePull", "message": "not found"}), "image", "its image: not found"),
        (
            with_state(waiting={"reason": "CreateContainerConfigError", "message": 'secret "a" not found'}),
            "start",
            'secret "a" not found',
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "message": '0/1: persistentvolumeclaim "a" not found'}
                ]
            },
            "claim",
            'persistentvolumeclaim "a" not found',
        ),
        (with_state(waiting={"reason": "ContainerCreating"}), "creating", "its container to be created"),
    ],
)
def test_what_a_pod_waits_for_is_said_in_the_clusters_words(status: dict[str, Any], sort: str, said: str) -> None:
    waiting = waiting_for(pod(status))

    assert waiting is not None and waiting.sort == sort and said in waiting.words


def test_a_pod_that_runs_waits_for_nothing() -> None:
    assert waiting_for(pod(with_state(running={}))) is None


@pytest.mark.parametrize(
    ("status", "deleted", "reason", "said"),
    [
        (with_state(terminated={"exitCode": 3}), False, Reason.ERROR, "exit code 3"),
        (with_state(terminated={"exitCode": 137}), False, Reason.ERROR, "signal 9, SIGKILL"),
        (with_state(terminated={"exitCode": 137, "reason": "OOMKilled"}), False, Reason.OOM, "mem=256Mi"),
        (with_state(terminated={"exitCode": 143, "message": '{"why": "timeout"}'}), False, Reason.TIMEOUT, "2 s"),
        (
            with_state(terminated={"exitCode": 65, "message": '{"python": "3.9", "wanted": "3.11"}'}),
            False,
            Reason.SKEW,
            "packed by Python 3.11",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            False,
            Reason.PREEMPTED,
            "low on memory",
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "message": "evicted by the API."}]},
            True,
            Reason.PREEMPTED,
            "evicted by the API",
        ),
        ({}, True, Reason.LOST, "deleted, and not by mlfn"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, False, Reason.NEVER_STARTED, "UnexpectedAdmission"),
        (
            with_state(terminated={"exitCode": 128, "reason": "StartError", "message": "no python"}),
            False,
            Reason.ERROR,
            "no python",
        ),
    ],
)
def test_each_end_has_its_reason_and_words(status: dict[str, Any], deleted: bool, reason: Reason, said: str) -> None:
    end = explain(PLAN, pod(status), is_deleted=deleted)

    assert end.reason is reason and said in end.message


def test_without_a_cluster_the_run_fails_with_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    error = train.with_options(secrets=mlfn.UNSET).on("kubernetes").submit(1).exception(30)

    assert isinstance(error, errors.PlaceError) and "KUBECONFIG" in str(error)


CONFIG = """
apiVersion: v1
kind: Config
current-context: one
clusters: [{name: one, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: one, user: {}}]
contexts: [{name: one, context: {cluster: one, user: one}}]
"""


def test_a_run_whose_cluster_gives_no_answer_says_so_while_it_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    monkeypatch.setenv("KUBECONFIG", str(config))

    run = train.with_options(secrets=mlfn.UNSET).on("kubernetes").submit(1)

    until = time.monotonic() + 30
    while not (said := mlfn.run(run.id).record.status):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "https://127.0.0.1:1" in said and run.state == "pending"


def test_an_unknown_context_names_those_there_are(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)

    with pytest.raises(errors.OptionError, match=r"context='two'.*one"):
        Connection(kubeconfig=str(config), context="two")


@pytest.mark.parametrize(
    ("status", "age", "said"),
    [({}, 5.0, False), ({}, 20.0, True), ({"conditions": [{"type": "Created"}]}, 20.0, False)],
)
def test_an_object_on_which_nobody_acts_asks_for_its_operator(status: dict[str, Any], age: float, said: bool) -> None:
    waiting = without_operator({"kind": "MPIJob", "status": status}, age)

    assert (waiting is not None) is said
    if waiting is not None:
        assert "the operator of MPIJobs" in waiting.words
        assert waiting.sort in LIMITS


KEPT = Companion(
    "kubernetes.dask.org/v1", "DaskCluster", "daskclusters", "team", {}, {"workers": 2, "adaptive": None, "image": "a"}
)


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({}, "DaskCluster 'team' is there in namespace 'ml', and mlfn has not made it: choose another name."),
        (
            {"mlfn.io/asked": '{"workers": 4, "image": "a", "mem": "1"}'},
            "DaskCluster 'team' in namespace 'ml' was made with workers=4, mem='1', and this run asks for workers=2, mem=None: ",
        ),
    ],
)
def test_a_kept_object_that_was_made_for_something_else_is_refused(annotations: dict[str, str], said: str) -> None:
    with pytest.raises(errors.OptionError, match=re.escape(said)):
        refuse_other(KEPT, {"annotations": annotations}, "ml")


def test_a_kept_object_that_was_made_for_the_same_is_taken() -> None:
    refuse_other(KEPT, {"annotations": {"mlfn.io/asked": '{"image": "a", "workers": 2}'}}, "ml")
