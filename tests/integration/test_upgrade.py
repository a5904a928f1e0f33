"""What an earlier version left on disk: it opens, is shown, is read, runs again and goes on, as if nothing had happened.

`tests/data/upgrade/make.py` says what the archives hold, and by what they were made. Each test unpacks one into a folder of its
own, as users move theirs. Of the rows, the paths, the host and when its processes last gave a sign of life become those of today,
and nothing else does.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import mlfn
from mlfn.errors import (
    ParentFailedError,
    RunCancelledError,
    RunLostError,
    RunPrunedError,
    RunTimeoutError,
    SweepError,
    WorkerDiedError,
)
from tests.ledger import ROOT

STORED = ROOT / "tests" / "data" / "upgrade"
VERSIONS = ("0.1", "0.2")
MINOR = f"py{sys.version_info[0]}{sys.version_info[1]}"  # code of one minor does not run on another
MADE_IN, MADE_ON = "/tmp/mlfn-upgrade", "maker/00000000/0"
PLACES = ("local", "inline")


@dataclass(frozen=True)
class Disk:
    """A user's folders: `data`, `config`, `ledgers` and the `project` with the scripts."""

    root: Path

    def ledger(self, name: str) -> list[str]:
        """Return the lines that handlers have written."""
        return (self.root / "ledgers" / name).read_text().split()

    def open_gate(self) -> None:
        """Let handlers end that wait for it."""
        (self.root / "ledgers" / "gate").touch()

    def script(self, name: str, *args: str) -> str:
        """Run a script of the project and return what it printed."""
        return self._run(sys.executable, name, *args)

    def mlfn(self, *args: str) -> str:
        """Run the command line and return what it printed."""
        return self._run(sys.executable, "-m", "mlfn", *args)

    def _run(self, *command: str) -> str:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, env=environ, cwd=self.root / "project", capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def unpack(version: str, root: Path) -> Disk:
    """Put what a user had there, and let its rows say so."""
    died = time.time() - 60  # for a process of another host, that would be too short a time to tell
    with tarfile.open(STORED / version / f"{MINOR}.tar.xz") as archive:
        archive.extractall(root, filter="tar")
    shutil.copytree(STORED / "project", root / "project", ignore=shutil.ignore_patterns("__pycache__"))
    with closing(sqlite3.connect(root / "data" / "mlfn.db", isolation_level=None)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                if kind == "TEXT":
                    connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (MADE_IN, str(root)))
        for table in ("clients", "workers"):
            changed = connection.execute(f"UPDATE {table} SET host = ? WHERE host = ?", (this_host(), MADE_ON))
            assert changed.rowcount > 0
        connection.execute("UPDATE clients SET beat = ?", (died,))
    for beat in root.glob("data/workers/*/beat"):
        os.utime(beat, (died, died))
    return Disk(root)


def this_host() -> str:
    """Return what these versions would have called this host: its processes of those pids are gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot = space = ""
    return f"{socket.gethostname().replace('/', '-')}/{boot}/{space}"


def use(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Be a process of that user, in the project's folder."""
    monkeypatch.setenv("MLFN_DATA", str(disk.root / "data"))
    monkeypatch.setenv("MLFN_HEARTBEAT", "0.2")
    monkeypatch.setenv("MLFN_GRACE", "2")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(disk.root / "config"))
    monkeypatch.syspath_prepend(disk.root / "project")
    monkeypatch.chdir(disk.root / "project")
    return disk


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Return the version that left it."""
    return str(request.param)


@pytest.fixture(scope="module")
def shelf(version: str, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Unpack once for all tests that add nothing."""
    return unpack(version, tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def bench(version: str, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Unpack once for all tests that add runs, and ask for none but these."""
    return unpack(version, tmp_path_factory.mktemp("bench"))


@pytest.fixture
def shared(bench, monkeypatch):
    return use(bench, monkeypatch)


@pytest.fixture
def kept(shelf, monkeypatch):
    return use(shelf, monkeypatch)


@pytest.fixture
def disk(version, tmp_path, monkeypatch):
    return use(unpack(version, tmp_path / "user"), monkeypatch)


@pytest.fixture
def orders() -> ModuleType:
    """Return the user's own module, of whose classes the values are."""
    return importlib.import_module("shop.orders")


def stored(name: str, place: str = "local") -> list[mlfn.Run[Any]]:
    """Return the runs of a function at a place, oldest first."""
    return [run for run in mlfn.runs(name=name, order="oldest") if run.record.place == place]


# -- values --------------------------------------------------------------------------------------------------

PLAIN = {
    "n": 3,
    "items": (1, None, 2.5, float("inf")),
    "set": {1, 2},
    "bytes": b"raw",
    1: Decimal("1.50"),
    "path": Path("no/such/file"),
}
MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=1)))


