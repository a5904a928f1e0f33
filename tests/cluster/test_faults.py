"""What goes wrong in a cluster, each with a reason and words of its own."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.kubernetes import words
from mlfn.ui.cli.app import run_command_line
from tests.cluster.api import Namespace


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace(restricted=True)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def reach(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(namespace.write_kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr(words, "LIMITS", {**words.LIMITS, **dict.fromkeys(("image", "start", "refused"), 2.0)})
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", words.LIMITS)


@mlfn.function
def double(n: int) -> int:
    return 2 * n


@mlfn.function
def tell(ctx: mlfn.Context) -> str:
    return ctx.secret("some-token")[::-1]


@mlfn.function
def flood(megabytes: int) -> int:
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes * 1024):
        os.write(1, line)
    print("the last line", flush=True)
    return megabytes


@mlfn.function
def stop_the_first_process() -> None:
    import signal
    import time

    os.kill(1, signal.SIGKILL)  # not possible from within
    os.kill(1, signal.SIGTERM)
    time.sleep(30)


def failure(function: Any, *args: Any) -> tuple[str, str]:
    """Return the reason and the words of a run that fails."""
    run = function.on("kubernetes").submit(*args)
    error = run.exception(60)
    return str(run.record.reason), str(error)


def test_an_image_that_is_not_there_is_named() -> None:
    reason, said = failure(double.with_options(image="registry.invalid/none:1"), 1)

    assert reason == "error" and "registry.invalid/none:1" in said and "waited 2 s" in said


def test_a_secret_that_is_not_there_is_named() -> None:
    reason, said = failure(double.with_options(secrets=["no-such"]), 1)

    assert reason == "error" and 'secret "no-such" not found' in said


def test_what_admission_refuses_is_said() -> None:
    far = double.on("kubernetes", pod={"hostNetwork": True})
    run = far.submit(1)

    assert "violates PodSecurity" in str(run.exception(60)) and "host" in str(run.exception())


def test_what_the_api_server_refuses_is_said() -> None:
    run = double.on("kubernetes", namespace="no-such-namespace").submit(1)

    assert "no-such-namespace" in str(run.exception(60))


def test_a_secret_of_the_cluster_reaches_the_run(namespace: Namespace) -> None:
    namespace.make_secret("some-token", value="drowssap")

    run = tell.with_options(secrets=["some-token"]).on("kubernetes").submit()

    assert run.result(60) == "password"


def test_of_a_flood_of_output_the_ends_are_kept_and_the_result_arrives() -> None:
    run = flood.on("kubernetes").submit(100)

    assert run.result(90) == 100
    log = run.logs()
    assert len(log) < 4 << 20 and log.endswith("the last line\n")
    assert "bytes of output are left out here" in log


def test_a_handler_that_stops_the_first_process_is_told_so() -> None:
    reason, said = failure(stop_the_first_process)

    assert reason == "error" and "SIGTERM, which mlfn did not send" in said


def test_a_secret_is_kept_in_the_cluster_from_the_command_line(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def keep(value: str, key: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{value}\n"))
        return run_command_line(["secret", "set", "TO_KEEP", "--key", key, "--on", "kubernetes"])

    assert keep("a value", "token") == 0
    assert keep("another", "user") == 0  # beside what is there

    [kept] = [item for item in namespace.items("secrets") if item["metadata"]["name"] == "to-keep"]
    assert {key: base64.b64decode(value) for key, value in kept["data"].items()} == {
        "token": b"a value",
        "user": b"another",
    }
    assert "a value" not in capsys.readouterr().out


def test_a_secret_in_a_namespace_without_rights_is_refused(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "elsewhere"
    config.write_text(
        (tmp_path / "kubeconfig").read_text().replace(f"namespace: {namespace.name}", "namespace: default")
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setattr("sys.stdin", io.StringIO("a value\n"))

    assert run_command_line(["secret", "set", "TO_KEEP", "--on", "kubernetes"]) != 0
    assert "to-keep" in (said := capsys.readouterr().err) and "forbidden" in said and "a value" not in said
