"""The whole suite of kind x place in what operators make of a real cluster; each run takes several pods."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.kind_places import DaskOnKubernetes, HorovodOnKubernetes, SparkOnKubernetes


class TestDaskOnKubernetes(DaskOnKubernetes, KindPlaceContract):
    def test_waits_as_pending_with_words(self) -> None:
        with self.namespace.quota(pods=str(3 * self.width)):
            super().test_waits_as_pending_with_words()

    def test_cancel_pending_starts_nothing(self) -> None:
        with self.namespace.quota(pods=str(3 * self.width)):
            super().test_cancel_pending_starts_nothing()


class TestHorovodOnKubernetes(HorovodOnKubernetes, KindPlaceContract):
    def test_waits_as_pending_with_words(self) -> None:
        with self.namespace.quota(pods=str(self.width * self.ranks)):
            super().test_waits_as_pending_with_words()

    def test_cancel_pending_starts_nothing(self) -> None:
        with self.namespace.quota(pods=str(self.width * self.ranks)):
            super().test_cancel_pending_starts_nothing()


class TestSparkOnKubernetes(SparkOnKubernetes, KindPlaceContract): ...
