"""Masking of values in text and streams, and the program that does it for a run's log."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlfn.settings.masking import Masker, StreamMasker
from mlfn.worker import log_masking as masking
from mlfn.worker.log_masking import EXIT_IO, EXIT_USAGE, start_pump

SECRET = "hunter2/with+odd'chars\" and é"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nxyz=\n-----END KEY-----\n"


def streamed(masker: Masker, *pieces: bytes) -> bytes:
    stream = StreamMasker(masker)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.flush()])


def test_a_value_is_masked_wherever_it_stands() -> None:
    assert Masker(["s3cret"]).text("a s3cret, s3crets3cret") == "a ***, ******"


def test_text_without_a_value_is_returned_as_it_is() -> None:
    text, data = "nothing \udcff \ud800 here", b"\xff\x00 nothing"
    masker = Masker(["s3cret"])

    assert masker.text(text) is text
    assert masker.bytes(data) is data


def test_text_around_a_value_keeps_what_is_not_unicode() -> None:
    assert Masker(["s3cret"]).text("\udcff s3cret \ud800") == "\udcff *** \ud800"


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        json.dumps({"k": SECRET}),
        json.dumps({"k": SECRET}, ensure_ascii=False),
        json.dumps(SECRET).replace("/", "\\/"),
        repr(SECRET),
        repr([SECRET]),
        repr(SECRET.encode()),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").replace("F", "f").replace("B", "b").replace("C3%A9", "c3%a9"),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_common_encodings_of_a_value_are_masked(shown: str) -> None:
    masked = Masker([SECRET]).text(shown)

    assert "***" in masked
    assert "hunter2" not in masked
    assert len(masked) < 14


@given(before=st.binary(max_size=9), after=st.binary(max_size=9), value=st.text(min_size=8, max_size=40))
def test_a_value_is_masked_at_every_alignment_within_base64(before: bytes, after: bytes, value: str) -> None:
    raw = value.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        masked = Masker([value]).bytes(encode(before + raw + after))

        assert b"***" in masked
        # What may stay is what the neighbours' bytes are in.
        assert len(masked.replace(b"***", b"")) <= 4 * ((len(before) + 2) // 3 + (len(after) + 2) // 3) + 8


def test_of_values_that_overlap_nothing_stays() -> None:
    masker = Masker(["abcdef", "defghi", "abcd"])

    assert masker.text("<abcdefghi>") == "<***>"
    assert masker.text("<abcd>") == "<***>"


def test_values_under_four_characters_are_not_masked() -> None:
    assert Masker(["1", "abc", ""]).text("1 abc") == "1 abc"


def test_a_value_that_came_with_a_trailing_newline_is_masked_without_it() -> None:
    assert Masker(["hunter2\n"]).text("pw=hunter2;") == "pw=***;"


def test_lines_of_a_multi_line_value_are_masked_on_their_own() -> None:
    masked = Masker([PEM]).text("got\r\n  hkiG9w0BAQEFAASC\r\n xyz= ")

    assert masked == "got\r\n  ***\r\n xyz= "  # too short to be known on its own


def test_the_repr_of_a_masker_shows_no_value() -> None:
    assert "s3cret" not in repr(Masker(["s3cret"])) + repr(StreamMasker(Masker(["s3cret"])))


# Few letters, so that values, their prefixes and their overlaps do occur.
words = st.text("ab/", min_size=4, max_size=9)
logs = st.lists(words | st.text("ab/\n", max_size=5), max_size=12).map("".join)


@given(values=st.lists(words, max_size=4), log=logs, cuts=st.lists(st.integers(0, 80), max_size=8))
@example(values=["aaab", "abba"], log="aaabba", cuts=[4, 5])
@example(values=["aaaa"], log="aaaaaaaaaa", cuts=[3, 4, 7])
def test_a_stream_is_masked_as_its_whole_is_wherever_it_is_cut(values: list[str], log: str, cuts: list[int]) -> None:
    masker, data = Masker(values), log.encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]

    assert streamed(masker, *pieces) == masker.bytes(data)


@given(data=st.data())
def test_no_line_of_a_multi_line_value_leaves_a_stream(data: st.DataObject) -> None:
    log = f"start\n{PEM}end {PEM}\n".encode()
    edges = [0, *sorted(data.draw(st.sets(st.integers(1, len(log) - 1), max_size=9))), len(log)]

    shown = streamed(Masker([PEM]), *(log[start:end] for start, end in pairwise(edges)))

    assert not any(line in shown.decode() for line in PEM.splitlines())
    assert shown.startswith(b"start\n***") and b"end ***" in shown


def test_only_the_first_short_lines_of_a_multi_line_value_can_leave() -> None:
    masker = Masker(["ab\ncd\nef\ngh"])

    assert streamed(masker, b"x\nab\n", b"cd\n", b"ef\n", b"gh\n") == b"x\nab\ncd\n***\n***\n"
    assert streamed(masker, b"x\nab\ncd\n", b"ef", b"\ng", b"h\n") == b"x\nab\ncd\n***\n***\n"


def test_a_complete_line_is_never_held_back() -> None:
    stream = StreamMasker(Masker(["s3cret", "line\nof two"]))

    assert stream.feed(b"a line\n") == b"a line\n"
    assert stream.feed(b"progress 10%\r") == b"progress 10%\r"
    assert stream.feed(b"s3c") == b""
    assert stream.feed(b"r\n") == b"s3cr\n"


def test_a_stream_needs_no_more_memory_than_a_piece_and_two_patterns() -> None:
    stream = StreamMasker(Masker(["aaaa" * 8]))

    for _ in range(2000):
        stream.feed(b"a" * 100)

    assert len(stream._buffer) < 300


# The program ------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "log"
    path.touch()
    return path


def open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def pump_through(values: list[str], log: Path, *pieces: bytes) -> subprocess.Popen[bytes]:
    descriptor = open_log(log)
    pump = start_pump(values, descriptor)
    os.close(descriptor)
    assert pump.stdin is not None
    for piece in pieces:
        pump.stdin.write(piece)
        pump.stdin.flush()
    pump.stdin.close()
    pump.wait(60)
    return pump


def test_the_program_masks_what_goes_through_it_also_when_cut_anywhere(log: Path) -> None:
    text = f"a {SECRET} b\nlast".encode()

    pump = pump_through([SECRET], log, *(text[i : i + 1] for i in range(len(text))))

    assert pump.returncode == 0
    assert log.read_bytes() == b"a *** b\nlast"


def test_the_program_is_the_same_when_the_log_is_shared_with_another_writer(log: Path) -> None:
    log.write_text("first\n")

    pump_through([SECRET], log, b"second\n")

    assert log.read_text() == "first\nsecond\n"


def test_no_value_is_in_the_programs_arguments_or_environment(log: Path) -> None:
    descriptor = open_log(log)
    pump = start_pump([SECRET], descriptor)
    os.close(descriptor)
    try:
        assert "hunter2" not in str(pump.args)
    finally:
        pump.communicate()


def test_signals_do_not_cut_off_the_tail(log: Path) -> None:
    descriptor = open_log(log)
    pump = start_pump([SECRET], descriptor)
    os.close(descriptor)
    assert pump.stdin is not None
    pump.stdin.write(b"up\n")
    pump.stdin.flush()
    deadline = time.monotonic() + 30
    while log.read_bytes() != b"up\n" and time.monotonic() < deadline:
        time.sleep(0.005)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        pump.send_signal(number)
    pump.stdin.write(b"the tail")
    pump.stdin.close()

    assert pump.wait(30) == 0
    assert log.read_bytes() == b"up\nthe tail"


def test_without_values_to_read_the_program_copies_nothing() -> None:
    reader, writer = os.pipe()
    os.write(writer, b'["hunter2", ')
    os.close(writer)

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", masking.PROGRAM, str(reader)],
        input=b"hunter2",
        capture_output=True,
        check=False,
        pass_fds=[reader],
    )
    os.close(reader)

    assert (done.returncode, done.stdout) == (EXIT_USAGE, b"")
    assert b"hunter2" not in done.stderr


def test_a_full_disk_is_reported_and_does_not_block_the_run() -> None:
    pump = pump_through([SECRET], Path("/dev/full"), *[b"x" * 65536] * 40)

    assert pump.returncode == EXIT_IO


def test_a_flood_is_masked_fast(tmp_path: Path) -> None:
    size = 128 << 20
    flood = tmp_path / "flood"
    line = b"2024-05-01 12:00:00,123 INFO trainer loss=0.123456 accuracy=0.9876 path=/data/set/x.parquet\n"
    with flood.open("wb") as file:
        for _ in range(size // (len(line) * 8192) + 1):
            file.write(line * 8192)
    values = [base64.b64encode(os.urandom(24)).decode() for _ in range(5)]
    reader, writer = os.pipe()
    os.write(writer, json.dumps(values).encode())
    os.close(writer)

    # Through a pipe, as a run's output comes. Counted in CPU time: the machine may be busy.
    cat = subprocess.Popen(["cat", str(flood)], stdout=subprocess.PIPE)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (tmp_path / "out").open("wb") as out:
        command = [sys.executable, "-I", "-S", "-c", masking.PROGRAM, str(reader)]
        subprocess.run(command, stdin=cat.stdout, stdout=out, pass_fds=[reader], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cat.communicate()
    os.close(reader)

    masked = after.ru_utime - before.ru_utime
    print(f"masked {flood.stat().st_size / masked / 1e6:.0f} MB a second of CPU")
    assert (tmp_path / "out").stat().st_size == flood.stat().st_size
    assert masked < flood.stat().st_size / 30e6  # 100e6 were measured
