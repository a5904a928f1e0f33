"""What a pod writes is what its client reads, however it arrives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.worker.pod import stream as pod_stream
from mlfn.worker.pod.stream import LAST, Shipped, StreamReader, StreamWriter

MARK = "\x1e0123456789abcdef:"
PARTS = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda data: ("text", data)),
        st.just(("flush", b"")),
        st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=2).map(lambda event: ("event", event)),
        st.binary(max_size=200).map(lambda content: ("file", content)),
    ),
    max_size=12,
)


def read(written: bytes, size: int) -> list[Any]:
    reader = StreamReader(MARK)
    pieces = [written[start : start + size] for start in range(0, len(written), size)]
    return [part for piece in pieces for part in reader.feed(piece)] + list(reader.end())


@given(parts=PARTS, size=st.integers(1, 50))
def test_output_events_and_files_come_apart_again(parts: list[tuple[str, Any]], size: int) -> None:
    written = bytearray()
    writer = StreamWriter(written.extend, MARK)

    for what, value in parts:
        if what == "text":
            writer.text(value)
        elif what == "flush":
            writer.flush()
        elif what == "event":
            writer.event(value)
        else:
            writer.file("run/key/name", value)
    writer.close()

    found = read(bytes(written), size)
    assert b"".join(part for part in found if isinstance(part, bytes)) == b"".join(v for w, v in parts if w == "text")
    assert [part for part in found if isinstance(part, dict)] == [v for w, v in parts if w == "event"]
    assert [part.content for part in found if isinstance(part, Shipped)] == [v for w, v in parts if w == "file"]


def test_of_a_long_output_the_beginning_and_the_end_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_stream, "FIRST", 100)
    monkeypatch.setattr(pod_stream, "LAST", 50)
    written = bytearray()
    writer = StreamWriter(written.extend, MARK)

    for number in range(100):
        writer.text(b"line %d\n" % number)
    writer.close()

    text = b"".join(read(bytes(written), 1000)).decode()
    assert text.startswith("line 0\nline 1\n") and text.endswith("line 98\nline 99\n")
    assert "bytes of output are left out here" in text and "artifacts" in text
    assert len(text) < 400 < LAST


def test_a_line_without_an_end_is_not_held_back_for_ever() -> None:
    written = bytearray()
    writer = StreamWriter(written.extend, MARK)

    writer.text(b"x" * 100_000)

    assert b"".join(read(bytes(written), 10_000)) == b"x" * 100_000
