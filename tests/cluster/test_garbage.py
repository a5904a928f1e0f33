"""`mlfn gc --on kubernetes`: what dead clients left in a namespace goes, and nothing else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.kubernetes.objects import EXECUTION, HOME
from mlfn.dispatch.session import current_session
from mlfn.ui.cli.app import run_command_line
from tests.cluster.api import Namespace
from tests.ledger import wait_until

pytestmark = pytest.mark.usefixtures("reach")


@mlfn.function
def wait(seconds: float) -> None:
    import time

    time.sleep(seconds)


def copy_of(namespace: Namespace, job: dict[str, Any], name: str, home: str) -> None:
    """Create a Job as a client of a data folder has, which nothing knows any more."""
    labels = {**job["metadata"]["labels"], EXECUTION: name, HOME: home}
    pod = {"containers": [{"name": "main", "image": "python:3.11-slim", "command": ["sleep", "60"]}]}
    secure = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod["containers"][0]["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}  # type: ignore[dict-item]
    spec = {"restartPolicy": "Never", "securityContext": secure, **pod}
    made = {"metadata": {"name": name, "labels": labels}, "spec": {"template": {"metadata": {}, "spec": spec}}}
    namespace.api.post(namespace.path("jobs"), made)


def test_what_dead_clients_left_is_listed_then_removed(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlfn.dispatch.remains.GRACE", 0.0)
    run = wait.on("kubernetes").submit(8)
    wait_until(lambda: namespace.items("jobs"), timeout=60)
    [job] = namespace.items("jobs")
    home = job["metadata"]["labels"][HOME]
    copy_of(namespace, job, "forgotten", home)
    copy_of(namespace, job, "of-others", "of-0123456789abcdef")
    copy_of(namespace, job, "idle", "of-0123456789abcdef")
    with closing(sqlite3.connect(current_session().folder / "mlfn.db")) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(executions)")]
        row = dict(zip(columns, connection.execute("SELECT * FROM executions").fetchone(), strict=True))
        values = {**row, "id": "idle", "client": "dead"}
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO executions ({', '.join(columns)}) VALUES ({marks})", [*values.values()])

    def collect(*options: str) -> list[str]:
        assert run_command_line(["--json", "gc", "--on", "kubernetes", *options]) == 0
        removed = json.loads(capsys.readouterr().out)["removed"]
        return sorted(item["name"] for item in removed if item["kind"] == "object")

    expected = [f"Job {namespace.name}/forgotten", f"Job {namespace.name}/idle"]
    assert collect("--dry-run") == expected and len(namespace.items("jobs")) == 4
    assert collect("--yes") == expected
    wait_until(lambda: len(namespace.items("jobs")) == 2, timeout=60)
    assert collect("--yes") == []
    assert run.result(60) is None
    wait_until(lambda: [item["metadata"]["name"] for item in namespace.items("jobs")] == ["of-others"], timeout=60)
