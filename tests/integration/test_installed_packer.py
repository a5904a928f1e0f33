"""A packer of an installed package packs in a worker, and its value comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlfn
from mlfn.artifacts.formats import registry
from mlfn.dispatch.session import current_session
from mlfn.errors import OutputError
from tests.packages import installed

PACKER = """
from mlfn.artifacts.formats.base import Packed

class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

class PointPacker:
    name = "point"
    types = ()

    def accepts(self, value):
        return type(value) is Point

    def pack(self, value):
        text = f"{value.x} {value.y}".encode()
        return Packed("point", "point_packer.packer.Point", content=text, suffix=".txt", size=len(text))

    def unpack(self, stored):
        return Point(*map(int, stored.file.read_text().split()))
"""
ENTRY_POINTS = "[mlfn.packers]\npoint = point_packer.packer:PointPacker\n"


@pytest.mark.parametrize("place", ["inline", "local"])
def test_an_installed_packer_is_used_in_a_worker(tmp_path: Path, place: str) -> None:
    with installed(tmp_path, "point_packer", ENTRY_POINTS, {"packer": PACKER}):
        from point_packer.packer import Point  # type: ignore[import-not-found]

        @mlfn.function
        def middle(first, others):
            assert isinstance(first, Point) and all(isinstance(other, Point) for other in others), "a class of its own"
            points = [first, *others]
            return Point(sum(p.x for p in points) // len(points), sum(p.y for p in points) // len(points))

        run = middle.on(place).submit(Point(0, 2), [Point(4, 6)])
        again = middle.on(place).submit(run.outputs["return"], [])

        assert (run.result().x, run.result().y) == (again.result().x, again.result().y) == (2, 4)
        assert type(run.result()) is Point
        assert [output.packer for output in current_session().store.outputs(run.id, 1)] == ["point"]


def test_a_packer_whose_name_rows_would_mistake_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry_points = f"{ENTRY_POINTS}text = point_packer.packer:PointPacker\nother = point_packer.packer:PointPacker\n"
    with installed(tmp_path, "point_packer", entry_points, {"packer": PACKER}):
        assert list(registry.installed()) == ["point"]

    other, text = (record.getMessage() for record in caplog.records)
    assert "'other' of mlfn.packers has a packer with name = 'point'" in other
    assert "'text' of mlfn.packers has the name of a packer of mlfn's own" in text


def test_a_value_of_a_missing_packer_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"No packer is called 'point': .*must be installed here too"):
        registry.unpack("point", inline=1, path=None, unpickler=lambda _: None)
