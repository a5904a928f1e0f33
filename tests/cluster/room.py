"""Cases of the suite of kind x place for which room in a cluster is what a namespace's quota leaves."""

from __future__ import annotations

from mlfn.testing.kind_place import KindPlaceContract
from tests.cluster.api import Namespace


class RoomByQuota(KindPlaceContract):
    """Limits the pods that there may be to those of a pair's `width` of runs."""

    namespace: Namespace
    pods = 1
    """How many one run takes."""

    def test_waits_as_pending_with_words(self) -> None:
        with self.namespace.quota(pods=str(self.width * self.pods)):
            super().test_waits_as_pending_with_words()

    def test_cancel_pending_starts_nothing(self) -> None:
        with self.namespace.quota(pods=str(self.width * self.pods)):
            super().test_cancel_pending_starts_nothing()
