"""From what a function returns to an answer: JSON, text, bytes, tables in the form that the client accepts, streams."""

from __future__ import annotations

import inspect
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from mlfn.artifacts.formats.base import load
from mlfn.errors import OutputError
from mlfn.serving.answers import BYTES, JSON, TEXT, Answer

LINES = "application/x-ndjson"
_REFUSED_HEADERS = ("x-nuclio-filestream-",)  # with which the engine would send a file of its own machine


def answer_of(value: Any, *, accept: str = "", outputs: Sequence[str] = ()) -> Answer:
    """Return what a function's value is answered with; OutputError for one that is no JSON.

    A text is text, bytes are bytes, a DataFrame is JSON records or, where `accept` asks for it, Parquet, Arrow or CSV; all
    else is JSON. Several named `outputs` are an object by their names; NaN and infinities are null, as JSON has neither.
    """
    kind = type(value)
    if kind is str:
        return Answer(value.encode("utf-8", "replace"), TEXT)
    if kind is bytes:
        return Answer(value, BYTES)
    if kind is Answer:
        return value  # type: ignore[no-any-return]
    if is_response(value):
        return _of_response(value, accept)
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return streamed(value)
    if kind in (bytearray, memoryview):
        return Answer(bytes(value), BYTES)
    if outputs and kind in (tuple, list) and len(outputs) == len(value) > 1:
        return Answer(to_json(dict(zip(outputs, value, strict=True))), JSON)
    if (table := _table(value)) is not None:
        return _of_table(table, accept)
    return Answer(to_json(value), JSON)


def to_json(value: Any) -> bytes:
    """Return a value as JSON: models, dataclasses, dates, enums, sets, NumPy's numbers and arrays too."""
    from pydantic_core import PydanticSerializationError
    from pydantic_core import to_json as dump

    try:
        return dump(value, inf_nan_mode="null", bytes_mode="base64", fallback=_plain)
    except (PydanticSerializationError, UnicodeEncodeError, RecursionError) as error:
        raise OutputError(
            f"A {type(value).__qualname__} was returned, which is no JSON: {error}. Return numbers, texts, lists, "
            "mappings, models, tables or bytes."
        ) from error


def _plain(value: Any) -> Any:
    """Return what pydantic does not know as plain data; TypeError for what has no such form."""
    package = type(value).__module__.partition(".")[0]
    if package == "pandas" and hasattr(value, "to_dict"):
        return value.to_dict(orient="records") if value.ndim == 2 else value.tolist()
    if hasattr(value, "tolist"):  # NumPy, pandas, torch
        return value.tolist()
    if hasattr(value, "to_json"):
        return value.to_json()
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no form in JSON")


def is_response(value: Any) -> bool:
    """Say whether it is a Response of nuclio-sdk, or one that is made like it."""
    return hasattr(value, "status_code") and hasattr(value, "body") and hasattr(value, "content_type")


def _of_response(value: Any, accept: str) -> Answer:
    body, kind = value.body, value.content_type or ""
    if inspect.isgenerator(body) or inspect.isasyncgen(body):
        answer = streamed(body)
        answer.content_type = kind or answer.content_type
    elif isinstance(body, str):
        answer = Answer(body.encode("utf-8", "replace"), kind or TEXT)
    elif isinstance(body, (bytes, bytearray)):
        answer = Answer(bytes(body), kind or BYTES)
    elif body is None:
        answer = Answer(b"", kind or TEXT)
    else:
        answer = answer_of(body, accept=accept)  # one that is no text says itself what it is
    answer.status = status_of(value.status_code)
    answer.headers = headers_of(value.headers or {})
    return answer


def status_of(value: Any) -> int:
    """Return a status as HTTP has it; OutputError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= int(value) <= 599:
        raise OutputError(f"status_code={value!r} was returned: a number from 200 to 599 is allowed.")
    return int(value)


def headers_of(headers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the headers that are sent: all as text, without those that would have the engine send a file of its own."""
    found = []
    for name, value in headers.items():
        text, plain = str(value), str(name)
        if plain.lower().startswith(_REFUSED_HEADERS) or plain.lower() in ("content-type", "content-length"):
            continue
        if "\n" in text + plain or "\r" in text + plain or "\0" in text + plain:
            raise OutputError(f"The header {plain!r} was returned with a line break, which would begin another header.")
        found.append((plain, text))
    return found


# -- tables
def _table(value: Any) -> Any:
    if type(value).__module__.partition(".")[0] != "pandas":
        return None
    return value if hasattr(value, "columns") and hasattr(value, "to_parquet") else None


def _of_table(frame: Any, accept: str) -> Answer:
    wanted = accept.lower()
    for sign, kind, write in _TABLE_WRITERS:
        if sign in wanted:
            return Answer(write(frame), kind)
    text = frame.to_json(orient="records", date_format="iso", double_precision=15)
    return Answer(text.encode(), JSON)


def _as_parquet(frame: Any) -> bytes:
    load("pyarrow")
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow")
    return buffer.getvalue()


def _as_arrow(frame: Any) -> bytes:
    arrow, ipc = load("pyarrow"), load("pyarrow.ipc")
    table = arrow.Table.from_pandas(frame)
    buffer = io.BytesIO()
    with ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def _as_csv(frame: Any) -> bytes:
    return bytes(frame.to_csv(index=False).encode())


_TABLE_WRITERS: Sequence[tuple[str, str, Callable[[Any], bytes]]] = (
    ("parquet", "application/vnd.apache.parquet", _as_parquet),
    ("arrow", "application/vnd.apache.arrow.stream", _as_arrow),
    ("text/csv", "text/csv; charset=utf-8", _as_csv),
)


# -- streams
def streamed(pieces: Any) -> Answer:
    """Return the answer whose pieces a generator yields: texts and bytes as they are, all else a line of JSON each.

    The first piece is taken before anything is sent: what fails until then is an ordinary failure. An asynchronous generator
    is begun by who sends it.
    """
    if inspect.isasyncgen(pieces):
        return Answer(pieces=_encoded_later(pieces), content_type="")
    first = next(pieces, None)
    return Answer(pieces=_encoded(first, pieces), content_type=piece_type(first))


def piece_type(first: Any) -> str:
    """Return the content type of a stream by its first piece."""
    return TEXT if isinstance(first, (str, type(None))) else BYTES if isinstance(first, (bytes, bytearray)) else LINES


def piece(value: Any) -> bytes:
    """Return one piece of a stream as bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else to_json(value) + b"\n"


def _encoded(first: Any, rest: Iterator[Any]) -> Iterator[bytes]:
    if first is not None:
        yield piece(first)
    for item in rest:
        yield piece(item)


async def _encoded_later(pieces: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for item in pieces:
        yield piece(item)
