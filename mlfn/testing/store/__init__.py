"""The contract of every store.

::

    class TestMine(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path):
            return lambda: open_mine(tmp_path)

A store that implements one protocol alone subclasses that protocol's contract, and has `opener` return an object that
takes the other protocols from a store that exists. `life.LifeContract`, which needs Hypothesis, compares a run with a model
of it under any order of changes.
"""

from __future__ import annotations

from mlfn.testing.store.commands import CommandsContract
from mlfn.testing.store.nesting import NestingContract
from mlfn.testing.store.queries import QueriesContract
from mlfn.testing.store.sweeps import SweepsContract


class StoreContract(CommandsContract, NestingContract, QueriesContract, SweepsContract):
    """All contracts of a store, to be subclassed."""
