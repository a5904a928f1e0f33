"""Who may call, from where, and how often."""

from __future__ import annotations

import functools
import hmac
import ipaddress
import time
from collections.abc import Callable

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.serving.answers import Answer, problem


class Gate:
    """Refuses requests before their bodies are read.

    A page in a browser can send requests to this machine too: those that come from a page of another origin are refused, and
    where the server listens at this machine's own address alone, those that name it by another host.
    """

    def __init__(self, options: ServerOptions, *, share: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = f"bearer {options.token}".encode() if options.token else None
        self._cors = frozenset(origin.rstrip("/").encode() for origin in options.cors)
        self._takes_all = b"*" in self._cors
        self._is_local = is_loopback(options.host)
        self._bucket = Bucket(options.rate / share, clock) if options.rate else None

    def refuse(self, headers: dict[bytes, bytes]) -> Answer | None:
        """Return the refusal of a request with these headers; None where it may pass."""
        if self._is_local and not _names_loopback(headers.get(b"host", b"")):
            return problem(403, "This service is called as 127.0.0.1 or localhost alone.")
        origin = headers.get(b"origin")
        if origin is not None and not self._may_come_from(origin, headers.get(b"host", b"")):
            return problem(
                403, "A page of another origin may not call this service: Http(cors=[...]) names those that may."
            )
        if self._token is not None and not self._has_token(headers.get(b"authorization", b"")):
            refused = problem(401, "A token is needed: send it as 'Authorization: Bearer ...'.")
            refused.headers = [("WWW-Authenticate", "Bearer")]
            return refused
        if self._bucket is not None and not self._bucket.take():
            refused = problem(429, "Too many requests: send fewer a second.")
            refused.headers = [("Retry-After", "1")]
            return refused
        return None

    def cors_headers(self, origin: bytes | None) -> list[tuple[str, str]]:
        """Return what a browser needs to show an answer to the page that asked."""
        if origin is None or not (self._takes_all or origin in self._cors):
            return []
        return [("Access-Control-Allow-Origin", origin.decode("latin-1")), ("Vary", "Origin")]

    def preflight(self, origin: bytes) -> Answer:
        """Return the answer to a browser that asks before it sends."""
        allowed = self.cors_headers(origin)
        if not allowed:
            return problem(
                403, "A page of this origin may not call this service: Http(cors=[...]) names those that may."
            )
        more = [
            ("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE"),
            ("Access-Control-Allow-Headers", "authorization, content-type"),
            ("Access-Control-Max-Age", "600"),
        ]
        return Answer(status=204, headers=[*allowed, *more])

    def _may_come_from(self, origin: bytes, host: bytes) -> bool:
        own = origin.partition(b"://")[2] == host and bool(host)
        return own or self._takes_all or origin in self._cors

    def _has_token(self, given: bytes) -> bool:
        assert self._token is not None
        scheme, _, value = given.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + value.strip(), self._token)


class Bucket:
    """Lets `rate` requests a second pass, and a second's worth of them at once."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._left = self._most
        self._clock = clock
        self._last = clock()

    def take(self) -> bool:
        """Return whether one more may pass."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._last) * self._rate)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine's own address, which no other machine reaches."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=256)
def _names_loopback(header: bytes) -> bool:
    text = header.decode("latin-1").lower()
    return is_loopback(text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0])
