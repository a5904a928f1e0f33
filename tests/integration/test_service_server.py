"""The embedded server on real sockets: bad clients, bad handlers, its end, and two deploys at a time."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import mlfn
from mlfn.errors import MissingExtraError, NotFoundError, OptionError, ServiceError
from mlfn.host.identity import ProcessIdentity
from mlfn.ui.notebook import service_html
from mlfn.ui.views.service import view_service
from tests.architecture.source import ROOT
from tests.ledger import wait_until


@pytest.fixture(autouse=True)
def data(local: Path) -> Iterator[Path]:
    """Give the test a data folder, and end the services that it has deployed there."""
    yield local
    for service in mlfn.services():
        service.delete()


@mlfn.function(kind="nuclio")
def double(x: int) -> int:
    return 2 * x


@mlfn.function(kind="nuclio")
def pid() -> int:
    return os.getpid()


@mlfn.function(kind=mlfn.Nuclio(triggers=[mlfn.Http(wait=0.2, queue=1)]), timeout=1.0)
def sleepy(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def connect(service: mlfn.Service) -> socket.socket:
    parts = urlsplit(service.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def request_of(body: bytes, *, length: int | None = None, path: str = "/") -> bytes:
    size = len(body) if length is None else length
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    )
    return head.encode() + body


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Return the status and the body of one answer; status 0 where the connection is closed before."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return 0, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < size:
        body += connection.recv(65536)
    return int(head.split()[1]), body


def process_of(service: mlfn.Service) -> int:
    found: int = service._record.handle["process"]["pid"]
    return found


def workers_of(service: mlfn.Service) -> list[int]:
    pid = process_of(service)
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_service_outlives_its_client(tmp_path: Path) -> None:
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
    assert [item.name for item in mlfn.services()] == ["triple"]


def test_an_unchanged_version_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    first = double.deploy()
    second = double.deploy()

    assert (first.is_new, second.is_new) == (True, False)
    assert process_of(first) == process_of(second)
    assert "double is deployed in this version already" in caplog.text


def test_another_version_takes_over_at_the_same_address() -> None:
    first = double.deploy()
    second = double.with_options(env={"MODE": "fast"}).deploy()

    assert second.url == first.url
    assert process_of(second) != process_of(first)
    assert [version.number for version in second.versions] == [1, 2]
    assert first(x=4) == 8
    third = second.rollback()
    assert third.versions[-1].hash == third.versions[0].hash != third.versions[1].hash
    with pytest.raises(NotFoundError, match="has no earlier version 9"):
        third.rollback(9)


def test_two_deploys_at_a_time_end_in_one() -> None:
    found: list[mlfn.Service] = []
    threads = [threading.Thread(target=lambda: found.append(double.deploy())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({process_of(service) for service in found}) == 1
    assert sorted(service.is_new for service in found) == [False, True]


def test_a_deleted_service_is_gone() -> None:
    service = double.deploy()
    process = ProcessIdentity(**service._record.handle["process"])

    service.delete()

    assert service.state == "deleted"
    assert process.state() == "gone"
    with pytest.raises(NotFoundError, match="was deleted: deploy it again"):
        service.logs().__next__()
    with pytest.raises(NotFoundError, match="No service 'double' is deployed in project 'default'"):
        mlfn.service("double")
    with pytest.raises((NotFoundError, ServiceError)):
        service(x=1)


def test_a_service_that_was_killed_is_gone_and_comes_back() -> None:
    service = double.deploy()
    os.killpg(process_of(service), signal.SIGKILL)
    wait_until(lambda: service.state == "gone")

    with pytest.raises(ServiceError, match="its state is 'gone'"):
        service(x=1)
    assert double.deploy()(x=1) == 2


def test_a_failing_beginning_is_said_and_the_old_goes_on(tmp_path: Path) -> None:
    flag = tmp_path / "broken"

    def init_context(context: Any) -> None:
        if flag.exists():
            time.sleep(0.5)
            raise RuntimeError("no model at s3://models")

    from mlfn.worker.classic import ClassicHandler

    def handler(context: Any, event: Any) -> str:
        return "well"

    function = mlfn.function(ClassicHandler(handler, init_context), name="classify", kind="nuclio")
    service = function.deploy()
    flag.touch()
    answers: list[bytes] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            with connect(service) as new:
                new.sendall(request_of(b"x"))
                answers.append(read_answer(new)[1])

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(ServiceError, match=r"The service classify did not begin(.|\n)*no model at s3://models"):
        function.with_options(env={"A": "b"}).deploy()
    ended.set()
    asking.join()
    assert set(answers) == {b"well"}
    assert len(service.versions) == 1


def test_a_server_that_is_not_installed_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else found(name, *rest)
    )

    with pytest.raises(MissingExtraError, match=r"pip install 'mlfn\[nuclio\]'"):
        double.deploy()
    assert list(mlfn.services()) == []


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(ServiceError, match=f"Nothing can listen at 127.0.0.1:{port}"):
            double.with_options(kind=mlfn.Nuclio(triggers=[mlfn.Http(port=port)])).deploy()


def test_other_triggers_are_refused_by_name() -> None:
    kind = mlfn.Nuclio(triggers=[mlfn.RabbitMq(url="amqp://b", exchange="e", queue="q")])

    with pytest.raises(OptionError, match=r"the trigger 'rabbit-mq' \(mlfn.RabbitMq\), which needs Nuclio itself"):
        double.with_options(kind=kind).deploy()


@pytest.mark.parametrize("how", ["exit", "kill", "memory"])
def test_a_worker_that_ends_is_replaced(how: str) -> None:
    @mlfn.function(kind="nuclio", mem="1Gi" if how == "memory" else None)
    def ending(how: str = "") -> int:
        if how == "exit":
            os._exit(0)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "memory":
            return len([bytes(1 << 26) for _ in range(100)])
        return os.getpid()

    service = ending.deploy()
    first = service()

    if how == "memory":
        assert service.invoke(how=how).status == 500
        wait_until(lambda: service.invoke().status == 200 and service() != first)
    else:
        with pytest.raises(ServiceError, match="gave no answer"):
            service(how=how)
        wait_until(lambda: _answers(service))
    assert service() != first
    assert any("it is replaced" in line for line in service.logs())
    assert service.metrics['mlfn_worker_restarts_total{function="ending"}'] >= 1


def _answers(service: mlfn.Service) -> bool:
    try:
        return service.invoke().status == 200
    except ServiceError:
        return False


@pytest.mark.parametrize("warm", [False, True])
def test_an_event_beyond_its_limit_gets_408(warm: bool) -> None:
    service = sleepy.deploy()
    if warm:  # the handler counts as fast, and is called where its request is read
        for _ in range(100):
            assert service(seconds=0) == 0
    [first] = workers_of(service)

    reply = service.invoke(seconds=30)

    assert reply.status == 408
    assert "time limit of 1 seconds" in reply.json()["error"]
    wait_until(lambda: workers_of(service) not in ([], [first]))
    assert service(seconds=0) == 0


def test_a_full_queue_gets_503_and_probes_are_answered() -> None:
    service = sleepy.deploy()
    connections = [connect(service) for _ in range(4)]
    for connection in connections:
        connection.sendall(request_of(b'{"seconds": 0.9}'))
        time.sleep(0.02)

    assert service.get("/__internal/health").status == 200
    statuses = sorted(read_answer(connection)[0] for connection in connections)
    # One is handled, one waits for 0.2 s in vain, and for the others there is no room.
    assert statuses == [200, 503, 503, 503]
    for connection in connections:
        connection.close()


def test_a_large_body_gets_413() -> None:
    service = double.deploy()
    with connect(service) as connection:
        connection.sendall(request_of(b"", length=50_000_000))
        status, body = read_answer(connection)
        assert (status, b"4194304 bytes" in body) == (413, True)

    with connect(service) as connection:
        head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        block = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        for _ in range(50):
            connection.sendall(block)
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection)[0] == 413
    assert service(x=1) == 2


def test_a_large_body_is_taken_where_it_may_be() -> None:
    @mlfn.function(kind=mlfn.Nuclio(triggers=[mlfn.Http(max_body="64Mi")]))
    def size(data: bytes) -> int:
        return len(data)

    service = size.deploy()
    reply = service.post(bytes(50_000_000), headers={"Content-Type": "application/octet-stream"})

    assert reply.json() == 50_000_000


def test_a_slow_client_holds_up_no_other() -> None:
    service = double.deploy()
    with connect(service) as slow:
        slow.sendall(request_of(b'{"x": 4', length=8))
        for number in range(20):
            assert service(x=number) == 2 * number
        slow.sendall(b"}")
        assert read_answer(slow) == (200, b"8")


def test_a_thousand_connections_are_served() -> None:
    service = double.deploy()
    connections = [connect(service) for _ in range(1000)]
    for connection in connections:
        connection.sendall(request_of(b'{"x": 4}'))

    assert {read_answer(connection) for connection in connections} == {(200, b"8")}
    for connection in connections:
        connection.close()
    assert service(x=1) == 2


def test_no_request_is_lost_when_it_ends() -> None:
    @mlfn.function(kind=mlfn.Nuclio(workers=2))
    def quick(x: int) -> int:
        return x

    service = quick.deploy()
    address = urlsplit(service.url).netloc
    answered, lost = [], []

    def load() -> None:
        connection = http.client.HTTPConnection(address, timeout=20)
        while True:
            try:
                connection.connect()
            except OSError:
                return  # nothing takes connections any more
            while connection.sock is not None:  # closed where the answer says so
                try:
                    connection.request("POST", "/", body=b'{"x": 7}', headers={"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    (answered if (answer.status, answer.read()) == (200, b"7") else lost).append(answer.status)
                except OSError as error:
                    lost.append(error)
                    return
            connection.close()

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answered) > 300)
    os.kill(process_of(service), signal.SIGTERM)
    for thread in threads:
        thread.join(30)

    assert len(answered) > 300
    assert lost == []


def test_what_has_begun_is_finished_at_the_end() -> None:
    @mlfn.function(kind="nuclio")
    def slow(seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    service = slow.deploy()
    with connect(service) as connection:
        connection.sendall(request_of(b'{"seconds": 0.7}'))
        time.sleep(0.2)
        service.delete()
        assert read_answer(connection) == (200, b"done")


def test_strangers_are_refused() -> None:
    service = double.deploy()

    def status(**headers: str) -> int:
        return service.post({"x": 1}, headers=headers).status

    assert status() == 200
    assert status(Host="evil.example") == 403
    assert status(Origin="https://evil.example") == 403
    assert status(Origin=service.url, Host=urlsplit(service.url).netloc) == 200
    assert (
        service.request(
            "OPTIONS", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        ).status
        == 403
    )


def test_a_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORE_TOKEN", "sesame-open")
    http = mlfn.Http(host="0.0.0.0", token=mlfn.Secret("SCORE_TOKEN"), cors=["https://app.example"], rate=1000)
    service = double.with_options(kind=mlfn.Nuclio(triggers=[http])).deploy()

    assert service(x=1) == 2
    for wrong in ("", "Bearer wrong", "sesame-open"):
        refused = service.post({"x": 1}, headers={"Authorization": wrong})
        assert (refused.status, refused.headers["Www-Authenticate"]) == (401, "Bearer")
    allowed = service.post({"x": 1}, headers={"Origin": "https://app.example"})
    assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
    assert service.get("/openapi.json").json()["security"] == [{"token": []}]
    folder = Path(service._record.handle["folder"])
    assert not any(b"sesame" in path.read_bytes() for path in folder.parent.rglob("*") if path.is_file())


def test_too_many_requests_get_429() -> None:
    service = double.with_options(kind=mlfn.Nuclio(triggers=[mlfn.Http(rate=2)])).deploy()

    statuses = [service.invoke(x=1).status for _ in range(4)]

    assert statuses[:2] == [200, 200]
    assert 429 in statuses


def test_the_log_masks_secrets_and_has_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PASSWORD", "hunter2-hunter2")

    @mlfn.function(kind="nuclio", secrets=["API_PASSWORD"])
    def leaking(ctx: mlfn.Context, x: int) -> int:
        ctx.logger.info("the password is %s", ctx.secret("API_PASSWORD"))
        ctx.log_metric("x", x)
        raise ValueError(ctx.secret("API_PASSWORD"))

    service = leaking.deploy()
    reply = service.invoke(x=4)

    assert reply.status == 500 and b"hunter2" not in reply.body
    text = "\n".join(service.logs())
    assert "hunter2" not in text and "the password is ***" in text
    [record] = [
        record for record in map(json.loads, text.splitlines()) if record.get("request") == reply.json()["request"]
    ]
    assert "ValueError: ***" in record["traceback"]
    [line] = wait_until(lambda: list(service.logs(which="access")))
    assert json.loads(line)["status"] == 500
    wait_until(lambda: 'mlfn_metric{function="leaking",name="x",worker="1"}' in service.metrics)


def test_metrics_are_prometheus_text() -> None:
    service = double.deploy()
    service(x=1)
    service.invoke(x="one")

    for path in ("/metrics", "/docs", "/openapi.json", "/__internal/health"):
        assert service.get(path).status == 200  # pages of the server's own, which are no requests of the function
    text = service.get("/metrics").text
    assert "# TYPE mlfn_requests_total counter" in text
    assert 'mlfn_requests_total{function="double",status="200"} 1' in text
    assert 'mlfn_requests_total{function="double",status="400"} 1' in text
    assert 'mlfn_request_seconds_bucket{function="double",le="+Inf"} 2' in text


def test_a_card_shows_what_a_service_has_answered() -> None:
    service = double.deploy()
    assert "none yet" in service_html(service)
    service(x=1)
    service.invoke(x="one")

    view = view_service(service)

    assert (view.state, view.url, view.replicas, view.more_versions) == ("ready", service.url, 1, 0)
    assert [item[:2] for item in view.versions] == [(1, service.versions[0].hash)]
    assert dict(view.counts)["answered"] == "2 requests"
    assert f'href="{service.url}"' in service_html(service)
    service.delete()
    assert "The service double was deleted." in service_html(service)


def test_replicas_can_be_scaled() -> None:
    service = pid.deploy()
    assert len(workers_of(service)) == 1

    service.scale(3)
    wait_until(lambda: len(workers_of(service)) == 3)
    assert service.replicas == 3
    service.scale(1)
    wait_until(lambda: len(workers_of(service)) == 1)
    assert service() in workers_of(service)
    with pytest.raises(OptionError, match=r"scale\(0\)"):
        service.scale(0)


def test_cron_events_come(tmp_path: Path) -> None:
    path = str(tmp_path / "ticks")
    kind = mlfn.Nuclio(triggers=[mlfn.Cron(interval=0.2, body=json.dumps({"n": 1})), mlfn.Http()])

    @mlfn.function(kind=kind)
    def tick(n: int) -> int:
        with open(path, "a") as file:
            file.write(f"{n}\n")
        return n

    service = tick.deploy()

    wait_until(lambda: Path(path).exists() and len(Path(path).read_text().splitlines()) >= 3)
    assert service(n=2) == 2
    assert any("tick by cron: 200" in line for line in service.logs())


def test_the_page_and_its_document_are_there() -> None:
    service = double.deploy()

    shown = service.request("GET", "/", headers={"Accept": "text/html"})
    assert shown.content_type == "text/html; charset=utf-8"
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
    assert service.get("/openapi.json").json()["info"]["title"] == "double"
    assert service.get("/docs").body == shown.body


def test_a_handler_may_run_a_loop_of_its_own() -> None:
    @mlfn.function(kind="nuclio")
    def looping(x: int) -> int:
        import asyncio

        async def later() -> int:
            await asyncio.sleep(0)
            return x

        return asyncio.run(later())

    service = looping.deploy()

    assert [service(x=number) for number in range(100)] == list(range(100))


def test_handlers_run_in_the_main_thread() -> None:
    @mlfn.function(kind="nuclio")
    def thread(seconds: float = 0.0) -> str:
        time.sleep(seconds)
        return threading.current_thread().name

    service = thread.deploy()

    names = {service() for _ in range(60)} | {service(seconds=0.1)} | {service() for _ in range(60)}
    assert names == {"MainThread"}


def test_an_asynchronous_function_serves_many_at_a_time() -> None:
    @mlfn.function(kind="nuclio")
    async def nap(seconds: float) -> float:
        import asyncio

        await asyncio.sleep(seconds)
        return seconds

    service = nap.deploy()
    begun = time.monotonic()
    threads = [threading.Thread(target=service, kwargs={"seconds": 0.5}) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - begun < 4


def test_a_stream_comes_piece_by_piece() -> None:
    @mlfn.function(kind="nuclio")
    def counting(n: int) -> Any:
        for number in range(n):
            yield f"{number}\n"
            time.sleep(0.3)

    service = counting.deploy()
    with connect(service) as connection:
        begun = time.monotonic()
        connection.sendall(request_of(b'{"n": 3}'))
        data = b""
        while b"0\n" not in data.partition(b"\r\n\r\n")[2]:
            data += connection.recv(65536)
        first = time.monotonic() - begun
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
        whole = time.monotonic() - begun

    assert whole - first > 0.4
    assert [part for part in (b"0\n", b"1\n", b"2\n") if part in data] == [b"0\n", b"1\n", b"2\n"]


def test_an_awaitable_call_returns_the_value() -> None:
    import asyncio

    service = double.deploy()

    assert asyncio.run(service.acall(x=4)) == 8
