"""A port of this machine that leads to a pod of a service, as ``kubectl port-forward`` makes one."""

from __future__ import annotations

import json
import logging
import select
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mlfn.backends.hosts.kubernetes.manifests import PORT
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError

logger = logging.getLogger(__name__)
_PROTOCOL = "v4.channel.k8s.io"
_DATA = b"\x00"  # the first byte of a message that has data; 1 is for what goes wrong
_MOST = 1 << 16
_BINARY, _CLOSE = 2, 8  # sorts of messages of a web socket
_ANSWER = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n"


class Forward:
    """Passes each connection on to a pod that `choose` names, until nothing refers to it any more."""

    def __init__(self, connection: Connection, namespace: str, choose: Callable[[], str | None]) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(
            target=_accept, args=(server, connection, namespace, choose), name="mlfn-forward", daemon=True
        ).start()
        self.close = weakref.finalize(self, _end, server)


def _end(server: socket.socket) -> None:
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)  # without it, the thread would go on waiting
    server.close()


def _accept(server: socket.socket, connection: Connection, namespace: str, choose: Callable[[], str | None]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        threading.Thread(
            target=_serve, args=(client, connection, namespace, choose), name="mlfn-forwarded", daemon=True
        ).start()


def _serve(client: socket.socket, connection: Connection, namespace: str, choose: Callable[[], str | None]) -> None:
    with client:
        try:
            pod = choose()
            if pod is None:
                _refuse(client, "No pod of the service is ready.")
                return
            remote = open_port(connection, namespace, pod)
        except (ApiError, UnreachableError) as error:
            _refuse(client, f"The cluster at {connection.host} does not lead to a pod: {error}")
            return
        try:
            _pump(client, remote)
        except Exception as error:  # noqa: BLE001 - either side may break off at any time
            logger.debug("a forwarded connection ended: %s", error)
        finally:
            remote.shutdown()


def open_port(connection: Connection, namespace: str, pod: str) -> Any:
    """Open a connection to the server in a pod, as a web socket."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    return connection.websocket(path, _PROTOCOL, ports=PORT)


def _refuse(client: socket.socket, why: str) -> None:
    """Answer for a service that cannot be reached."""
    body = json.dumps({"error": why}).encode()
    with suppress(OSError):
        client.recv(_MOST)
        client.sendall(_ANSWER.format(len(body)).encode() + body)


def _pump(client: socket.socket, remote: Any) -> None:
    """Pass on what either side sends, until one of them ends."""
    announced = set()  # channels whose first message, the number of the port, has arrived
    while True:
        readable = [client, remote.sock]
        if not (isinstance(remote.sock, ssl.SSLSocket) and remote.sock.pending()):
            readable, _, _ = select.select([client, remote.sock], [], [])
        if remote.sock in readable:
            sort, message = remote.recv_data()
            if sort == _CLOSE:
                return
            if sort != _BINARY:
                continue
            channel, data = message[:1], message[1:]
            if channel not in announced:
                announced.add(channel)
            elif channel != _DATA:
                logger.debug("a forwarded connection was refused: %s", data.decode(errors="replace"))
                return
            else:
                client.sendall(data)
        if client in readable and select.select([client], [], [], 0)[0]:
            data = client.recv(_MOST)
            if not data:
                return
            remote.send_binary(_DATA + data)