def is_order(value, orders):  # inline, its class has come by value
    return (value.number, value.colour.value, value.place.x, value.place.y) == (7, "blue", 1, 7)


def is_basket(value, orders):  # of a __main__ that is gone
    return type(value).__qualname__ == "Basket" and value.count() == 2 and value.orders[1].number == 2


def is_note(value, orders):
    return value.read_text() == "a note\n"


def are_tables(value, orders):
    array, frame, series = value
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"price": [2, 5]}))
    pd.testing.assert_series_equal(series, pd.Series([2, 5], name="price"))
    return array.dtype == int and array.tolist() == [[0, 1, 2], [3, 4, 5]]


def are_own(value, orders):
    error = value.pop("error")
    assert type(error) is RunLostError and error.args == ("it is gone",)
    return value == {
        "retry": mlfn.Retry(2, on=[orders.NoStockError]),
        "space": mlfn.uniform(0, 1),
        "unset": mlfn.UNSET,
        "item": mlfn.DataItem("prices.csv"),
        "service": orders.Service.GIFT | orders.Service.EXPRESS,
    }


RETURNED = {
    "averaged": 3,
    "by_module": 7.5,
    "by_table": {"doubled": 8, "with_tax": 6},
    "celled": 0,
    "declared": ["fast", 11, 9],
    "filled": is_basket,
    "flaky": 3,
    "folds": 2,
    "imports_late": 16,
    "long_values": ("a line of text\n" * 2000, bytes(20_000)),
    "looks": [7, "succeeded", True],
    "mentions": [3, ["depth", "kind", "rate"], "Function", True, 7],
    "method": 11,
    "ordered": is_order,
    "own_values": are_own,
    "plain": (PLAIN, MOMENT),
    "priced": 60,
    "reports": 3,
    "scaled": 15,
    "shelved": 1,
    "tables": are_tables,
    "waits": "waits",
    "written": is_note,
}


def check(name: str, value: Any, orders: ModuleType) -> None:
    expected = RETURNED[name]
    if callable(expected):
        assert expected(value, orders)
    else:
        assert value == expected


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", RETURNED)
def test_what_a_run_returned_is_read(kept, orders, name, place):
    [run] = stored(name, place)

    check(name, run.result(), orders)


def test_a_value_has_the_importable_class(kept, orders):
    [run] = stored("ordered")

    assert run.result() == orders.Order(7, orders.Colour.BLUE, orders.Point(1, 7))


def test_parameters_are_what_they_were(kept):
    [ordered] = stored("ordered")
    by_output, by_value, failed = stored("takes")

    assert ordered.params["number"] == 7 and ordered.params["colour"].value == "blue"  # a default, out of the code
    assert by_output.params["order"].run.id == ordered.id and by_output.result() == 7
    assert (by_value.params["order"].number, by_value.params["bare"], by_value.result()) == (5, 3, 8)
    assert failed.params["order"].run.name == "no_stock"


@pytest.mark.parametrize("place", PLACES)
def test_artifacts_lie_where_the_folder_is(kept, place):
    [run] = stored("written", place)

    assert run.artifacts["short"].path.read_text() == "a short text"
    assert (run.outputs["all"] / "parts" / "one.txt").read_text() == "one"
    assert getattr(run.outputs, "return").path.is_relative_to(kept.root / "data" / "artifacts" / run.id)


# -- how they ended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_exceptions_of_own_classes_come_back(kept, orders, place):
    [no_price], [closed] = stored("no_price", place), stored("closed", place)
    [no_stock] = stored("no_stock")

    assert type(no_price.exception()) is orders.NoPriceError and no_price.exception().item == "pen"
    assert type(closed.exception()) is orders.ClosedError and str(closed.exception()) == "closed on Sunday"
    with pytest.raises(orders.NoStockError, match="pen: 2 left") as caught:
        no_stock.result()
    assert (caught.value.item, caught.value.left) == ("pen", 2)
    assert "raise NoStockError(item, 2)" in str(caught.value.__cause__)


