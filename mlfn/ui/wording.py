"""Texts, times and sizes as a reader sees them: bounded, and without anything that a terminal or browser would obey."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime, timezone

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)", re.DOTALL)
# Control characters, and changes of direction, which can make a text look like another.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PATH = re.compile(r"""\b(?:Pure)?(?:Posix|Windows)Path\(('[^']*'|"[^"]*")\)""")
_LONGEST_WHOLE = 1e12  # a greater number shows an exponent
LONGEST_LINE = 300
LONGEST_VALUE = 80


def clean(text: str) -> str:
    """Return text without escape sequences, control characters and changes of direction."""
    return _OBEYED.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))


def cut(text: str, most: int, *, keep_end: bool = False) -> str:
    """Return at most so many characters, with a mark where some are left out."""
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if keep_end else f"{text[: most - 1]}…"


def without_path_classes(text: str) -> str:
    """Return a repr with paths as texts: ``'a.csv'`` for ``PosixPath('a.csv')``."""
    return _PATH.sub(r"\1", text)


def last_lines(text: str, most: int) -> str:
    """Return the first line and the last ones, each of them cut."""
    lines = clean(text).rstrip().split("\n")
    if len(lines) > most:
        lines = [lines[0], f"  … {len(lines) - most} lines left out …", *lines[len(lines) - most + 2 :]]
    return "\n".join(cut(line, LONGEST_LINE) for line in lines)


def type_shown(name: str) -> str:
    """Return a type's name without its inner modules."""
    first, _, rest = clean(name).partition(".")
    last = rest.rpartition(".")[2]
    if not rest:
        return first
    return last if first in ("builtins", "__main__") else f"{first}.{last}"


def from_home(path: str) -> str:
    """Return a path with ``~`` in place of the home folder, as a shell takes it."""
    home = os.path.expanduser("~").rstrip("/")
    return f"~{path[len(home) :]}" if home and path.startswith(f"{home}/") and " " not in path else path


def wrapped(text: str, width: int | None, *, indent: int, first: int = 0) -> list[str]:
    """Return text in lines of at most so many columns, broken between words alone; all lines but the `first` begin indented."""
    if width is None:
        return [text]
    lines, line, left = [], " " * first, width - indent + first
    for word in text.split():
        if line.strip() and len(line) + 1 + len(word) > left:
            lines.append(line)
            line, left = " " * indent, width
        line += f" {word}" if line.strip() else word
    return [*lines, line]


def duration(seconds: float, *, exact: bool) -> str:
    """Return a time span; `exact` shows parts of a second, which a running clock should not."""
    if seconds < 60:
        if exact:
            return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def amount(size: int) -> str:
    """Return a number of bytes."""
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} B" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def ago(seconds: float, *, taken: float) -> str:
    """Return how long before `taken` a time was, in few columns; of an older one the date."""
    span = max(0.0, taken - seconds)
    for most, unit, word in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (7 * 86400, 86400, "d")):
        if span < most:
            return f"{span // unit:.0f} {word} ago"
    return local_time(seconds).strftime("%Y-%m-%d")


def moment(seconds: float) -> str:
    """Return a date and time of day, in this machine's zone."""
    return local_time(seconds).strftime("%Y-%m-%d %H:%M:%S")


def local_time(seconds: float) -> datetime:
    """Return a time in this machine's zone."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone()


def number(value: float | None) -> str:
    """Return a number in four significant digits, whole ones where there are more before the point; None as a dash."""
    if value is None:
        return "–"
    return f"{value:.0f}" if 1000 <= abs(value) < _LONGEST_WHOLE else f"{value:.4g}"


def pace_text(pace: float) -> str:
    """Return how many children end in a second, a minute or an hour."""
    if pace >= 1:
        return f"{pace:,.0f}/s" if pace >= 10 else f"{pace:.1f}/s"
    return f"{pace * 60:.1f}/min" if pace * 60 >= 1 else f"{pace * 3600:.1f}/h"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def joined(parts: Iterable[str]) -> str:
    """Return the parts that there are, in one line."""
    return " · ".join(part for part in parts if part)
