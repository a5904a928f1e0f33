"""The iteration table says of each child what it was given and what it came to, whatever that is."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mlfn

# The CSV reader of older Pythons refuses a NUL.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
kinds: list[st.SearchStrategy[Any]] = [
    st.integers(-9, 9),
    st.integers(),
    st.booleans(),
    st.floats(),
    texts,
    st.none(),
    st.lists(st.integers(), max_size=2),
]
# Often of one kind, or of one with gaps, as columns are.
columns = st.sampled_from([*kinds, *(kind | st.none() for kind in kinds), st.one_of(kinds)])
# Some have names that the table has taken already.
metrics = st.dictionaries(st.sampled_from(["score", "val/loss", "x", "state", "seconds"]), st.floats(), max_size=3)
ends = metrics | st.just("fails")


TAKEN = ("x", "state", "seconds")


@st.composite
def plans(draw):
    """Return for each child its parameters, of which only some have the second, and what it is to report."""
    count = draw(st.integers(1, 6))
    value = draw(columns)
    given_ = st.fixed_dictionaries({"x": value}, optional={"more": value})
    return [(draw(given_), draw(ends)) for _ in range(count)]


def expected(plan):
    """Return the table's columns but for times and ids."""
    reported = [{} if end == "fails" else {name: v for name, v in end.items() if not math.isnan(v)} for _, end in plan]
    keys = dict.fromkeys(key for point, _ in plan for key in point)
    names = dict.fromkeys(name for row in reported for name in row)
    failed = [end == "fails" for _, end in plan]
    return {
        "iteration": list(range(1, len(plan) + 1)),
        "state": ["failed" if each else "succeeded" for each in failed],
        **{key: [point.get(key) for point, _ in plan] for key in keys},
        # A database knows no -0.0.
        **{f"result.{n}" if n in TAKEN else n: [r[n] + 0.0 if n in r else None for r in reported] for n in names},
        **({"error": ["ValueError: as it was told" if each else None for each in failed]} if any(failed) else {}),
    }


def shown(value):
    """Return what equals only the same value of the same type; pandas has NaN where something is missing."""
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value is pd.NA or value != value else (type(value), value)


@settings(max_examples=60, deadline=None)
@given(plans())
@example([({"x": "a\rb"}, {})])
@example([({"x": 2**63}, {"score": 1.0}), ({"x": None}, {"score": math.nan}), ({"x": -1}, "fails")])
def test_the_table_equals_the_children(plan):
    ends = [end for _, end in reversed(plan)]

    @mlfn.function(name="reports")
    def reports(ctx: mlfn.Context, x: Any, more: Any = None) -> None:
        end = ends.pop()
        if end == "fails":
            raise ValueError("as it was told\nin two lines")
        for name, value in end.items():
            ctx.log_metric(name, value)

    sweep = reports.on("inline").sweep([point for point, _ in plan]).submit()
    sweep.wait()
    table, text = sweep.table(), sweep.outputs["iteration_results"].read_bytes().decode()

    wanted = {**expected(plan), "run": [child.id for child in sweep.children]}
    assert all(map(str.startswith, wanted["run"], table["run"])) and table["run"].is_unique
    table["run"] = wanted["run"]
    assert sorted(table.columns) == sorted([*wanted, "seconds"])
    assert (table["seconds"] >= 0).all()
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert head == list(table.columns) and len(rows) == len(plan)
    for name, column in wanted.items():
        assert list(map(shown, table[name])) == list(map(shown, column)), name
        assert [row[head.index(name)] for row in rows] == ["" if v is None else str(v) for v in column], name
