"""The whole suite of kind x place on a real cluster."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.kind_places import JobOnKubernetes, MpiOnKubernetes, NuclioOnKubernetes


class TestJobOnKubernetes(JobOnKubernetes, KindPlaceContract):
    def test_waits_as_pending_with_words(self) -> None:
        with self.namespace.quota(pods=str(self.width)):
            super().test_waits_as_pending_with_words()

    def test_cancel_pending_starts_nothing(self) -> None:
        with self.namespace.quota(pods=str(self.width)):
            super().test_cancel_pending_starts_nothing()


class TestMpiOnKubernetes(MpiOnKubernetes, KindPlaceContract):
    def test_waits_as_pending_with_words(self) -> None:
        with self.namespace.quota(pods=str(self.width * self.ranks)):
            super().test_waits_as_pending_with_words()

    def test_cancel_pending_starts_nothing(self) -> None:
        with self.namespace.quota(pods=str(self.width * self.ranks)):
            super().test_cancel_pending_starts_nothing()


class TestNuclioOnKubernetes(NuclioOnKubernetes, KindPlaceContract): ...
