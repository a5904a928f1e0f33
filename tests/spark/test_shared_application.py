"""One application for many runs: results and sweeps as with an application each, sessions apart, and its ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from mlfn.testing.kind_place import Mark, ResultCases, SweepsCases, never
from tests.kind_places import SparkOnLocal


class SharedSparkOnLocal(SparkOnLocal):
    kind: Any = dataclasses.replace(SparkOnLocal.kind, share=True)
    width = 1
    EXPECTED: ClassVar[Mapping[str, Mark]] = {
        **SparkOnLocal.EXPECTED,
        "grid_is_one_object": never("Its children are runs of an application that others use too."),
        "stopping_one_unit_leaves_others": never("The runs of a shared application take turns."),
    }


class TestResultOfSharedSpark(SharedSparkOnLocal, ResultCases): ...


class TestSweepsOfSharedSpark(SharedSparkOnLocal, SweepsCases): ...
