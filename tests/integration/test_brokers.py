"""Functions that messages call, at real brokers: in order, again where they were not handled, over the brokers' own ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mlfn
from tests.brokers import Mosquitto, NatsServer
from tests.ledger import wait_until as wait_for

wait_until = partial(wait_for, timeout=60.0)  # a broker that is down is tried again with longer and longer waits


@pytest.fixture(autouse=True)
def data(local: Path) -> Iterator[Path]:
    """Give the test a data folder, and end the services that it has deployed there."""
    yield local
    for service in mlfn.services():
        service.delete()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(folder_of(tmp_path))
    yield made
    made.stop()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(folder_of(tmp_path))
    yield made
    made.stop()


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "broker"
    folder.mkdir()
    return folder


def consumer(path: Path, *triggers: Any, name: str = "consume", **options: Any) -> mlfn.Service:
    """Deploy a function that writes down what calls it; it waits where `path` has a `.wait` beside it."""
    kind = mlfn.Nuclio(triggers=[*triggers, mlfn.Http()])
    file = str(path)

    @mlfn.function(name=name, kind=kind, **options)
    def consume(context: Any, event: Any) -> str:
        body = event.body.decode()
        with open(file, "a") as out:
            out.write(f"{event.path} {body} {os.getpid()}\n")
        while os.path.exists(file + ".wait"):
            time.sleep(0.01)
        if body == "bad":
            raise ValueError("bad")
        return body

    return consume.deploy()


def seen(path: Path) -> list[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.rpartition(" ")[0] for line in lines]


def last_pid(path: Path) -> int:
    return int(path.read_text().split()[-1])


def listens(service: mlfn.Service, times: int = 1) -> bool:
    return sum("listening" in line for line in service.logs()) >= times


def test_messages_of_mqtt_come_in_their_order(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.start()
    service = consumer(tmp_path / "seen", mlfn.Mqtt(mosquitto.url, ["sensors/#"], qos=1))
    wait_until(lambda: listens(service))

    mosquitto.publish("sensors/a", *map(str, range(30)))
    mosquitto.publish("sensors/b", "bad", "30")

    wait_until(lambda: len(seen(tmp_path / "seen")) == 32)
    expected = [*(f"sensors/a {n}" for n in range(30)), "sensors/b bad", "sensors/b 30"]
    assert seen(tmp_path / "seen") == expected
    wait_until(lambda: any("consume by mqtt: 500" in line for line in service.logs()))


def test_a_message_that_was_not_handled_comes_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.start()
    path, wait = tmp_path / "seen", tmp_path / "seen.wait"
    service = consumer(path, mlfn.Mqtt(mosquitto.url, ["sensors/#"], qos=1, client_id="keeper"))
    wait_until(lambda: listens(service))
    wait.touch()

    mosquitto.publish("sensors/a", "1", "2")
    wait_until(lambda: seen(path) == ["sensors/a 1"])
    wait.unlink()
    os.kill(last_pid(path), signal.SIGKILL)

    wait_until(lambda: {"sensors/a 1", "sensors/a 2"} <= set(seen(path)[1:]))


def test_what_was_published_while_a_service_was_down_is_kept_for_its_client_id(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    mosquitto.start()
    trigger = mlfn.Mqtt(mosquitto.url, ["sensors/#"], qos=1, client_id="keeper")
    service = consumer(tmp_path / "seen", trigger)
    wait_until(lambda: listens(service))
    service.delete()

    mosquitto.publish("sensors/a", "1", "2")
    consumer(tmp_path / "seen", trigger)

    wait_until(lambda: seen(tmp_path / "seen") == ["sensors/a 1", "sensors/a 2"])


def test_the_end_of_a_service_handles_what_has_arrived(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.start()
    path, wait = tmp_path / "seen", tmp_path / "seen.wait"
    service = consumer(path, mlfn.Mqtt(mosquitto.url, ["sensors/#"]))
    wait_until(lambda: listens(service))
    wait.touch()
    mosquitto.publish("sensors/a", "1", "2", "3")
    wait_until(lambda: seen(path) == ["sensors/a 1"])
    time.sleep(0.2)  # the two others have arrived

    os.kill(last_pid(path), signal.SIGTERM)
    time.sleep(0.3)
    wait.unlink()

    wait_until(lambda: seen(path) == [f"sensors/a {n}" for n in (1, 2, 3)])


@pytest.mark.parametrize("broker", ["mosquitto", "nats"])
def test_a_broker_that_is_down_is_waited_for(broker: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made: Any = request.getfixturevalue(broker)
    path = tmp_path / "seen"
    trigger = mlfn.Mqtt(made.url, ["a"]) if broker == "mosquitto" else mlfn.Nats(made.url, "a", "group")

    service = consumer(path, trigger)  # before the broker
    wait_until(lambda: any("it is tried again" in line for line in service.logs()))
    made.start()
    wait_until(lambda: listens(service))
    made.publish("a", "first")
    wait_until(lambda: seen(path) == ["a first"])

    made.stop()
    time.sleep(1)
    made.start()
    wait_until(lambda: listens(service, 2))
    made.publish("a", "second")
    wait_until(lambda: seen(path) == ["a first", "a second"])
    tried = [line for line in service.logs() if "it is tried again" in line]
    assert len(tried) <= 6, "each reason is said once"


def test_a_message_of_nats_goes_to_one_member_of_the_group(nats: NatsServer, tmp_path: Path) -> None:
    nats.start()
    path = tmp_path / "seen"
    services = [
        consumer(path, mlfn.Nats(nats.url, "orders.*", "group"), name=name, env={"MEMBER": name})
        for name in ("one", "two")
    ]
    for service in services:
        wait_until(lambda service=service: listens(service))

    nats.publish("orders.new", *map(str, range(40)))

    wait_until(lambda: len(seen(path)) == 40)
    assert sorted(seen(path)) == sorted(f"orders.new {n}" for n in range(40))
    assert len({line.split()[-1] for line in path.read_text().splitlines()}) == 2


def test_a_login_at_a_broker_is_in_no_file(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Mosquitto(folder_of(tmp_path), login=("trainer", "drowssap-of-the-broker"))
    broker.start()
    try:
        monkeypatch.setenv("BROKER_PASSWORD", "drowssap-of-the-broker")
        trigger = mlfn.Mqtt(broker.url, ["a"], username="trainer", password=mlfn.Secret("BROKER_PASSWORD"))
        service = consumer(tmp_path / "seen", trigger)
        wait_until(lambda: listens(service))
        broker.publish("a", "1")
        wait_until(lambda: seen(tmp_path / "seen") == ["a 1"])

        files = [path for path in data.rglob("*") if path.is_file()]
        assert not [path for path in files if b"drowssap-of-the-broker" in path.read_bytes()]
    finally:
        broker.stop()


def test_a_login_that_is_refused_is_said(tmp_path: Path) -> None:
    broker = Mosquitto(folder_of(tmp_path), login=("trainer", "drowssap"))
    broker.start()
    try:
        service = consumer(tmp_path / "seen", mlfn.Mqtt(broker.url, ["a"]))

        wait_until(lambda: any("it refuses the connection (Not authorized)" in line for line in service.logs()))
    finally:
        broker.stop()
