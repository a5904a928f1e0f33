"""What the suite says of tasks of a real Dask cluster."""

from __future__ import annotations

import mlfn
from mlfn.testing.kind_place import KindPlaceContract
from mlfn.testing.kind_place.sweeps import SWEEP
from tests.kind_places import DaskOnLocal


class TestDaskOnLocal(DaskOnLocal, KindPlaceContract):
    def test_resume_runs_only_the_missing(self) -> None:
        # A task goes on until its cluster has noticed that the client is dead, so what had not ended may run twice.
        client = self.client(SWEEP)
        self.wait_until(lambda: self.notes("start:100"), "the third child has begun")
        self.kill(client)
        self.go()

        [sweep] = mlfn.runs()
        assert isinstance(sweep, mlfn.SweepRun)
        assert sweep.resume().result(self.patience) == 100

        assert self.states(sweep) == ["succeeded"] * 4
        assert [len(self.notes(f"start:{x}")) for x in (1, 2)] == [1, 1]
