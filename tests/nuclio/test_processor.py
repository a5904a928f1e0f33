"""Services in Nuclio's own processor: what they are to users, and what users are kept from."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import mlfn
from mlfn.errors import OptionError, ServiceError
from mlfn.host.identity import ProcessIdentity
from mlfn.serving.front import COUNTS, WORKERS
from mlfn.serving.server.statistics import Statistics
from tests.architecture.source import ROOT
from tests.ledger import wait_until
from tests.nuclio.conftest import GIVEN


@mlfn.function(kind="nuclio")
def double(x: int) -> int:
    return 2 * x


@mlfn.function(kind="nuclio")
def pid(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def keeper_of(service: mlfn.Service) -> int:
    found: int = service._record.handle["process"]["pid"]
    return found


def processor_of(service: mlfn.Service) -> int:
    pid = keeper_of(service)
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def workers_of(service: mlfn.Service) -> set[int]:
    """Return the processes of Python; none while the processor is started again."""
    found = [json.loads(path.read_bytes())["pid"] for path in (folder_of(service) / WORKERS).glob("[!.]*")]
    return {pid for pid in found if not is_gone(pid)}


def folder_of(service: mlfn.Service) -> Path:
    return Path(service._record.handle["folder"])


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def answers(service: mlfn.Service, **params: Any) -> bool:
    try:
        return service.invoke(**params).status == 200
    except ServiceError:
        return False


def raw(service: mlfn.Service, data: bytes) -> bytes:
    """Send bytes, and return what comes back until the other side closes."""
    parts = urlsplit(service.url)
    found = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(data)
        while more := connection.recv(65536):
            found += more
    return found


# -- the life of a service
def test_the_processor_serves_and_outlives_its_client(tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(
        "import mlfn\n"
        "@mlfn.function(kind='nuclio')\n"
        "def triple(x: int) -> int:\n    return 3 * x\n"
        "print(triple.deploy().url)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environ, check=True)

    service = mlfn.service("triple")
    assert service.url == done.stdout.strip()
    assert service(x=4) == 12
    assert service.invoke(x="four").status == 400
    assert service.invoke(x=1).headers["Server"] == "nuclio"
    assert os.readlink(f"/proc/{processor_of(service)}/exe") == os.path.realpath(GIVEN["MLFN_NUCLIO_PROCESSOR"])


def test_it_is_told_apart_from_before_and_deleted_soon() -> None:
    service = double.deploy()
    assert not double.deploy().is_new
    process, processor = ProcessIdentity(**service._record.handle["process"]), processor_of(service)

    begun = time.monotonic()
    service.delete()

    # The processor itself waits 15 seconds, even where nothing is under way.
    assert time.monotonic() - begun < 5
    assert service.state == "deleted"
    assert process.state() == "gone"
    assert is_gone(processor)


def test_another_version_answers_at_an_address_that_is_found() -> None:
    first = double.deploy()
    before = processor_of(first)
    second = double.with_options(env={"MODE": "fast"}).deploy()

    assert [version.number for version in second.versions] == [1, 2]
    assert is_gone(before)
    assert first(x=4) == second(x=4) == 8
    assert second.rollback().versions[-1].hash == first.versions[0].hash


def test_another_version_keeps_the_port_that_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    kind = mlfn.Nuclio(triggers=[mlfn.Http(port=port)])
    first = double.with_options(kind=kind).deploy()
    second = double.with_options(kind=kind, env={"MODE": "fast"}).deploy()

    assert first.url == second.url == f"http://127.0.0.1:{port}"
    assert second(x=4) == 8


def test_a_beginning_that_fails_says_why_and_the_old_goes_on(tmp_path: Path) -> None:
    flag = tmp_path / "broken"

    def init_context(context: Any) -> None:
        if flag.exists():
            raise RuntimeError("no model at s3://models")

    from mlfn.worker.classic import ClassicHandler

    def handler(context: Any, event: Any) -> str:
        return "well"

    function = mlfn.function(ClassicHandler(handler, init_context), name="classify", kind="nuclio")
    service = function.deploy()
    flag.touch()

    with pytest.raises(ServiceError, match=r"The service classify did not begin(.|\n)*no model at s3://models") as said:
        function.with_options(env={"A": "b"}).deploy()
    assert "goroutine" not in str(said.value)
    assert service.post(b"x").text == "well"
    assert len(service.versions) == 1


def test_a_processor_without_its_wrapper_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lonely = tmp_path / "processor"
    lonely.symlink_to(GIVEN["MLFN_NUCLIO_PROCESSOR"])
    monkeypatch.setenv("MLFN_NUCLIO_PROCESSOR", str(lonely))
    monkeypatch.delenv("MLFN_NUCLIO_WRAPPER", raising=False)

    with pytest.raises(
        OptionError, match=r"set MLFN_NUCLIO_WRAPPER to the file _nuclio_wrapper\.py of the same version"
    ):
        double.deploy()


def test_it_is_scaled() -> None:
    service = pid.deploy()
    service.scale(3)

    wait_until(lambda: len(workers_of(service)) == 3 and answers(service), timeout=30)

    assert service() in workers_of(service)
    assert service.replicas == 3


def test_logs_metrics_and_pages_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PASSWORD", "hunter2-hunter2")

    @mlfn.function(kind="nuclio", secrets=["API_PASSWORD"])
    def leaking(ctx: mlfn.Context, x: int) -> int:
        ctx.logger.info("the password is %s", ctx.secret("API_PASSWORD"))
        ctx.log_metric("x", x)
        raise ValueError(ctx.secret("API_PASSWORD"))

    service = leaking.deploy()
    reply = service.invoke(x=4)

    assert reply.status == 500 and b"hunter2" not in reply.body and b"Traceback" not in reply.body
    lines = list(service.logs())
    assert not any("hunter2" in line for line in lines) and any("the password is ***" in line for line in lines)
    records = [json.loads(line) for line in lines if line.startswith("{")]
    [record] = [item for item in records if item.get("request") == reply.json()["request"]]
    assert "ValueError: ***" in record["traceback"]
    [line] = wait_until(lambda: list(service.logs(which="access")))
    assert json.loads(line)["status"] == 500
    assert service.metrics['mlfn_requests_total{function="leaking",status="500"}'] == 1
    assert service.metrics['mlfn_metric{function="leaking",name="x",worker="0"}'] == 4
    assert service.get("/openapi.json").json()["info"]["title"] == "leaking"
    assert service.get("/docs").content_type == "text/html; charset=utf-8"


def test_secrets_and_configuration_are_in_no_file_and_at_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORE_TOKEN", "sesame-open")
    http_ = mlfn.Http(host="0.0.0.0", token=mlfn.Secret("SCORE_TOKEN"), cors=["https://app.example"], rate=1000)
    service = double.with_options(kind=mlfn.Nuclio(triggers=[http_]), env={"MODE": "fast"}).deploy()

    assert service(x=1) == 2
    for wrong in ("", "Bearer wrong", "sesame-open"):
        refused = service.post({"x": 1}, headers={"Authorization": wrong})
        assert (refused.status, refused.headers["Www-Authenticate"]) == (401, "Bearer")
    allowed = service.post({"x": 1}, headers={"Origin": "https://app.example"})
    assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
    assert not any(b"sesame" in path.read_bytes() for path in folder_of(service).rglob("*") if path.is_file())
    assert ports_of(processor_of(service)) == {urlsplit(service.url).port}


def ports_of(pid: int) -> set[int]:
    """Return the ports of TCP at which a process listens."""
    inodes = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


# -- what the processor does, and users are kept from
def test_a_port_that_another_process_has_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=f"Nothing can listen at 127.0.0.1:{port}"):
            double.with_options(kind=mlfn.Nuclio(triggers=[mlfn.Http(port=port)])).deploy()


@pytest.mark.parametrize("returned", [[1, 2, 3], [], [{"a": 1}, {"b": 2}]])
def test_a_list_is_one_answer_and_the_worker_goes_on(returned: list[Any]) -> None:
    @mlfn.function(kind="nuclio")
    def listing(context: Any, event: Any) -> Any:
        return returned

    service = listing.deploy()

    for _ in range(3):
        assert service.post(b"x", timeout=5).json() == returned


def test_a_long_record_shifts_no_answer() -> None:
    @mlfn.function(kind="nuclio")
    def talking(context: Any, event: Any) -> str:
        number = event.body["number"]
        if number % 3 == 0:
            context.logger.info("r" * 5_000_000)
        threads = [threading.Thread(target=context.logger.info, args=("r" * 2000,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return str(number)

    service = talking.deploy()

    assert [service.post({"number": number}).text for number in range(10)] == [str(number) for number in range(10)]
    assert max(map(len, service.logs())) < 70_000


def test_each_request_has_an_id_of_its_own() -> None:
    @mlfn.function(kind="nuclio")
    def ids(context: Any, event: Any) -> str:
        return str(event.id)

    service = ids.deploy()

    assert len({service.post(b"x").text for _ in range(5)}) == 5


def test_a_client_does_not_choose_its_trigger() -> None:
    @mlfn.function(kind="nuclio")
    def kind_of(context: Any, event: Any) -> str:
        return f"{event.trigger.kind} {event.trigger.name}"

    service = kind_of.deploy()
    cloud = {
        "CE-CloudEventsVersion": "0.1",
        "CE-EventType": "t",
        "CE-EventID": "1",
        "CE-Source": "cron",
    }

    assert service.post(b"x", headers=cloud).text == "http default-http"


def test_a_header_has_no_file_of_this_machine_sent() -> None:
    @mlfn.function(kind="nuclio")
    def echo(context: Any, event: Any) -> Any:
        return context.Response(body="mine", headers=event.headers)

    service = echo.deploy()
    reply = service.post(b"x", headers={"X-nuclio-filestream-path": "/etc/passwd"})

    assert reply.text == "mine"
    assert "X-Nuclio-Filestream-Path" not in reply.headers


def test_bytes_that_are_no_utf8_are_no_failure() -> None:
    @mlfn.function(kind="nuclio")
    def header(context: Any, event: Any) -> str:
        return f"{event.get_header('x-name')} {event.fields['q']}"

    service = header.deploy()
    host = urlsplit(service.url).netloc.encode()
    answer = raw(
        service,
        b"POST /?q=%ff HTTP/1.1\r\nHost: "
        + host
        + b"\r\nX-Name: \xe9t\xe9\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    )

    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert answer.endswith("été ÿ".encode())


def test_numbers_are_headers_too() -> None:
    @mlfn.function(kind="nuclio")
    def counting(context: Any, event: Any) -> Any:
        return context.Response(body="x", headers={"X-Count": 7, "X-Flag": True})

    reply = counting.deploy().post(b"")

    assert (reply.headers["X-Count"], reply.headers["X-Flag"]) == ("7", "True")


def test_a_time_limit_holds_from_the_first_second() -> None:
    @mlfn.function(kind=mlfn.Nuclio(triggers=[mlfn.Http(wait=5)]), timeout=1.0)
    def sleepy(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    service = sleepy.deploy()
    assert service(seconds=0.5) == 0.5  # the processor's own clock would end this one
    begun = time.monotonic()
    reply = service.invoke(seconds=30)

    assert time.monotonic() - begun < 8
    assert (reply.status, "time limit of 1 seconds" in reply.json()["error"]) == (408, True)
    assert service(seconds=0) == 0


def test_a_handler_that_swallows_its_limit_is_replaced_by_the_processor() -> None:
    @mlfn.function(kind="nuclio", timeout=1.0)
    def stubborn(context: Any, event: Any) -> str:
        until = time.monotonic() + (60 if event.body == b"hang" else 0)
        while time.monotonic() < until:
            try:
                time.sleep(0.1)
            except BaseException:  # noqa: BLE001 - it is stubborn
                continue
        return str(os.getpid())

    service = stubborn.deploy()
    first = service.post(b"").text
    reply = service.post(b"hang", timeout=40)

    assert (reply.status, "timed out" in reply.text) == (408, True)
    wait_until(lambda: service.post(b"").status == 200, timeout=30)
    assert service.post(b"").text != first


@pytest.mark.parametrize("how", ["exit", "fail", "kill", "memory"])
def test_a_worker_that_ends_is_replaced(how: str) -> None:
    @mlfn.function(kind="nuclio", mem="1Gi" if how == "memory" else None)
    def ending(how: str = "") -> int:
        if how == "exit":
            os._exit(0)  # the processor would answer 500 to all that come after
        if how == "fail":
            os._exit(3)  # the processor panics
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "memory":
            return len([bytes(1 << 26) for _ in range(100)])
        return os.getpid()

    service = ending.deploy()
    first = service()
    assert not answers(service, how=how)

    wait_until(lambda: answers(service) and service() != first, timeout=30)
    assert any("it is started again" in line for line in service.logs())
    assert service.state == "ready"


def test_a_processor_that_is_killed_is_replaced_and_ends_with_its_keeper() -> None:
    service = double.deploy()
    os.kill(processor_of(service), signal.SIGKILL)
    wait_until(lambda: answers(service, x=1), timeout=30)

    processor = processor_of(service)
    os.kill(keeper_of(service), signal.SIGKILL)
    wait_until(lambda: is_gone(processor))
    assert service.state == "gone"
    assert double.deploy()(x=1) == 2


def test_what_has_begun_is_answered_at_the_end() -> None:
    service = pid.deploy()
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(service(seconds=1.5)))
    asking.start()
    wait_until(lambda: service_is_busy(service))
    service.delete()
    asking.join()

    assert len(found) == 1


def service_is_busy(service: mlfn.Service) -> bool:
    """Say whether the only worker handles an event: its counts are in memory that this process can read too."""
    return Statistics(1, folder_of(service) / COUNTS)[0].busy_since > 0


def test_no_sockets_are_left() -> None:
    [worker] = workers_of(double.deploy())
    given = Path(f"/proc/{worker}/cmdline").read_text().split("\0")
    sockets = [Path(item) for item in given if item.endswith(".sock")]

    assert len(sockets) == 2
    assert not any(path.exists() for path in sockets)


def test_a_large_body_gets_413() -> None:
    service = double.deploy()

    reply = service.post(bytes(5_000_000), headers={"Content-Type": "application/octet-stream"})
    assert (reply.status, b"4194304 bytes" in reply.body) == (413, True)


def test_strangers_are_refused() -> None:
    service = double.deploy()

    assert service.post({"x": 1}, headers={"Host": "evil.example"}).status == 403
    assert service.post({"x": 1}, headers={"Origin": "https://evil.example"}).status == 403
    assert service.get("/__internal/who").status == 404
    assert service.request("GET", "/__internal/who", headers={"X-Mlfn-Internal": "guessed"}).status == 403


def test_handlers_may_run_loops_and_are_in_the_main_thread() -> None:
    @mlfn.function(kind="nuclio")
    def looping(x: int) -> str:
        import asyncio

        async def later() -> str:
            return f"{threading.current_thread().name} {x}"

        return asyncio.run(later())

    assert looping.deploy()(x=1) == "MainThread 1"


def test_requests_by_many_at_a_time_get_their_own_answers() -> None:
    service = double.with_options(kind=mlfn.Nuclio(workers=2)).deploy()
    address = urlsplit(service.url).netloc
    wrong: list[Any] = []

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        for x in range(first, first + 100):
            connection.request("POST", "/", body=json.dumps({"x": x}), headers={"Content-Type": "application/json"})
            body = connection.getresponse().read()
            if body != str(2 * x).encode():
                wrong.append((x, body))
        connection.close()

    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


# -- other triggers
def test_cron_events_come_and_its_service_can_be_asked(tmp_path: Path) -> None:
    path = str(tmp_path / "ticks")
    kind = mlfn.Nuclio(triggers=[mlfn.Cron(interval=0.5, body=json.dumps({"n": 1}))])

    @mlfn.function(kind=kind)
    def tick(n: int) -> int:
        with open(path, "a") as file:
            file.write(f"{n}\n")
        return n

    service = tick.deploy()

    wait_until(lambda: Path(path).exists() and len(Path(path).read_text().splitlines()) >= 3)
    assert service(n=2) == 2
    assert any("tick by cron: 200" in line for line in service.logs())


# -- runs
def test_a_run_is_executed_by_the_service() -> None:
    run = double.submit(4)

    assert run.result() == 8
    assert double.grid(x=[1, 2, 3]).submit().result() == [2, 4, 6]
    assert mlfn.service("double")(x=5) == 10
