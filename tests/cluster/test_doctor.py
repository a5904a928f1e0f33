"""`mlfn doctor --on kubernetes`, as users with and without the rights that runs take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfn.ui.cli.app import run_command_line
from tests.cluster.api import Namespace


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    made = Namespace(restricted=True)
    monkeypatch.setenv("KUBECONFIG", str(made.write_kubeconfig(tmp_path / "kubeconfig")))
    yield made
    made.close()


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Return what each check says, by its name."""
    run_command_line(["--json", "doctor", "--on", "kubernetes"])
    checks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["checks"]
    return {check["name"]: (check["verdict"], check["text"]) for check in checks}


def test_a_user_with_the_role_may_run(namespace: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)

    assert found["cluster"][0] == "ok" and namespace.name in found["cluster"][1]
    assert found["permissions"][0] == "ok"
    assert found["worker on kubernetes"][0] == "ok"
    assert found["quota"] == ("note", found["quota"][1])  # the role does not read quotas


def test_a_verb_that_is_missing_is_named(namespace: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{namespace.path('roles')}/mlfn"
    rules = [rule for rule in namespace.api.get(path)["rules"] if "configmaps" not in rule["resources"]]
    namespace.api.patch(path, {"rules": rules})

    found = findings(capsys)

    assert found["permissions"][0] == "fails"
    assert (
        f"may not create configmaps, list configmaps, delete configmaps in namespace {namespace.name}"
        in found["permissions"][1]
    )
    assert "mlfn rbac --namespace" in found["permissions"][1]
    assert "worker on kubernetes" not in found


def test_what_the_probe_waits_for_is_said(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlfn.ui.cli.diagnosis._WORKER_SECONDS", 20)
    monkeypatch.setenv("MLFN_IMAGE", "registry.invalid/none:1")

    verdict, said = findings(capsys)["worker on kubernetes"]

    assert verdict == "fails" and "had not answered after 20 s: it waits for its image: " in said
    assert "registry.invalid/none:1" in said


def test_a_quota_that_is_used_up_is_named(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlfn.ui.cli.diagnosis._WORKER_SECONDS", 15)
    path = f"{namespace.path('roles')}/mlfn"
    rules = namespace.api.get(path)["rules"]
    namespace.api.patch(
        path, {"rules": [*rules, {"apiGroups": [""], "resources": ["resourcequotas"], "verbs": ["list"]}]}
    )

    with namespace.quota(pods="0"):
        found = findings(capsys)

    assert found["quota"] == ("note", "nearly used up: pods 0 of 0; runs wait until there is room.")
    assert "had not answered after 15 s: it waits for a pod: " in found["worker on kubernetes"][1]
    assert "exceeded quota" in found["worker on kubernetes"][1]


def test_a_cluster_without_an_answer_is_named(namespace: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    with namespace.forwarder.cut():
        found = findings(capsys)

    assert found["cluster"][0] == "fails" and "no answer of https://127.0.0.1" in found["cluster"][1]
