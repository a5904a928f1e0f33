"""Bodies of events by their content type: JSON, forms, text, bytes, tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Annotated, Any, get_args
from urllib.parse import parse_qsl

from mlfn.artifacts.formats.base import load
from mlfn.serving.answers import refusal
from mlfn.serving.events import Event

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_MOST_FIELDS = 1000
TABLES = {
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
    "text/csv": "csv",
}


def from_json(body: bytes) -> Any:
    """Return what JSON holds; it was checked before, or is refused."""
    from pydantic_core import from_json as parse

    try:
        return parse(body)
    except ValueError as error:
        raise refusal(400, f"The body is no JSON: {error}.") from None


def to_json(value: Any) -> bytes:
    """Return plain data as JSON."""
    from pydantic_core import to_json as dump

    return dump(value)


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()


def sort_of(event: Event) -> tuple[str, bytes]:
    """Return what the body is (``json``, ``text``, ``bytes``, ``empty``, or a table's format), and its bytes."""
    body = event.body
    if not isinstance(body, (bytes, bytearray)):
        return ("empty", b"") if body is None else ("json", to_json(body))
    body, kind = bytes(body), media_type(event.content_type)
    if not body:
        return "empty", b""
    if kind == "application/json" or kind.endswith("+json"):
        return "json", _as_utf8(body, event.content_type)
    if kind in TABLES:
        return TABLES[kind], body
    if kind in ("", _FORM):  # as curl and brokers send it
        return ("json" if body.lstrip()[:1] in (b"{", b"[", b'"') or _is_scalar(body) else "text"), body
    if kind.startswith("text/"):
        return "text", body
    if kind == "application/octet-stream":
        return "bytes", body
    raise refusal(
        415,
        f"The content type {event.content_type!r} is not read: application/json, application/x-www-form-urlencoded, "
        "multipart/form-data, text/plain, text/csv, application/octet-stream, application/vnd.apache.parquet and "
        "application/vnd.apache.arrow.stream are.",
    )


def _is_scalar(body: bytes) -> bool:
    """Return whether a body that says nothing of its type is a number, true, false or null."""
    try:
        return len(body) < 64 and (body in (b"true", b"false", b"null") or float(body) is not None)
    except ValueError:
        return False


def read_form(event: Event) -> list[tuple[str, Any]] | None:
    """Return names and values of a form; None where the body is none."""
    kind = media_type(event.content_type)
    if not isinstance(event.body, (bytes, bytearray)) or not event.body:
        return None
    if kind == _MULTIPART:
        return _read_multipart(bytes(event.body), event.content_type)
    # A form's own names are escaped: what begins like this is JSON, sent as curl sends it unless told otherwise.
    if kind != _FORM or event.body.lstrip()[:1] in (b"{", b"["):
        return None
    try:
        return list(parse_qsl(event.body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise refusal(400, f"The form cannot be read: {error}.") from None


def _read_multipart(body: bytes, content_type: str) -> list[tuple[str, Any]]:
    from email.parser import BytesParser
    from email.policy import HTTP

    whole = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    if not whole.is_multipart():
        raise refusal(400, "The form cannot be read: its content type names no boundary that stands in the body.")
    found: list[tuple[str, Any]] = []
    for part in whole.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content: Any = part.get_payload(decode=True) or b""
        is_file = part.get_filename() is not None
        found.append((str(name or ""), content if is_file else content.decode("utf-8", "replace")))
    if len(found) > _MOST_FIELDS:
        raise refusal(400, f"The form has {len(found)} fields: {_MOST_FIELDS} at most are read.")
    return found


def as_text(body: bytes, content_type: str) -> str:
    """Return a body as text, by the charset of its content type."""
    charset = _charset(content_type)
    try:
        return body.decode(charset)
    except (UnicodeDecodeError, LookupError) as error:
        raise refusal(400, f"The body is no text in {charset}: {error}.") from None


def _as_utf8(body: bytes, content_type: str) -> bytes:
    charset = _charset(content_type)
    return body if charset in ("utf-8", "utf8", "us-ascii") else as_text(body, content_type).encode()


def _charset(content_type: str) -> str:
    if "charset" not in content_type.lower():
        return "utf-8"
    message = Message()
    message["Content-Type"] = content_type
    return str(message.get_param("charset") or "utf-8").lower()


def _csv(body: bytes) -> Any:
    return load("pandas").read_csv(io.BytesIO(body))


def _parquet(body: bytes) -> Any:
    load("pyarrow")
    return load("pandas").read_parquet(io.BytesIO(body), engine="pyarrow")


def _arrow(body: bytes) -> Any:
    load("pyarrow")
    return load("pyarrow.ipc").open_stream(io.BytesIO(body)).read_pandas()


TABLE_READERS: Mapping[str, Callable[[bytes], Any]] = {"csv": _csv, "parquet": _parquet, "arrow": _arrow}


def read_table(sort: str, body: bytes) -> Any:
    """Return a DataFrame out of a body."""
    try:
        return TABLE_READERS[sort](body)
    except (ValueError, OSError) as error:  # pandas and pyarrow raise kinds of these
        raise refusal(400, f"The body is no {sort}: {error}.") from None


def table_annotation(kind: str, annotation: Any) -> Any:
    """Return how pydantic reads a table out of JSON: as rows or columns, and as lists of numbers; one that is there passes."""
    from pydantic import BeforeValidator, WithJsonSchema

    schema, make = _PLAIN_TABLES[kind]
    is_optional = type(None) in get_args(annotation)
    read = BeforeValidator(lambda value: None if value is None and is_optional else _made(make, value, kind))
    return Annotated[Any, read, WithJsonSchema(schema)]


def _made(make: Callable[[Any], Any], value: Any, kind: str) -> Any:
    if f"{type(value).__module__.partition('.')[0]}.{type(value).__qualname__}" == kind:
        return value
    # A text would be a path, and a client has no say over files of this machine. pydantic takes a ValueError alone.
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, dict)):
        said = f"rows or columns are allowed for a {kind.partition('.')[2]}, not a {type(value).__name__}"
        raise ValueError(said)  # noqa: TRY004
    try:
        return make(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def _frame(value: Any) -> Any:
    return load("pandas").DataFrame(value)


def _series(value: Any) -> Any:
    return load("pandas").Series(value)


def _array(value: Any) -> Any:
    return load("numpy").asarray(value)


_ROWS = {"type": "array", "items": {"type": "object"}}
_PLAIN_TABLES: Mapping[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "pandas.DataFrame": (
        {"anyOf": [_ROWS, {"type": "object", "additionalProperties": {"type": "array"}}], "format": "table"},
        _frame,
    ),
    "pandas.Series": ({"type": "array"}, _series),
    "numpy.ndarray": ({"type": "array"}, _array),
}
