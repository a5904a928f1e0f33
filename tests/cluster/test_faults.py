"""What goes wrong in a cluster, each with a reason and words of its own."""

from __future__ import annotations

import base64
import io
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.kubernetes import words
from mlfn.ui.cli.app import run_command_line
from tests.cluster.api import KUBECONFIG, Namespace
from tests.ledger import wait_until

pytestmark = pytest.mark.usefixtures("reach")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for what never comes for two seconds only."""
    monkeypatch.setattr(
        words, "LIMITS", {**words.LIMITS, **dict.fromkeys(("image", "start", "refused", "mount", "claim"), 2.0)}
    )
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", words.LIMITS)


@mlfn.function
def double(n: int) -> int:
    return 2 * n


@mlfn.function
def tell(ctx: mlfn.Context) -> str:
    return ctx.secret("some-token")[::-1]


@mlfn.function
def flood(megabytes: int, pause: float) -> int:
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes):
        os.write(1, line * 1024)
        time.sleep(pause)
    print("the last line", flush=True)
    return megabytes


@mlfn.function
def stop_the_first_process() -> None:
    import signal
    import time

    os.kill(1, signal.SIGKILL)  # not possible from within
    os.kill(1, signal.SIGTERM)
    time.sleep(30)


@mlfn.function
def rest(seconds: float, ctx: mlfn.Context) -> str:
    ctx.log_metric("begun", 1)
    time.sleep(seconds)
    return "rested"


@mlfn.function
def kill_the_first_process(ctx: mlfn.Context) -> None:
    import signal

    ctx.log_metric("begun", 1)
    time.sleep(2)  # in which it passes that on
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


@mlfn.function
def as_many(mebibytes: int) -> bytes:
    return os.urandom(mebibytes << 20)


@mlfn.function
def take(mebibytes: int) -> int:
    return len(b"x" * (mebibytes << 20)) >> 20


@mlfn.function
def look_around() -> dict[str, Any]:
    found = {path.name: path.read_text() for path in (Path("/config/depth"), Path("/token/value"))}
    Path("/claim/kept").write_text("kept")
    shared = os.statvfs("/dev/shm")
    return {**found, "shared": shared.f_blocks * shared.f_frsize, "home": sorted(os.listdir("/claim"))}


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


@pytest.mark.parametrize(("megabytes", "pause"), [(200, 0.0), (20, 0.5)])
def test_of_a_flood_of_output_the_ends_are_kept_and_the_result_arrives(megabytes: int, pause: float) -> None:
    run = flood.on("kubernetes").submit(megabytes, pause)

    assert run.result(120) == megabytes
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


def test_a_result_of_7_mib_comes_through_the_log() -> None:
    assert len(as_many.on("kubernetes").submit(7).result(120)) == 7 << 20


def test_a_supervisor_that_is_killed_is_named() -> None:
    # Without a shared namespace of processes the supervisor is the first one, which no other can kill.
    run = kill_the_first_process.on("kubernetes", pod={"shareProcessNamespace": True}).submit()

    assert "signal 9, SIGKILL" in str(run.exception(60)) and run.record.reason == "error"
    assert run.metrics["begun"] == 1


def test_a_client_whose_clock_is_an_hour_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    limited = rest.with_options(timeout=30)

    run = limited.on("kubernetes").submit(1)

    assert run.result(60) == "rested"
    assert 1 <= run.record.ended - run.record.started < 30, "both are the pod's"


def test_a_namespace_that_is_being_deleted_takes_no_run() -> None:
    ending = Namespace()
    body = {"metadata": {"name": "kept", "finalizers": ["mlfn.test/kept"]}}
    ending.api.post(ending.path("configmaps"), body)
    ending.close()
    time.sleep(1)  # until the API server knows
    try:
        run = double.on("kubernetes", namespace=ending.name, kubeconfig=KUBECONFIG).submit(1)
        said = str(run.exception(60))
    finally:
        ending.api.patch(f"{ending.path('configmaps')}/kept", {"metadata": {"finalizers": None}})

    assert run.record.reason == "error" and "being terminated" in said


def test_a_login_that_has_expired_is_waited_for(namespace: Namespace) -> None:
    config = Path(os.environ["KUBECONFIG"])
    working = config.read_text()
    with namespace.passing_token() as token:
        config.write_text(re.sub("token: .*", f"token: {token}", working))
        before = rest.on("kubernetes").submit(20)
        wait_until(lambda: before.metrics, timeout=60)

    mlfn.init(grace=9)  # another session, which reads the kubeconfig anew
    run = double.on("kubernetes").submit(3)
    said = wait_until(lambda: mlfn.run(run.id).record.status, timeout=60)
    assert "a login that the cluster at" in said and "Unauthorized" in said
    config.write_text(working)

    assert run.result(60) == 6
    assert before.result(60) == "rested"


def test_volumes_of_each_sort_come_by_a_part_of_the_pods_spec(namespace: Namespace, tmp_path: Path) -> None:
    namespace.make_secret("token", value="of the cluster")
    namespace.api.post(namespace.path("configmaps"), {"metadata": {"name": "config"}, "data": {"depth": "4"}})
    namespace.api.post(namespace.path("serviceaccounts"), {"metadata": {"name": "trainer"}})
    claimed = tmp_path / "claimed"
    claimed.mkdir()
    claimed.chmod(0o777)
    namespace.make_claim("claim", claimed)
    volumes: dict[str, dict[str, Any]] = {
        "/config": {"configMap": {"name": "config"}},
        "/token": {"secret": {"secretName": "token"}},
        "/claim": {"persistentVolumeClaim": {"claimName": "claim"}},
        "/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    }
    mounts = [{"name": path.strip("/").replace("/", "-"), "mountPath": path} for path in volumes]
    pod = {
        "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [{"name": mount["name"], **volumes[mount["mountPath"]]} for mount in mounts],
        "containers": [
            {"name": "main", "volumeMounts": mounts, "resources": {"limits": {"ephemeral-storage": "1Gi"}}},
        ],
    }

    found = look_around.with_options(mem="100Mi").on("kubernetes", pod=pod).submit().result(60)

    assert found == {"depth": "4", "value": "of the cluster", "shared": 16 << 20, "home": ["kept"]}
    assert (claimed / "kept").read_text() == "kept"


def test_a_tasks_secret_that_is_deleted_before_its_pod_begins_is_said(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place._ASK_WHY", 0.5)
    with namespace.quota(pods="0"):
        run = double.on("kubernetes").submit(1)
        wait_until(lambda: "exceeded quota" in (mlfn.run(run.id).record.status or ""), timeout=60)
        namespace.api.delete(f"{namespace.path('secrets')}/{run.attempts[-1].execution}")

    wait_until(lambda: "deleted by somebody else" in (mlfn.run(run.id).record.status or ""), timeout=60)
    assert "waited 2 s for what its pod mounts" in str(run.exception(60)) and run.record.reason == "error"


def test_a_claim_that_is_not_there_is_named() -> None:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "no-such"}}
    run = double.on("kubernetes", pod={"volumes": [volume]}).submit(1)

    assert 'persistentvolumeclaim "no-such" not found' in str(run.exception(60)) and run.record.reason == "error"


def test_an_attempt_after_an_oom_kill_has_twice_the_memory() -> None:
    greedy = take.with_options(mem="100Mi", retry=mlfn.Retry(2, delay=0, on=["oom"], mem="x2"))

    run = greedy.on("kubernetes").submit(150)

    assert run.result(90) == 150
    assert [attempt.reason for attempt in run.attempts] == ["oom", None]
