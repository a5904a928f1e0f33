"""Real brokers of messages for tests: Mosquitto (MQTT) and NATS, started on loopback, and started again."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MISSING = "These tests need {name}: `apt-get install {name}` (Debian, Ubuntu) or `brew install {name}` (macOS)."
_SYSTEM = "/usr/local/sbin:/usr/sbin"  # on the PATH of root alone


class Broker:
    """A broker at a port of its own, which it has again when it is started again."""

    PROGRAM: str
    SCHEME: str

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        with socket.create_server((host, 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self.SCHEME}://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which(self.PROGRAM) or shutil.which(self.PROGRAM, path=_SYSTEM)
        if program is None:
            raise RuntimeError(MISSING.format(name=self.PROGRAM))
        with open(self.folder / "broker.log", "ab") as log:
            self._process = subprocess.Popen([program, *self._arguments()], stdout=log, stderr=log)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < until, (self.folder / "broker.log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _arguments(self) -> Sequence[str]:
        raise NotImplementedError


class Mosquitto(Broker):
    """An MQTT broker, which keeps what it holds for clients over its own end; with a login where one is given."""

    PROGRAM = "mosquitto"
    SCHEME = "tcp"

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", login: tuple[str, str] | None = None) -> None:
        super().__init__(folder, host=host)
        self._login = login
        user = pwd.getpwuid(os.getuid()).pw_name  # another one could not enter the folder
        lines = [
            f"listener {self.port} {host}",
            f"user {user}",
            "persistence true",
            f"persistence_location {folder}/",
        ]
        if login is None:
            lines.append("allow_anonymous true")
        else:
            passwords = folder / "passwords"
            subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), *login], check=True)
            lines.append(f"password_file {passwords}")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def publish(self, topic: str, *bodies: str, qos: int = 1) -> None:
        """Publish messages, and wait until the broker has them."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2)
        if self._login is not None:
            client.username_pw_set(*self._login)
        client.connect(self.host, self.port)
        client.loop_start()
        for sent in [client.publish(topic, body, qos=qos) for body in bodies]:
            sent.wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    def _arguments(self) -> Sequence[str]:
        return ["-c", str(self.folder / "mosquitto.conf")]


class NatsServer(Broker):
    """A NATS server."""

    PROGRAM = "nats-server"
    SCHEME = "nats"

    def publish(self, subject: str, *bodies: str, headers: Mapping[str, str] | None = None) -> None:
        """Publish messages, and wait until the server has them."""
        import nats

        async def publish() -> None:
            client: Any = await nats.connect(self.url)
            for body in bodies:
                await client.publish(subject, body.encode(), headers=dict(headers or {}) or None)
            await client.drain()

        asyncio.run(publish())

    def _arguments(self) -> Sequence[str]:
        return ["-a", self.host, "-p", str(self.port)]
