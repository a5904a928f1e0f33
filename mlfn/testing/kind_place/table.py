"""The table of the documentation: what passes for which kind at which place, and why the rest does not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import ModuleType

from mlfn.testing.kind_place.cases import CHAPTERS
from mlfn.testing.kind_place.marks import Mark
from mlfn.testing.kind_place.pair import Pair

_BETWEEN = re.compile(r"(?<=^<!-- table -->\n).*?(?=^<!-- end of table -->$)", re.DOTALL | re.MULTILINE)


def pairs_of(module: ModuleType) -> list[type[Pair]]:
    """Return the pairs that a module defines, in the order in which it does."""
    found = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Pair)]
    return [pair for pair in found if pair.__module__ == module.__name__]


def table(pairs: Sequence[type[Pair]]) -> str:
    """Return a Markdown table of cases and pairs, with a numbered note for each reason."""
    notes: dict[str, int] = {}
    for pair in pairs:
        for mark in _in_order(pair.EXPECTED):
            notes.setdefault(mark.reason, len(notes) + 1)
    heads = [f"`{pair.name_of_kind()}` on `{pair.on}`" for pair in pairs]
    lines = [f"| case | {' | '.join(heads)} |", f"|---|{'---|' * len(pairs)}"]
    for chapter, cases in CHAPTERS.items():
        lines.append(f"| **{chapter}** |{' |' * len(pairs)}")
        lines += [f"| {case} | {' | '.join(_cell(pair, case, notes) for pair in pairs)} |" for case in cases]
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in notes.items()), ""])


def with_table(page: str, pairs: Sequence[type[Pair]]) -> str:
    """Return a page's text with the table between its two marks."""
    if not _BETWEEN.search(page):
        raise ValueError("the page has no line '<!-- table -->' with '<!-- end of table -->' after it")
    return _BETWEEN.sub(lambda _: f"\n{table(pairs)}\n", page, count=1)


def _in_order(expected: Mapping[str, Mark]) -> list[Mark]:
    return [expected[case] for cases in CHAPTERS.values() for case in cases if case in expected]


def _cell(pair: type[Pair], case: str, notes: Mapping[str, int]) -> str:
    mark = pair.EXPECTED.get(case)
    return "✓" if mark is None else f"{mark.word} ({notes[mark.reason]})"
