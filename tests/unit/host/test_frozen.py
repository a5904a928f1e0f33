from __future__ import annotations

from dataclasses import field, replace

import pytest

from mlfn.host.frozen import frozen


@frozen
class Point:
    """A point."""

    x: int
    y: int = 0
    note: str = field(default="", repr=False)


@frozen
class Named(Point):
    """One with a repr and a comparison of its own."""

    name: str = ""

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def test_equal_fields_make_equal_values() -> None:
    assert Point(1) == Point(1, 0) and hash(Point(1)) == hash(Point(1, 0))
    assert Point(1) != Point(2)
    assert Point(1) != Named(1)
    assert {Point(1), Point(1), Point(2)} == {Point(2), Point(1)}


def test_a_value_shows_its_fields() -> None:
    assert repr(Point(1, 2, "hidden")) == "Point(x=1, y=2)"


def test_replace_makes_another_value() -> None:
    point = Point(1, 2)

    assert replace(point, y=3) == Point(1, 3)
    assert point == Point(1, 2)


def test_methods_of_the_class_itself_stay() -> None:
    assert repr(Named(1, name="a")) == "a"
    assert Named(1, name="a") == Named(2, name="a") != Named(1, name="b")


def test_unhashable_fields_are_refused_by_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point([]))  # type: ignore[arg-type]
