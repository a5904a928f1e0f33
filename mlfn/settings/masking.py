"""Replaces secret values in text and in streams of bytes by ``***``.

Imports nothing of mlfn: the masking program loads this file alone, by its path.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

MASK = b"***"

Raw: TypeAlias = bytes  # inside Masker, `bytes` is the method

MIN_LENGTH = 4
"""Shorter values are not masked: a log in which every "1" is ``***`` tells nothing, and hides nothing."""

MIN_LINE = 8
"""Lines of a value shorter than this are not masked on their own: ``{`` and ``END`` are no secrets."""


class Masker:
    """Masks every one of `values`, and the forms in which base64, URLs, JSON and repr would show it.

    Values shorter than MIN_LENGTH are left alone. Of a multi-line value each line of MIN_LINE characters or
    more is masked on its own too, a shorter one where it follows the lines before it. Of a value within a
    larger base64 text, at most the characters at its two borders, which mix its bits with its neighbours',
    stay.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for part in _parts(value) for form in _forms(part)}
        self.patterns = tuple(sorted(forms, key=len, reverse=True))

    def __repr__(self) -> str:
        return f"<Masker of {len(self.patterns)} patterns>"  # never the values

    def text(self, text: str) -> str:
        """Return `text` with every value masked."""
        errors = _error_handler(text)
        raw = text.encode("utf-8", errors)
        masked = self.bytes(raw)
        return text if masked is raw else masked.decode("utf-8", errors)

    def bytes(self, data: Raw) -> Raw:
        """Return `data`, itself when nothing matches, with every value masked."""
        spans = find_spans(self, data)
        if not spans:
            return data
        kept, position = [], 0
        for start, end in spans:
            kept += [data[position:start], MASK]
            position = end
        return b"".join([*kept, data[position:]])


def find_spans(masker: Masker, data: bytes) -> list[tuple[int, int]]:
    """Return where values stand in `data`, in order; those that overlap count as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_occurrences(masker.patterns, data)):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _occurrences(patterns: tuple[bytes, ...], data: bytes) -> Iterator[tuple[int, int]]:
    for pattern in patterns:
        start = data.find(pattern)
        while start >= 0:
            yield start, start + len(pattern)
            # From the next byte, not from the end: an occurrence may overlap itself.
            start = data.find(pattern, start + 1)


class StreamMasker:
    """Masks a stream that comes in pieces, wherever they are cut.

    The end of a piece is held back only while it may be the beginning of a value, and a complete line never
    is. So lines of a multi-line value leave before the rest is known: masked like any other, but for its
    first short lines (of fewer than MIN_LINE characters together). Memory: one piece and twice the longest
    pattern.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._context_size = max(map(len, masker.patterns), default=1) - 1
        self._buffer = b""  # what has left, as far back as a pattern can reach, then what is held
        self._left = 0  # how much of the buffer has left
        self._left_masked = False  # whether its last byte left as part of a mask

    def feed(self, data: bytes) -> bytes:
        """Take the next piece and return what can be shown."""
        self._buffer += data
        return self._release(self._held_from())

    def flush(self) -> bytes:
        """Return what was held back, at the end of the stream."""
        return self._release(len(self._buffer))

    def _held_from(self) -> int:
        """Return where in the last, incomplete line a value may begin or go on that is not complete."""
        line = self._buffer.rfind(b"\n") + 1
        held = len(self._buffer)
        if line == held:
            return held
        for pattern in self._masker.patterns:
            held = self._begins(pattern, 0 if b"\n" in pattern else line, held)
        return max(held, line, self._left)

    def _begins(self, pattern: bytes, first: int, before: int) -> int:
        """Return where, between the two, a proper beginning of `pattern` ends the buffer; else `before`."""
        buffer, size = self._buffer, len(self._buffer)
        start = buffer.find(pattern[:1], max(first, size - len(pattern) + 1), before)
        while start >= 0:
            # The last byte first: comparing all of a long pattern at each of its first letters is slow.
            if pattern[size - start - 1] == buffer[-1] and pattern.startswith(buffer[start:]):
                return start
            start = buffer.find(pattern[:1], start + 1, before)
        return before

    def _release(self, limit: int) -> bytes:
        shown: list[bytes] = []
        for start, end in find_spans(self._masker, self._buffer):
            if end <= self._left:
                continue
            if start >= limit:
                break
            continues = start < self._left and self._left_masked
            self._show_until(start, shown)
            if not continues:
                shown.append(MASK)
            self._left, self._left_masked = end, True
        self._show_until(limit, shown)
        self._forget()
        return b"".join(shown)

    def _show_until(self, position: int, shown: list[bytes]) -> None:
        if position > self._left:
            shown.append(self._buffer[self._left : position])
            self._left, self._left_masked = position, False

    def _forget(self) -> None:
        drop = self._left - self._context_size
        if drop > 0:
            self._buffer = self._buffer[drop:]
            self._left -= drop


def _parts(value: str) -> set[str]:
    """Return the value, the value without the newline that `echo` added, and its lines."""
    lines = value.splitlines()
    whole = {part for part in (value, value.strip()) if len(part) >= MIN_LENGTH}
    return whole | {line.strip() for line in lines if len(line.strip()) >= MIN_LINE} | set(_short_lines(lines))


def _short_lines(lines: list[str]) -> Iterator[str]:
    """Yield each line too short to be masked on its own, after as many before it as make it long enough."""
    for last, line in enumerate(lines):
        first = last
        while first > 0 and len("\n".join(lines[first : last + 1])) < MIN_LINE:
            first -= 1
        part = "\n".join(lines[first : last + 1])
        if 0 < len(line) < MIN_LINE <= len(part):
            yield part


def _forms(value: str) -> set[bytes]:
    raw = value.encode("utf-8", _error_handler(value))
    return {raw, *_base64_forms(raw), *_url_forms(raw), *_escaped_forms(value, raw)}


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    yield base64.b64encode(raw)
    yield base64.urlsafe_b64encode(raw)
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        # The first and last characters also hold bits of what stands before and after the value.
        lead = (0, 2, 3)[offset]
        trail = (0, 3, 2)[(offset + len(raw)) % 3]
        core = encoded[lead : len(encoded) - trail]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))


def _url_forms(raw: bytes) -> Iterator[bytes]:
    from urllib.parse import quote, quote_plus  # takes milliseconds to load, and most runs have no secret

    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted.encode()
        yield re.sub("%..", lambda code: code[0].lower(), quoted).encode()


def _escaped_forms(value: str, raw: bytes) -> Iterator[bytes]:
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]):
        # The quote that repr() chooses, and whether JSON escapes a slash, depend on what stands around the
        # value.
        for form in (escaped, escaped.replace("/", r"\/"), escaped.replace("'", r"\'")):
            yield form.encode("utf-8", _error_handler(form))
    yield repr(raw)[2:-1].encode()


def _error_handler(text: str) -> str:
    """Return how to encode `text`: bytes that were not UTF-8, and lone surrogates, survive."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "surrogatepass"
    return "surrogateescape"
