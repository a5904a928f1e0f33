"""The cases of mlfn.testing.kind_place for functions in the ranks of a real horovodrun."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.kind_places import HorovodOnLocal


class TestHorovodOnLocal(HorovodOnLocal, KindPlaceContract): ...