@pytest.mark.parametrize("place", PLACES)
def test_exceptions_of_a_script_come_back(kept, place):
    [run] = stored("empty_basket", place)

    error = run.exception()

    assert type(error).__name__ == "EmptyBasketError" and str(error) == "nothing in it"
    assert error.baskets == [1, 2]


@pytest.mark.parametrize(
    ("name", "kind", "said", "state"),
    [
        ("missing_key", KeyError, "'key'", "failed"),
        ("exits", WorkerDiedError, "exit code 3", "failed"),
        ("killed", WorkerDiedError, "signal 9", "failed"),
        ("too_slow", RunTimeoutError, "timeout of 0.3 s", "failed"),
        ("cancelled", RunCancelledError, "cancelled", "cancelled"),
        ("pruned", RunPrunedError, "pruned", "pruned"),
    ],
)
def test_other_ends_keep_their_words(kept, name, kind, said, state):
    [run] = stored(name)

    assert type(run.exception()) is kind and said in str(run.exception())
    assert run.state == state


def test_a_failed_parent_is_still_named(kept):
    error = stored("takes")[-1].exception()

    assert type(error) is ParentFailedError and "no_stock" in str(error)


# -- what they reported --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_reports_are_what_they_were(kept, place):
    [run] = stored("reports", place)

    assert run.metrics.history("loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert run.progress == {"done": 3, "total": 3, "text": "epochs"}
    assert (run.outputs["accuracy"], run.outputs["memory"]) == (0.75, -1.0)


def test_logs_of_each_attempt_are_read(kept):
    [reports], [flaky] = stored("reports"), stored("flaky")

    assert reports.logs() == "epoch 0\nepoch 1\nepoch 2\nto stderr\n"
    assert [flaky.logs(attempt=number) for number in (1, 2, 3)] == ["attempt 1\n", "attempt 2\n", "attempt 3\n"]


@pytest.mark.parametrize("place", PLACES)
def test_attempts_keep_why_they_failed(kept, place):
    [run] = stored("flaky", place)

    assert [attempt.state for attempt in run.attempts] == ["failed", "failed", "succeeded"]
    assert run.attempts[0].failure.endswith("NotReadyError: not at attempt 1")


@pytest.mark.parametrize("place", PLACES)
def test_children_of_a_handler_are_found(kept, place):
    [run] = stored("folds", place)

    assert [(child.params["depth"], child.outputs["score"]) for child in run.children] == [(4, 4), (8, 8)]
    assert run.outputs["score"] == 8  # the best one's


def test_a_promoted_version_is_found_by_its_tag(kept):
    version = mlfn.get_function("risk/trained:prod")

    assert version.defaults == {"depth": 4}
    assert version.outputs["model"] == {"depth": 4, "rows": 10}


# -- listings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"label": {"team": "risk"}}, ["declared", "declared"]),
        ({"label": {"team": "risk", "tier": "silver"}}, []),
        ({"project": "risk"}, ["declared", "declared", "trained"]),
        ({"state": "cancelled"}, ["cancelled"]),
        ({"state": ["pruned", "cancelled"]}, ["cancelled", "pruned", "pruned"]),
        ({"name": "reports", "state": "succeeded", "since": "2026-01-01"}, ["reports", "reports"]),
        ({"order": "max.accuracy", "limit": 1}, ["reports"]),
        ({"order": "min.memory", "limit": 5}, ["reports", "reports"]),
    ],
)
def test_listings_find_what_is_asked_for(kept, wanted, names):
    assert sorted(run.name for run in mlfn.runs(**wanted)) == names


def test_pages_together_are_the_whole_listing(kept):
    whole = [run.id for run in mlfn.runs(limit=1000)]
    paged: list[str] = []
    page = mlfn.runs(limit=30)
    while page:
        paged += [run.id for run in page]
        page = mlfn.runs(limit=30, before=page[-1])

    assert paged == whole and len(whole) > 60


# -- sweeps that are over ------------------------------------------------------------------------------------


def finished_sweep() -> Any:
    [found] = [run for run in mlfn.runs(name="scored", order="oldest", limit=1) if run.record.sweep]
    return found


