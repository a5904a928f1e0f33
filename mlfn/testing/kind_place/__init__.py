"""The contract of every kind at every place.

A subclass says how its kind is submitted to its place and what cannot hold there; each case is then one test::

    class TestJobOnLocal(KindPlaceContract):
        kind = "job"
        on = "local"
        EXPECTED = {"log_of_each_rank": never("a job has one rank")}

The chapters can be subclassed one by one, beside a `Pair` that says the same for all of them.
"""

from __future__ import annotations

from mlfn.testing.kind_place.cases import CASES, CHAPTERS
from mlfn.testing.kind_place.clients import ClientsCases
from mlfn.testing.kind_place.ends import EndsCases
from mlfn.testing.kind_place.marks import CannotBeAttemptedError, Mark, never, notimpl, notyet
from mlfn.testing.kind_place.pair import Pair
from mlfn.testing.kind_place.result import ResultCases
from mlfn.testing.kind_place.safety import SafetyCases
from mlfn.testing.kind_place.sweeps import SweepsCases
from mlfn.testing.kind_place.watching import WatchingCases

__all__ = [
    "CASES",
    "CHAPTERS",
    "CannotBeAttemptedError",
    "ClientsCases",
    "EndsCases",
    "KindPlaceContract",
    "Mark",
    "Pair",
    "ResultCases",
    "SafetyCases",
    "SweepsCases",
    "WatchingCases",
    "never",
    "notimpl",
    "notyet",
]


class KindPlaceContract(ResultCases, WatchingCases, EndsCases, ClientsCases, SweepsCases, SafetyCases):
    """All chapters, to be subclassed."""
