"""The suite of kind x place with real applications of Spark."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.kind_places import SparkOnLocal


class TestSparkOnLocal(SparkOnLocal, KindPlaceContract): ...
