"""What SQLite alone can go wrong with: files, disks, forks."""

from __future__ import annotations

import json
import os
import threading

import pytest

from mlfn.errors import SettingsError, StorageError, StoreCorruptError
from mlfn.store import open_store
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import StoreFixtures, submitted
from tests.contract.stores import OnSqlite, count_rows, in_a_fork, run_script


class TestSqlite(OnSqlite, StoreFixtures):
    def database(self, tmp_path):
        return tmp_path / "data" / "mlfn.db"

    def test_files_are_private_under_any_umask(self, tmp_path):
        before = os.umask(0)
        try:
            store = open_store("", tmp_path / "new" / "data")
            store.apply([submitted("a")])
            files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new" / "data").iterdir()}
            store.close()
        finally:
            os.umask(before)

        assert files == {"mlfn.db": 0o600, "mlfn.db-wal": 0o600, "mlfn.db-shm": 0o600}
        assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700

    def test_a_child_inherits_no_open_file(self, store, tmp_path):
        store.apply([submitted("a")])

        def inherits_none() -> bool:
            open_files = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_exists(fd)}
            return not any("mlfn.db" in name for name in open_files)

        assert in_a_fork(inherits_none) == 0

    def test_a_childs_commit_outlives_its_parents_connection(self, url, tmp_path):
        store = open_store(url, tmp_path / "data")
        store.apply([submitted("a")])
        ready_in, ready_out = os.pipe()
        go_in, go_out = os.pipe()

        def commit_after_the_parent_has_left() -> bool:
            store.get_run("a")
            os.write(ready_out, b"!")
            os.read(go_in, 1)
            return store.apply([submitted("b")]) == [1]

        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(in_a_fork(commit_after_the_parent_has_left)))
        thread.start()
        os.read(ready_in, 1)
        store.apply([submitted("c")])
        store.close()  # the last one to leave takes the log with it, as far as it knows
        os.write(go_out, b"!")
        thread.join(30)
        for fd in (ready_in, ready_out, go_in, go_out):
            os.close(fd)

        assert codes == [0]
        assert count_rows(open_store(url, tmp_path / "data"), "runs") == 3

    def test_a_file_that_is_no_database_is_damaged(self, tmp_path):
        (tmp_path / "data").mkdir()
        self.database(tmp_path).write_bytes(b"not a database, by any means" * 200)

        with pytest.raises(StoreCorruptError, match=r"mlfn.db is damaged.*\.recover"):
            open_store("", tmp_path / "data")

    def test_a_damaged_page_is_found_within_a_listing(self, tmp_path):
        store = open_store("", tmp_path / "data")
        store.apply([submitted(f"r{i}", params={"x": {"packer": "json", "inline": "y" * 500}}) for i in range(500)])
        store.close()
        with self.database(tmp_path).open("r+b") as file:
            size = file.seek(0, 2)
            for page in range(60, size // 4096, 2):
                file.seek(page * 4096)
                file.write(b"\xff" * 4096)

        store = open_store("", tmp_path / "data")
        with pytest.raises(StoreCorruptError, match="damaged"):
            store.list_runs(RunFilter(), limit=10_000)
        store.close()

    def test_a_full_disk_loses_nothing_committed(self, tmp_path):
        """A limit on the size of files stands for the disk: it needs no rights, and SQLite meets it in the same place."""
        script = f"""
import json, resource
from pathlib import Path
from mlfn.errors import StorageError
from mlfn.store import open_store
from mlfn.testing.store.base import submitted

store = open_store("", Path({str(tmp_path / "data")!r}))
store.apply([submitted("a")])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
kept = 0
try:
    for i in range(1000):
        store.apply([submitted(f"r{{i}}", params={{"x": {{"packer": "json", "inline": "y" * 5000}}}})])
        kept += 1
except StorageError as error:
    print(json.dumps([kept, str(error)]))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.apply([submitted("later")]) == [1]
"""
        out = run_script(script)
        kept, text = json.loads(out)

        assert "cannot be written" in text and "MLFN_DATA" in text
        assert 0 < kept < 1000
        assert count_rows(open_store("", tmp_path / "data"), "runs") == kept + 2

    def test_a_read_only_file_is_named_when_written(self, tmp_path):
        """As another user where this one is root, whom no mode stops."""
        (tmp_path / "data").mkdir()
        store = open_store("", tmp_path / "data")
        store.apply([submitted("a")])
        store.close()
        script = f"""
import json
import os
from pathlib import Path
from mlfn.errors import StorageError
from mlfn.store import open_store
from mlfn.testing.store.base import submitted

# Another user may not be able to read the standard library: what is needed is loaded by doing it all once.
open_store("", Path({str(tmp_path / "elsewhere")!r})).apply([submitted("a")])

folder = Path({str(tmp_path / "data")!r})
os.chmod(folder / "mlfn.db", 0o444)
os.chmod(folder, 0o555)
for parent in folder.parents:
    if parent.stat().st_uid == os.geteuid() and os.geteuid() == 0 and parent.name:
        os.chmod(parent, 0o755)
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    open_store("", folder).apply([submitted("b")])
except StorageError as error:
    print(error)
"""
        out = run_script(script)
        os.chmod(tmp_path / "data", 0o700)

        assert "cannot be written" in out and "rights" in out

    def test_an_impossible_folder_names_the_setting(self, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(StorageError, match=r"cannot be created.*MLFN_DATA"):
            open_store("", tmp_path / "file" / "data")

    def test_an_unknown_url_lists_the_known_schemes(self, tmp_path):
        with pytest.raises(SettingsError, match=r"mysql://.*sqlite:///.*postgresql://"):
            open_store("mysql://x", tmp_path)


def fd_exists(fd):
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return True
