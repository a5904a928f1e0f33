"""A client of one service: connections that stay open, one for each thread."""

from __future__ import annotations

import http.client
import select
import socket
import weakref
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from mlfn.serving.events import usual_name
from mlfn.serving.replies import Reply


class Client:
    """Sends requests to one address; from any thread."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port
        self._token = token
        self._idle: list[http.client.HTTPConnection] = []
        weakref.finalize(self, _close_all, self._idle)

    def request(self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float | None) -> Reply:
        """Send one request, and return its answer; raises OSError where there is none."""
        sent = {"Accept": "*/*", **headers}
        if self._token:
            sent.setdefault("Authorization", f"Bearer {self._token}")
        target = quote(path, safe="/?&=%+:@!$'()*,;~-._[]")
        connection = self._connection()
        reply = self._sent(connection, method, target, body, sent, timeout)
        self._idle.append(connection)
        return reply

    def _connection(self) -> http.client.HTTPConnection:
        """Return a connection that is open still, or a new one."""
        while self._idle:
            try:
                used = self._idle.pop()
            except IndexError:  # another thread was first
                break
            if used.sock is not None and not _was_closed(used.sock):
                return used
            used.close()
        return http.client.HTTPConnection(self._host, self._port)

    def _sent(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float | None,
    ) -> Reply:
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            connection.close()
            if isinstance(error, OSError):
                raise
            raise ConnectionError(f"the answer broke off: {error}") from error
        except OSError:
            connection.close()
            raise
        found = {usual_name(name.lower().encode("latin-1")): value for name, value in answer.getheaders()}
        return Reply(answer.status, content, found.get("Content-Type", ""), found)


def _close_all(idle: list[http.client.HTTPConnection]) -> None:
    for connection in idle:
        connection.close()


def _was_closed(connection: socket.socket) -> bool:
    """Say whether the other side has closed. Asked before a request is sent: one that was sent may have been handled."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)
