"""The whole suite of kind x place at an engine of real processes, whose answers and reports are late, doubled, lost and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfn.testing.kind_place import KindPlaceContract
from tests.chaos.installed import chaos_installed
from tests.kind_places import JobOnChaos


@pytest.fixture(autouse=True)
def chaos(tmp_path: Path) -> Iterator[None]:
    with chaos_installed(tmp_path):
        yield


class TestJobOnChaos(JobOnChaos, KindPlaceContract): ...
