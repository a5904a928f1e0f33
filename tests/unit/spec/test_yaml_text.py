"""YAML read without surprises: what was written comes back, and nothing builds an object."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.spec.yaml_text import YamlError, from_yaml, to_yaml

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


@given(trees)
def test_what_is_written_comes_back(tree):
    again = from_yaml(to_yaml(tree))

    assert again == tree and repr(again) == repr(tree)


@given(st.text("abc:-[]{}&*!|>'\"#\n \t%@`,?~0.e", max_size=40))
def test_no_text_raises_anything_but_its_error(text):
    try:
        from_yaml(text)
    except YamlError as error:
        said = str(error)
    else:
        said = ""
    assert not said or said.startswith("line ")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("+3", 3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("~", None),
        ("Null", None),
        ("TRUE", True),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ('"null"', "null"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_words_are_typed_as_in_yaml_12(word, value):
    (got,) = from_yaml(f"[{word}]")

    assert type(got) is type(value) and got == value


def test_empty_texts_and_nan_are_read():
    assert from_yaml("") is None and from_yaml("# nothing\n") is None and from_yaml("a:") == {"a": None}
    assert math.isnan(from_yaml(".nan"))
