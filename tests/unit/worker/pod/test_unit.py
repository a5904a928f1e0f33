"""The first process of a pod, started here with folders of a test's in place of the pod's."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.artifacts.codec import Codec
from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.kubernetes.objects import Wanted
from mlfn.backends.places.kubernetes.staging import Staged
from mlfn.dispatch.planner import prepare
from mlfn.errors import StorageError
from mlfn.settings import current as settings
from mlfn.spec.plan import Selected
from mlfn.worker.pod import entry, folders
from mlfn.worker.pod.stream import Shipped, StreamReader
from mlfn.worker.task import Task

MARK = "\x1emark:"
START = """
import sys
from mlfn.worker.pod import folders
folders.TASK, folders.FOLDER, folders.TERMINATION = sys.argv[1:]
from mlfn.worker.pod.unit import run
run()
"""


class Pod:
    """What a unit left: its exit code, its log, its events, its files and its summary."""

    def __init__(self, done: subprocess.CompletedProcess[bytes], summary: dict[str, Any]) -> None:
        reader = StreamReader(MARK)
        parts = [*reader.feed(done.stdout), *reader.end()]
        self.code, self.summary = done.returncode, summary
        self.log = b"".join(part for part in parts if isinstance(part, bytes)).decode()
        self.events = [part for part in parts if isinstance(part, dict)]
        self.files = {part.path: part.content for part in parts if isinstance(part, Shipped)}
        self.stderr = done.stderr.decode()

    @property
    def outcome(self) -> dict[str, Any]:
        """The last event, which is the end."""
        assert self.events and self.events[-1]["event"] == "finished", (self.events, self.log, self.stderr)
        return self.events[-1]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Pod]:
    """Return what runs a function as a pod does."""

    def run(function: Any, *, grace: float = 1.0, place: str = "local", **params: Any) -> Pod:
        task_folder, folder, termination = tmp_path / "task", tmp_path / "run", tmp_path / "termination"
        described, signature = function._describe(), function.__mlfn_signature__
        key = settings.signing_key()
        payload = described.capture.payload(key)
        prepared = prepare(
            described.spec,
            payload=payload,
            capture=described.capture,
            signature=signature,
            place=Selected(place, {}),
        )
        data = tmp_path / "data"
        (data / "payloads").mkdir(parents=True)
        (data / "payloads" / prepared.plan.payload).write_bytes(payload)
        artifacts = ArtifactStore(data / "artifacts")
        config = PlaceConfig("client", data, artifacts.location, key, data / "secrets", 1, False, grace, 1.0)
        codec = Codec(key, artifacts)
        encoded = {name: codec.encode("a" * 32, name, value) for name, value in params.items()}
        wanted = Wanted("e" * 32, "here", prepared.plan, MARK, grace)
        staged = Staged(wanted, config, [Task("a" * 32, 1, encoded)], folder=str(folder))
        task_folder.mkdir()
        folder.mkdir()
        units = gzip.compress(json.dumps([task.to_json() for task in staged.tasks]).encode())
        files = {"assignment.json": json.dumps(staged.assignment).encode(), "units": units, **staged.files}
        for name, content in files.items():
            (task_folder / name).write_bytes(content)
        command = [sys.executable, "-c", START, str(task_folder), str(folder), str(termination)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return Pod(done, json.loads(termination.read_text()) if termination.exists() else {})

    return run


@mlfn.function
def add(x: int, y: int = 2) -> int:
    print("adds", x)
    return x + y


@mlfn.function
def read(path: Path) -> str:
    return path.read_text()


@mlfn.function
def large(size: int) -> str:
    import random

    return random.Random(1).randbytes(size // 2).hex()


@mlfn.function
def leave(code: int) -> None:
    import os

    print("leaves")
    os._exit(code)


@mlfn.function
def stubborn() -> None:
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("stays", flush=True)
    time.sleep(60)


def test_a_result_comes_through_the_log(start: Callable[..., Pod]) -> None:
    pod = start(add, x=3)

    assert (pod.code, pod.log) == (0, "adds 3\n")
    assert pod.outcome["state"] == "succeeded" and pod.outcome["outputs"][0]["inline"] == 5
    assert pod.summary["lines"] == len(pod.events) and pod.summary["state"] == "succeeded"


def test_a_large_result_comes_as_a_file(start: Callable[..., Pod]) -> None:
    pod = start(large, size=200_000)

    [output] = pod.outcome["outputs"]
    assert len(pod.files[output["path"]]) >= 200_000


def test_a_result_beyond_what_a_log_holds_names_its_size_and_the_way_out(start: Callable[..., Pod]) -> None:
    pod = start(large, size=12 << 20)

    assert pod.code == 1 and pod.files == {}
    assert pod.outcome["reason"] == "storage"
    assert "12582912 bytes" in pod.outcome["failure"]["message"] and "artifacts" in pod.outcome["failure"]["message"]


def test_a_file_that_a_parameter_names_comes_along(start: Callable[..., Pod], tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("some words")

    pod = start(read, path=tmp_path / "words.txt")

    assert pod.outcome["outputs"][0]["inline"] == "some words"


def test_a_process_that_leaves_without_an_outcome_has_its_exit_code_in_the_summary(start: Callable[..., Pod]) -> None:
    pod = start(leave, code=3)

    assert (pod.code, pod.log) == (3, "leaves\n")
    assert [event["event"] for event in pod.events] == ["started"]
    assert pod.summary["code"] == 3 and "state" not in pod.summary


@mlfn.function(kind=mlfn.Spark(), env={"JAVA_HOME": "/no/java"})
def drive() -> None: ...


def test_what_a_kind_cannot_prepare_is_the_runs_own_failure(start: Callable[..., Pod]) -> None:
    pod = start(drive, place="kubernetes")

    assert (pod.code, pod.outcome["state"]) == (1, "failed")
    assert pod.outcome["failure"]["message"].startswith("kind='spark' needs ")


def test_a_run_past_its_timeout_that_ignores_sigterm_is_killed_after_the_grace_time(start: Callable[..., Pod]) -> None:
    pod = start(stubborn.with_options(timeout=0.2), grace=0.3)

    assert (pod.code, pod.log) == (128 + 9, "stays\n")
    assert (pod.summary["why"], pod.summary["signal"]) == ("timeout", 9)


def test_a_requirement_that_cannot_be_installed_fails_the_run_with_what_the_installer_said(
    start: Callable[..., Pod],
) -> None:
    pod = start(
        add.with_options(requirements=["mlfn-no-such-package"], env={"PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"}), x=1
    )

    assert pod.code == 1 and "installs mlfn-no-such-package" in pod.log
    assert pod.outcome["failure"]["type"].endswith("EnvironmentBuildError")
    assert "mlfn-no-such-package" in pod.outcome["failure"]["message"]


def test_parameters_that_no_secret_holds_are_refused_with_their_size(
    start: Callable[..., Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlfn.backends.places.kubernetes.staging.MOST", 100)

    with pytest.raises(StorageError, match=r"add: the parameters of 1 runs have \d+, compressed: at most 100 travel"):
        start(add, x=1)


def test_the_first_thing_that_runs_knows_the_folders_by_itself() -> None:
    assert (entry.TASK, entry.TERMINATION) == (folders.TASK, folders.TERMINATION)
