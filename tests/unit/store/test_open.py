"""Opening a store: what is loaded, and what is left open."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import pytest

from mlfn.errors import StoreCorruptError
from mlfn.store import open_queries, open_store
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import ids, submitted

LISTING = """
import json, sys
from pathlib import Path
from mlfn.store import open_queries
from mlfn.store.queries import RunFilter

store = open_queries("", Path(sys.argv[1]))
store.list_runs(RunFilter(), limit=9)
store.child_counts("s")
print(json.dumps([name for name in sys.modules if name.startswith("mlfn.store")]))
"""


def test_a_listing_loads_no_commands(tmp_path):
    done = subprocess.run([sys.executable, "-c", LISTING, str(tmp_path)], capture_output=True, text=True, check=True)

    loaded = json.loads(done.stdout)

    assert "mlfn.store.sql.queries.runs" in loaded
    assert [name for name in loaded if "commands" in name or "changes" in name] == []


def test_a_reader_sees_what_is_written(tmp_path):
    store, reader = open_store("", tmp_path), open_queries("", tmp_path)
    store.apply([submitted("a")])

    assert ids(reader.list_runs(RunFilter(), limit=9)) == "a"
    assert not hasattr(reader, "apply")
    assert reader.schema_version() > 0 and reader.label == str(tmp_path / "mlfn.db")
    store.close()
    reader.close()


def test_a_store_that_fails_to_open_is_closed(tmp_path):
    (tmp_path / "mlfn.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)

    with pytest.raises(StoreCorruptError):
        open_store("", tmp_path)
    gc.collect()  # a connection that is still open would warn here
