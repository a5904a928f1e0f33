"""Bytes with a readable header and a signature.

``magic | header length | header (JSON) | HMAC-SHA256 | body``. The signature covers magic, length and header, and the header has
the body's digest: who reads the head alone can check who signed it. In format 1, of mlfn 0.2 and earlier, it covered the body too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import sys
from collections.abc import Collection
from dataclasses import asdict, fields
from typing import BinaryIO

from mlfn._version import __version__
from mlfn.errors import PayloadError, SignatureError, SkewError
from mlfn.host.frozen import frozen

_MARK = b"\x93MLFN\r\n"
MAGIC = _MARK + b"\x02"
_MAGIC_1 = _MARK + b"\x01"
_LENGTH = struct.Struct(">I")
_PREFIX = len(MAGIC) + _LENGTH.size
_SIGNATURE = hashlib.sha256().digest_size
# A damaged length must not make us read a gigabyte as JSON.
_HEADER_LIMIT = 64 * 1024
# No payload begins with it: a signature is never another's key.
_DERIVATION = b"mlfn key of execution 1\0"


@frozen
class Header:
    """The header of a payload: Python minor, versions, the body's size and digest, and the execution whose key signed it.

    `execution` is empty for the user's own key.
    """

    role: str
    python: str
    cloudpickle: str
    mlfn: str
    qualname: str
    size: int
    sha256: str
    execution: str = ""


@frozen
class Head:
    """All of a payload before its body; `signed` is what the signature begins with."""

    header: Header
    signed: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """The digest by which a message pins the payload: it stands for the body too."""
        return hashlib.sha256(self.signed).hexdigest()

    @property
    def covers_body(self) -> bool:
        """Whether the signature covers the body itself, and not by its digest."""
        return self.signed.startswith(_MAGIC_1)


_HEADER_TYPES: dict[str, type] = {f.name: int if f.name == "size" else str for f in fields(Header)}
_HEADER_TYPES_1 = {name: kind for name, kind in _HEADER_TYPES.items() if name != "execution"}


def derive(master: bytes, execution: str) -> bytes:
    """Return the key of an execution: it says nothing about the user's key, nor about that of another execution."""
    return hmac.digest(master, _DERIVATION + execution.encode(), "sha256")


def check_key(key: bytes) -> None:
    """Refuse an empty key."""
    if not key:
        raise PayloadError("The signing key is empty: a payload is signed with the user's own key.")


def write_header(body: bytes, *, role: str, qualname: str, cloudpickle: str, execution: str = "") -> bytes:
    """Return the header of a body."""
    header = Header(
        role=role,
        python=_python_minor(),
        cloudpickle=cloudpickle,
        mlfn=__version__,
        qualname=qualname,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        execution=execution,
    )
    return json.dumps(asdict(header), sort_keys=True, separators=(",", ":")).encode()


def sign(header: bytes, body: bytes, key: bytes) -> bytes:
    """Return a payload of header and body."""
    signed = MAGIC + _LENGTH.pack(len(header)) + header
    return b"".join((signed, hmac.digest(key, signed, "sha256"), body))


def check_signature(head: Head, body: bytes | memoryview, key: bytes, executions: Collection[str]) -> None:
    """Raise SignatureError unless the user's `key` signed the head, or the key derived from it for one of `executions`.

    The body counts in format 1 alone: elsewhere `check_body` says whether it is the one that the head describes.
    """
    signer = head.header.execution
    if signer and signer not in executions:
        raise SignatureError(
            f"The payload of {head.header.qualname!r} was signed by execution {signer[:8]!r}, which did not run what it is said "
            "to come from: nothing of it was read. Run that again."
        )
    mac = hmac.new(derive(key, signer) if signer else key, head.signed, hashlib.sha256)
    if head.covers_body:
        mac.update(body)
    if not hmac.compare_digest(mac.digest(), head.signature):
        raise _changed(head)


