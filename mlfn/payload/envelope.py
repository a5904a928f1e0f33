"""Bytes with a readable header and a signature.

``magic | header length | header (JSON) | HMAC-SHA256 | body``. The signature covers everything but itself.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import struct
import sys
from dataclasses import asdict, dataclass, fields

from mlfn._version import __version__
from mlfn.errors import PayloadError, SkewError

MAGIC = b"\x93MLFN\r\n\x01"
_LENGTH = struct.Struct(">I")
_PREFIX = len(MAGIC) + _LENGTH.size
_SIGNATURE = hashlib.sha256().digest_size
# A flipped bit in the length must not make us read a gigabyte as JSON.
_HEADER_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Header:
    """What a payload says about itself: Python minor, versions, and the body's size and digest."""

    role: str
    python: str
    cloudpickle: str
    mlfn: str
    qualname: str
    size: int
    sha256: str


_HEADER_TYPES: dict[str, type] = {f.name: int if f.name == "size" else str for f in fields(Header)}


def check_key(key: bytes) -> None:
    """Refuse an empty key."""
    if not key:
        raise PayloadError("The signing key is empty: a payload is signed with the user's own key.")


def write_header(body: bytes, *, role: str, qualname: str, cloudpickle: str) -> bytes:
    """Return the header of a body."""
    header = Header(
        role=role,
        python=_python_minor(),
        cloudpickle=cloudpickle,
        mlfn=_mlfn_version(),
        qualname=qualname,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )
    return json.dumps(asdict(header), sort_keys=True, separators=(",", ":")).encode()


def sign(header: bytes, body: bytes, key: bytes) -> bytes:
    """Return a payload of header and body."""
    signed = MAGIC + _LENGTH.pack(len(header)) + header
    return b"".join((signed, signature(signed, body, key), body))


def signature(signed: bytes | memoryview, body: bytes | memoryview, key: bytes) -> bytes:
    """Return the signature over magic, header and body."""
    mac = hmac.new(key, signed, hashlib.sha256)
    mac.update(body)
    return mac.digest()


def split(data: bytes) -> tuple[Header, memoryview, memoryview, memoryview]:
    """Return a payload's header, all that is signed before the body, the signature, and the body."""
    view = memoryview(data)
    if view[: len(MAGIC)] != MAGIC:
        raise PayloadError("These bytes are not an mlfn payload: they do not start with its magic bytes.")
    if len(view) < _PREFIX:
        raise PayloadError(f"The payload ends after {len(view)} bytes, within its header: it was cut off.")
    (length,) = _LENGTH.unpack(view[len(MAGIC) : _PREFIX])
    header_end, body_start = _PREFIX + length, _PREFIX + length + _SIGNATURE
    if length > _HEADER_LIMIT or len(view) < body_start:
        raise PayloadError(f"The payload has {len(view)} bytes but announces a header of {length}: it is damaged.")
    header = _parse_header(bytes(view[_PREFIX:header_end]))
    body = view[body_start:]
    if len(body) != header.size:
        raise PayloadError(f"The payload's body has {len(body)} bytes; its header announces {header.size}.")
    return header, view[:header_end], view[header_end:body_start], body


def _parse_header(text: bytes) -> Header:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"The payload's header is not JSON ({error}): it is damaged.") from error
    if not isinstance(values, dict) or values.keys() != _HEADER_TYPES.keys():
        raise PayloadError(f"The payload's header must have exactly the fields {', '.join(_HEADER_TYPES)}.")
    for name, kind in _HEADER_TYPES.items():
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


@functools.cache
def _mlfn_version() -> str:
    return __version__
