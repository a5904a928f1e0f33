"""Our stores keep the contract that a dispatcher and its readers rely on."""

from __future__ import annotations

from mlfn.testing.store import StoreContract
from mlfn.testing.store.life import LifeContract
from tests.contract.stores import OnPostgres, OnSqlite


class TestSqliteStore(OnSqlite, StoreContract, LifeContract):
    pass


class TestPostgresStore(OnPostgres, StoreContract, LifeContract):
    pass