def check_body(head: Head, body: bytes | memoryview) -> None:
    """Raise SignatureError unless the body is the one that the head describes."""
    if hashlib.sha256(body).hexdigest() != head.header.sha256:
        raise _changed(head)


def check_pin(head: Head, pin: str | None) -> None:
    """Raise SignatureError unless the head is the one whose signature the client has checked."""
    if pin is None or not hmac.compare_digest(pin, head.digest):
        raise _changed(head)


def _changed(head: Head) -> SignatureError:
    return SignatureError(
        f"The payload of {head.header.qualname!r} was changed or signed with another key: "
        "nothing of it was read. Submit again from a process that has this machine's key."
    )


def pin_of(file: BinaryIO, key: bytes, executions: Collection[str] = ()) -> str:
    """Return the digest by which a message to an execution pins a payload, after checking the signature.

    An execution has a key of its own alone: its client checks what it is to read. Raises PayloadError, SignatureError.
    """
    start = file.read(_PREFIX)
    head = _parse_head(start + file.read(_head_size(start) - _PREFIX))
    check_signature(head, file.read() if head.covers_body else b"", key, executions)
    return head.digest


def split(data: bytes) -> tuple[Head, memoryview]:
    """Return a payload's head and its body."""
    view = memoryview(data)
    size = _head_size(view[:_PREFIX])
    head, body = _parse_head(view[:size]), view[size:]
    if len(body) != head.header.size:
        raise PayloadError(f"The payload's body has {len(body)} bytes; its header announces {head.header.size}.")
    return head, body


def _head_size(start: bytes | memoryview) -> int:
    """Return how many bytes come before the body."""
    if start[: len(MAGIC)] not in (MAGIC, _MAGIC_1):
        raise PayloadError("These bytes are not an mlfn payload: they do not start with its magic bytes.")
    if len(start) < _PREFIX:
        raise PayloadError(f"The payload ends after {len(start)} bytes, within its header: it was cut off.")
    (length,) = _LENGTH.unpack(start[len(MAGIC) :])
    if length > _HEADER_LIMIT:
        raise PayloadError(f"The payload announces a header of {length} bytes: it is damaged.")
    return _PREFIX + int(length) + _SIGNATURE


def _parse_head(head: bytes | memoryview) -> Head:
    size = _head_size(head[:_PREFIX])
    if len(head) < size:
        raise PayloadError(f"The payload has {len(head)} bytes but announces a head of {size}: it was cut off.")
    signed = bytes(head[: size - _SIGNATURE])
    types = _HEADER_TYPES_1 if signed.startswith(_MAGIC_1) else _HEADER_TYPES
    return Head(_parse_header(signed[_PREFIX:], types), signed, bytes(head[size - _SIGNATURE : size]))


def _parse_header(text: bytes, types: dict[str, type]) -> Header:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"The payload's header is not JSON ({error}): it is damaged.") from error
    if not isinstance(values, dict) or values.keys() != types.keys():
        raise PayloadError(f"The payload's header must have exactly the fields {', '.join(types)}.")
    for name, kind in types.items():
        if type(values[name]) is not kind:
            raise PayloadError(f"The payload's header has {name}={values[name]!r}; a {kind.__name__} was expected.")
    return Header(**values)


def check_python(header: Header) -> None:
    """Refuse a payload of another Python minor."""
    here = _python_minor()
    if header.python == here:
        return
    written = f"{header.qualname!r} was packed by Python {header.python}, and this is Python {here}: "
    if header.role == "value":
        raise SkewError(
            f"{written}a pickle of one minor version is not read by another. Read it with Python {header.python}, "
            f"or run what made it again with Python {here}."
        )
    raise SkewError(
        f"{written}code of one minor version does not run on another. Let both be the same: "
        f"run the worker on Python {header.python} "
        f'(image="python:{header.python}-slim"), or submit from Python {here}.'
    )


def _python_minor() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
