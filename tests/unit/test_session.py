from __future__ import annotations

import gc

import pytest

from mlfn.errors import StoreCorruptError
from mlfn.store import open_store


def test_a_store_that_cannot_be_opened_leaves_no_connection_behind(tmp_path):
    (tmp_path / "mlfn.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)

    with pytest.raises(StoreCorruptError):
        open_store("", tmp_path)
    gc.collect()  # a connection that nobody closed would warn here
