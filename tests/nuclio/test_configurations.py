"""The kept configurations, and triggers of brokers, in Nuclio's own processor: each is taken by it, and its function answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import ServiceError
from tests.brokers import Mosquitto, NatsServer
from tests.ledger import wait_until
from tests.unit.backends.test_nuclio import CASES


@mlfn.function(kind="nuclio")
def double(x: int = 1) -> int:
    return 2 * x


@pytest.mark.parametrize("name", ["plain", "full", "prebuilt"])
def test_a_kept_configuration_is_taken(name: str) -> None:
    kind, more = CASES[name]
    triggers = [replace(item, port=None) if isinstance(item, mlfn.Http) else item for item in kind.triggers]
    options = {key: more[key] for key in ("image", "env", "timeout") if key in more}

    service = double.with_options(kind=replace(kind, triggers=triggers), **options).deploy()

    assert service(x=4) == 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "broker"
    made.mkdir()
    return made


@pytest.fixture
def mosquitto(folder: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(folder)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def nats(folder: Path) -> Iterator[NatsServer]:
    made = NatsServer(folder)
    made.start()
    yield made
    made.stop()


def consumer(path: Path, trigger: Any) -> mlfn.Service:
    file = str(path)

    @mlfn.function(kind=mlfn.Nuclio(triggers=[trigger]))
    def consume(context: Any, event: Any) -> str:
        with open(file, "a") as out:
            out.write(f"{event.trigger.kind} {event.path} {event.body.decode()}\n")
        return "well"

    return consume.deploy()


def test_messages_of_mqtt_come(mosquitto: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "seen"
    consumer(path, mlfn.Mqtt(url=mosquitto.url, topics=["sensors/#"], qos=1))

    def seen() -> bool:
        mosquitto.publish("sensors/a", "1")  # what is published before it listens is lost
        return path.exists()

    wait_until(seen)
    assert path.read_text().splitlines()[0] == "mqtt sensors/a 1"


def test_messages_of_nats_come(nats: NatsServer, tmp_path: Path) -> None:
    path = tmp_path / "seen"
    consumer(path, mlfn.Nats(url=nats.url, topic="orders.*", queue="scoring"))

    def seen() -> bool:
        nats.publish("orders.new", "7")
        return path.exists()

    wait_until(seen)
    assert path.read_text().splitlines()[0] == "nats orders.new 7"


def test_a_broker_that_is_down_is_said(mosquitto: Mosquitto, tmp_path: Path) -> None:
    url = mosquitto.url
    mosquitto.stop()

    with pytest.raises(ServiceError, match=r"(?s)consume did not begin.*connection refused"):
        consumer(tmp_path / "seen", mlfn.Mqtt(url=url, topics=["sensors/#"]))


def test_a_password_reaches_the_broker_and_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "sesame-open")
    broker = Mosquitto(folder, login=("me", "sesame-open"))
    broker.start()
    path = tmp_path / "seen"
    password = mlfn.Secret("BROKER_PASSWORD")
    consumer(path, mlfn.Mqtt(url=broker.url, topics=["sensors/#"], username="me", password=password))

    def seen() -> bool:
        broker.publish("sensors/a", "1")
        return path.exists()

    wait_until(seen)
    broker.stop()
    assert not any(b"sesame" in path.read_bytes() for path in data.rglob("*") if path.is_file())
