"""The suite of kind x place for runs that a service in Nuclio's own processor executes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mlfn.testing.kind_place import EndsCases, Mark, ResultCases, SafetyCases, SweepsCases, WatchingCases
from tests.kind_places import NuclioOnLocal
from tests.nuclio.conftest import GIVEN


class OnProcessor(NuclioOnLocal):
    """A run that a service in Nuclio's own processor executes."""

    settings: ClassVar[Mapping[str, object]] = {
        **NuclioOnLocal.settings,
        **{name.removeprefix("MLFN_").lower(): value for name, value in GIVEN.items()},
    }
    EXPECTED: ClassVar[Mapping[str, Mark]] = {**NuclioOnLocal.EXPECTED}


class TestResults(OnProcessor, ResultCases): ...


class TestWatching(OnProcessor, WatchingCases): ...


class TestEnds(OnProcessor, EndsCases): ...


class TestSweeps(OnProcessor, SweepsCases): ...


class TestSafety(OnProcessor, SafetyCases): ...