def test_a_finished_sweep_has_best_and_result(kept):
    sweep = finished_sweep()

    assert sweep.state == "succeeded" and sweep.result() == 60.0
    assert (sweep.best.iteration, sweep.best.params["x"], sweep.best.params["y"]) == (6, 3.0, 20)
    assert [child.outputs["score"] for child in sweep.children] == [10.0, 20.0, 30.0, 20.0, 40.0, 60.0]


def test_a_finished_sweep_has_its_table(kept):
    table = finished_sweep().table()

    assert list(table) == ["iteration", "x", "y", "loss", "score", "state", "seconds", "run"]
    assert table["score"].tolist() == [10.0, 20.0, 30.0, 20.0, 40.0, 60.0]
    assert table["state"].tolist() == ["succeeded"] * 6
    assert len(mlfn.runs(parent=finished_sweep())) == 6


def test_a_map_gives_its_results_in_order(kept):
    mapped, failed = [run for run in mlfn.runs(name="halved", order="oldest") if run.record.sweep]

    assert mapped.result() == [1, 2, 3] and list(mapped) == [1, 2, 3]
    assert type(failed.exception()) is SweepError and "2 of 3 children failed" in str(failed.exception())


# -- the command line ----------------------------------------------------------------------------------------


def test_the_command_line_lists_and_shows(kept):
    listed = json.loads(kept.mlfn("runs", "--json", "--limit", "200"))
    shown = kept.mlfn("show", stored("no_stock")[0].id)

    assert {run.id for run in mlfn.runs(limit=200)} == {run["id"] for run in listed}
    assert "NoStockError: pen: 2 left" in shown and "raise NoStockError(item, 2)" in shown


def test_the_command_line_masks_what_it_masked(kept):
    assert kept.mlfn("logs", stored("declared")[0].id) == "token ***\n"


def test_the_command_line_shows_sweeps_without_code(kept):
    (kept.root / "project" / "shop").rename(kept.root / "project" / "gone")
    try:
        shown = kept.mlfn("show", finished_sweep().id)
    finally:
        (kept.root / "project" / "gone").rename(kept.root / "project" / "shop")

    assert "6 succeeded" in shown and "60" in shown


def test_doctor_finds_nothing_amiss(kept):
    assert "cannot be read" not in kept.mlfn("doctor")


def test_a_clean_up_finds_nothing_to_remove(kept):
    mlfn.runs()  # takes in what dead clients have left

    found = json.loads(kept.mlfn("--json", "gc", "--dry-run"))

    assert found["removed"] == []


# -- code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RETURNED)
def test_stored_code_is_loaded_and_called(shared, orders, name):
    run, *_ = stored(name, "inline")

    check(name, run.rerun().result(), orders)


def test_unchanged_code_is_the_same_version(kept):
    """Else no sweep would go on under its name, and nothing be found again by what it was called with."""
    script = importlib.import_module("ended")
    functions = {item.spec["name"]: item for item in vars(script).values() if isinstance(item, mlfn.Function)}
    del functions["flaky"]  # names a class of __main__, which is another one in a module

    changed = [name for name, item in functions.items() if stored(name)[0].record.function != item.hash]

    assert changed == [] and len(functions) > 30


def test_stored_code_needs_no_files_in_a_worker(disk, orders):
    for path in (disk.root / "project").rglob("*.py"):
        path.unlink()
    again = {
        name: stored(name)[0].rerun() for name in RETURNED if name != "looks"
    }  # which reads a value of a file's class

    for name, run in again.items():
        check(name, run.result(120), orders)


def test_stored_code_runs_with_other_parameters(disk):
    [priced] = stored("priced")
    [no_stock] = stored("no_stock")

    assert priced.rerun(price=2).result(60) == 30
    assert no_stock.rerun(item="ink").exception(60).item == "ink"
    with pytest.raises(mlfn.MlfnError, match="has no parameter 'prise'"):
        priced.rerun(prise=2)


def test_code_that_uses_mlfn_runs_in_workers(disk):
    [looks] = stored("looks")

    assert looks.rerun().result(60) == RETURNED["looks"]


def test_a_promoted_version_runs_again(disk):
    version = mlfn.get_function("risk/trained:prod")

    assert version.submit(rows=20).result(60) == ({"depth": 4, "rows": 20}, 0.4)


def test_an_output_of_then_is_a_parameter_now(disk):
    [ordered] = stored("ordered")

    @mlfn.function
    def number_of(order: object) -> int:
        return order.number

    assert number_of.submit(ordered.outputs.order).result(60) == 7


# -- what was not over ---------------------------------------------------------------------------------------


def test_a_pending_run_is_carried_on(disk):
    [pending], [behind] = stored("pending"), stored("behind")
    assert (pending.state, behind.state) == ("pending", "pending")

    assert "succeeded" in disk.mlfn("wait", behind.id)

    assert (pending.result(), behind.result()) == (5, 50)
    assert disk.ledger("pending") == ["begun"]


def test_a_run_whose_worker_died_is_lost(disk):
    [lost], [ahead] = stored("lost"), stored("ahead")

    assert type(lost.exception(60)) is RunLostError and type(ahead.exception(60)) is RunLostError
    assert (lost.state, lost.record.reason, lost.metrics["loss"]) == ("failed", "lost", 0.5)
    assert [child.state for child in lost.children] == ["failed"]
    assert lost.logs() == "begun\n"


def test_a_lost_run_is_tried_again_as_declared(disk):
    [retried] = stored("retried")

    assert retried.result(60) == 2
    assert [(attempt.state, attempt.reason) for attempt in retried.attempts] == [
        ("failed", "lost"),
        ("succeeded", None),
    ]


def test_a_worker_that_outlived_its_client_is_recorded(disk):
    [outlived] = stored("outlived")

    assert outlived.result(60) == {"score": 5}
    assert outlived.metrics.history("loss") == [(0, 0.5), (1, 0.25)]
    assert outlived.artifacts["report"].path.read_text() == "it went on\n"
    assert outlived.logs() == "it went on\n"
    assert len(outlived.attempts) == 1 and disk.ledger("outlived") == ["begun"]


def unfinished(ledger: str) -> Any:
    """Return the sweep whose children write into this ledger."""
    sweeps = [run for run in mlfn.runs(name="scored") if run.record.sweep]
    [found] = [sweep for sweep in sweeps if sweep.params["ledger"] == ledger]
    return found


def points(sweep: Any) -> list[tuple[int, Any]]:
    return [(child.iteration, child.params["x"]) for child in sweep.children]


def went_on(disk: Disk, sweep: Any, *, missing: list[str]) -> None:
    """Hold that the sweep ended, and that of its children only those were begun that had not ended."""
    assert sweep.state == "succeeded"
    assert [child.state for child in sweep.children] == ["succeeded"] * 6
    begun = disk.ledger(sweep.params["ledger"])
    assert sorted(begun[:5]) == ["1", "2", "3", "4", "5"] and sorted(begun[5:]) == missing
    scores = [child.outputs["score"] for child in sweep.children]
    assert sweep.result() == sweep.best.outputs["score"] == max(scores)


@pytest.mark.parametrize("name", ["half-own", "half-search"])
def test_a_sweep_without_driver_is_resumed(disk, name):
    sweep = unfinished(name)
    before = points(sweep)
    disk.open_gate()

    assert sweep.resume().wait(120)

    assert points(sweep)[: len(before)] == before and len(before) == 5
    went_on(disk, sweep, missing=["4", "5", "6"])


def test_a_sweep_is_resumed_from_the_command_line(disk):
    sweep = unfinished("half-grid")
    before = points(sweep)
    disk.open_gate()

    disk.mlfn("sweep", "resume", sweep.id)

    assert points(sweep)[: len(before)] == before and len(before) == 5
    went_on(disk, sweep, missing=["4", "5", "6"])


def test_the_same_script_goes_on_with_its_sweeps(disk):
    done, half = finished_sweep(), unfinished("half-random")
    disk.open_gate()

    said = disk.script("swept.py", "grid", "half-random")  # the second had children that ended without their driver

    assert said.split() == [done.id, half.id]
    went_on(disk, half, missing=["6"])
    assert len(disk.ledger("grid")) == 6


def test_a_sweep_that_failed_is_begun_anew(disk):
    [failed] = [run for run in mlfn.runs(name="halved", state="failed") if run.record.sweep]

    again = failed.resume()

    assert type(again.exception(60)) is SweepError and again.id != failed.id
    assert again.children[1].reused == failed.children[1].id
