"""What is shown of a run: bounded, readable, and never unpickled."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from click import unstyle

import mlfn
from mlfn.artifacts.formats import tagged_json
from mlfn.backends.logs import AttemptLog
from mlfn.spec.record import Attempt, RunState, log_file
from mlfn.store import open_queries
from mlfn.ui.html.cards import run_card
from mlfn.ui.text import report
from mlfn.ui.views import Source
from mlfn.ui.views.handles import view_run, view_run_briefly
from mlfn.ui.views.run import MOST_BELOW, MOST_POINTS, Event, flattened, listed_view, tail
from mlfn.ui.views.values import parameter
from mlfn.ui.wording import clean, last_lines, type_shown
from tests.unit.ui.make_views import run_view


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@dataclass
class Config:
    level: str


@mlfn.function
def measure(x, ctx: mlfn.Context, n: int = 1):
    for step in range(n):
        ctx.log_metric("loss", 1 / (step + 1), step=step)
    ctx.log_metric("odd", math.nan)
    ctx.log_result("kept", x)
    print("said")
    return 0.9385964912280702


@mlfn.function
def validate(ctx: mlfn.Context, depths: int, folds: int):
    for depth in range(1, depths + 1):
        with ctx.child(depth=depth) as child:
            for fold in range(folds):
                with child.child(fold=fold) as part:
                    part.log_result("accuracy", 0.5 + fold / 8)
            child.log_result("mean", 0.75)


@mlfn.function
def fail():
    raise ValueError("no\x1b[31m such thing")


def submitted(function, *args, **params):
    run = function.on("inline").submit(*args, **params)
    run.wait()
    return run


def test_a_snapshot_has_what_the_run_left():
    seen = view_run(submitted(measure, "a text", n=3))

    assert (seen.name, seen.state, seen.record.place, seen.notice) == ("measure", RunState.SUCCEEDED, "inline", "")
    assert [(item.name, item.text) for item in seen.params] == [("x", "'a text'"), ("n", "3")]
    assert [(item.name, item.text) for item in seen.outputs] == [("kept", "'a text'"), ("return", "0.9386")]
    assert seen.outputs[1].whole == "0.9385964912280702"
    assert [(one.name, one.count) for one in seen.series] == [("loss", 3), ("odd", 1)]
    assert seen.series[0].values == (1.0, 0.5, 1 / 3)
    assert math.isnan(seen.series[1].last)
    assert 0 <= seen.elapsed < 60


def test_defaults_are_marked_as_such():
    seen = view_run(submitted(measure, 1))

    assert [(item.name, item.text, item.is_default) for item in seen.params] == [("x", "1", False), ("n", "1", True)]
    assert 'n</td><td class="mlfn-value">1 <span class="mlfn-soft mlfn-size">default</span>' in run_card(seen)


def test_a_long_series_is_thinned_and_keeps_its_last_point():
    seen = view_run(submitted(measure, 1, n=5000)).series[0]

    assert seen.count == 5000
    assert len(seen.values) <= MOST_POINTS
    assert seen.last == 1 / 5000


def test_a_failure_is_its_users_frames():
    seen = view_run(submitted(fail))

    assert seen.error.endswith("ValueError: no such thing")
    assert "raise ValueError" in seen.error
    assert "execution.py" not in seen.error


def test_a_pickled_value_is_shown_as_its_type_and_size():
    run = submitted(measure, {1, "x"})
    run._record = _with_params(run, {"x": {"packer": "pickle", "path": "a/b", "type": "risk.models.Trap", "size": 12}})

    seen = view_run(run)

    assert (seen.params[0].text, seen.params[0].size) == ("risk.Trap", 12)


def test_a_small_object_is_shown_in_its_own_words():
    seen = view_run(submitted(measure, Config("high")))

    assert (seen.params[0].text, seen.params[0].size is not None) == ("Config(level='high')", True)


def test_the_words_of_an_object_hold_no_secret(monkeypatch):
    monkeypatch.setenv("API_KEY", "sesame-sesame")
    function = measure.with_options(secrets=["API_KEY"])

    run = submitted(function, Config("sesame-sesame"))

    assert view_run(run).params[0].text == "Config(level='***')"
    assert "sesame" not in str(run.record)


def test_nothing_is_unpickled(tmp_path):
    trap = tmp_path / "sprung"
    run = submitted(measure, Trap(trap))
    trap.rmdir()  # the run itself had to unpickle it

    assert view_run(run).params[0].text == "tests.Trap"
    assert not trap.exists()


def _with_params(run, params):
    from dataclasses import replace

    return replace(run._record, params=params)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ({"input": "/data/" + "d/" * 60 + "iris.csv"}, "iris.csv"),
        ({"output": {"run": "0123456789abcdef", "key": "model"}}, "output model of 01234567"),
        ({"packer": "json", "inline": {"!": "nonsense", "v": 1}}, "(cannot be read)"),
        ({"packer": "json", "inline": tagged_json.encode(Path("/data/iris.csv"))}, "/data/iris.csv"),
        ({"packer": "json", "inline": tagged_json.encode({"file": Path("iris.csv")})}, "{'file': 'iris.csv'}"),
        ({"packer": "pickle", "type": "some.Kind", "shown": "Kind(file=PosixPath('a'))"}, "Kind(file='a')"),
        ({"packer": "json", "inline": {"!": "int", "v": "0x" + "f" * 5000}}, "(cannot be read)"),
        ({"packer": "other", "inline": "gASVAA==", "type": "some.pkg.Kind"}, "some.Kind"),
        ({"packer": "json", "inline": "x" * 9000}, "…"),
        ({"packer": "pickle", "type": "some.Kind", "shown": "Kind(\x1b[31m)"}, "Kind()"),
        ({"packer": "pickle", "type": "some.Kind", "shown": "x" * 9000}, "…"),
        ({}, "(cannot be read)"),
        (None, "(cannot be read)"),
    ],
)
def test_a_stored_parameter_in_words(stored, shown):
    item = parameter("x", stored)

    assert item.text.endswith(shown)
    assert len(item.text) <= 80
    assert len(item.whole) <= 1000


def test_a_store_that_cannot_be_read_is_a_notice():
    run = submitted(measure, 1)
    run._session = None

    seen = view_run(run)

    assert seen.name == "measure"
    assert "cannot be read" in seen.notice
    run._record = _running(run)
    assert "cannot be read" in view_run(run).notice
    assert "cannot be read" in view_run_briefly(run).notice


def _running(run):
    from dataclasses import replace

    return replace(run._record, state=RunState.RUNNING)


@pytest.mark.parametrize(
    ("said", "fraction", "text"),
    [
        ({"done": 1, "total": 4, "text": "steps"}, 0.25, "steps"),
        ({"done": 9, "total": 4, "text": ""}, 1.0, ""),
        ({"done": 3, "total": None, "text": "\x1b[2Jx"}, None, "x"),
        ({"done": 3, "total": 0}, None, ""),
        ({"done": 3, "total": "many"}, None, ""),
    ],
)
def test_progress(said, fraction, text):
    found = run_view(progress=said).progress

    assert found is not None
    assert (found.fraction, found.text) == (fraction, text)


@pytest.mark.parametrize("said", [None, {}, {"done": "x"}, {"done": math.nan}])
def test_no_progress(said):
    assert run_view(progress=said).progress is None


@pytest.fixture
def path(tmp_path):
    found = Path(log_file(tmp_path, "r" * 32, 1))
    found.parent.mkdir(parents=True)
    return found


@pytest.fixture
def log(tmp_path, path):
    return AttemptLog(open_queries("", tmp_path), tmp_path, Attempt("r" * 32, 1, None, None, None, "running", None))


def test_the_tail_of_a_huge_log_is_read_from_its_end(log, path):
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a hole: takes no room on the disk, and seconds to read
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(b"line %d\n" % number for number in range(5000)))

    lines, size = tail(log)

    assert lines == tuple(f"line {number}" for number in range(4990, 5000))
    assert size > 1 << 30


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"", ()),
        (b"one\ntwo", ("one", "two")),
        (b" 10%\r 50%\r100%\nend\n", ("100%", "end")),
        (b"a\r\nb\r\n", ("a", "b")),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07text\n", ("red text",)),
        (b"\xff\xfe bytes\n", ("�� bytes",)),
        (b"x" * 1000, ("x" * 299 + "…",)),
    ],
)
def test_a_log_is_shown_as_a_terminal_would(log, path, written, shown):
    path.write_bytes(written)

    assert tail(log)[0] == shown


def test_one_endless_line_is_cut(log, path):
    path.write_bytes(b"y" * 100_000)

    lines, _ = tail(log)

    assert len(lines) == 1
    assert len(lines[0]) == 300


def test_a_long_traceback_keeps_its_end():
    text = last_lines("\n".join(f"frame {number}" for number in range(500)), 40).split("\n")

    assert len(text) == 40
    assert (text[0], text[-1]) == ("frame 0", "frame 499")
    assert "left out" in text[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x08", "a�b�"),
        ("user\u202egnp.exe", "user�gnp.exe"),
        ("\ud800", "�"),
        ("tab\tnewline\n", "tab\tnewline\n"),
    ],
)
def test_what_would_be_obeyed_is_not_shown(text, shown):
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [("builtins.int", "int"), ("pandas.core.frame.DataFrame", "pandas.DataFrame"), ("__main__.A", "A"), ("x", "x")],
)
def test_a_type_is_named_as_its_users_know_it(name, shown):
    assert type_shown(name) == shown


def test_runs_below_a_run_are_shown_as_a_tree():
    seen = view_run(submitted(validate, depths=2, folds=2))
    card = run_card(seen)

    below = flattened(seen.branches)
    numbers = [(depth, branch.run.record.iteration) for depth, branch in below]

    assert numbers == [(1, 1), (2, 1), (2, 2), (1, 2), (2, 1), (2, 2)]
    assert [branch.scores for _, branch in below[:3]] == [
        (("mean", 0.75),),
        (("accuracy", 0.5),),
        (("accuracy", 0.625),),
    ]
    assert below[2][1].run.state is RunState.SUCCEEDED
    assert seen.more_branches == 0
    for text in ("Child runs", "depth=2", "fold=1", "accuracy=0.625"):
        assert text in card


def test_of_many_runs_below_a_run_the_first_are_shown():
    seen = view_run(submitted(validate, depths=30, folds=0))
    deep = view_run(submitted(validate, depths=8, folds=5))

    assert (len(flattened(seen.branches)), seen.more_branches) == (MOST_BELOW, 6)
    assert (len(flattened(deep.branches)), deep.more_branches) == (MOST_BELOW, 4)
    assert "and 6 more" in run_card(seen)
    assert "Child runs" not in run_card(view_run(submitted(validate, depths=0, folds=0)))


class DeadDriver:
    """A store in which no client lives, and in which more children have ended than their sweep's driver reported."""

    def clients(self):
        return []

    def child_counts(self, run):
        return {RunState.SUCCEEDED: 7, RunState.FAILED: 1}

    def sweep_name(self, run):
        return "nightly"


def test_a_sweep_without_a_driver_is_counted_anew(tmp_path):
    left = run_view(sweep=True, progress={"done": 6, "total": 8, "text": "", "best": {"iteration": 2}}).record

    found = listed_view(Source(DeadDriver(), tmp_path), left)

    assert (found.record.progress["done"], found.record.progress["total"]) == (8, 8)
    assert found.record.progress["ended"] == {"succeeded": 7, "failed": 1}
    assert (found.progress.text, found.sweep_name) == ("1 failed", "nightly")


def test_the_report_of_a_sweep_leaves_progress_to_its_children():
    run = run_view(sweep=True, progress={"done": 6, "total": 8})

    assert "progress" not in "\n".join(report(run))
    assert "progress" in "\n".join(report(run_view(progress={"done": 6, "total": 8})))


@pytest.mark.parametrize(
    ("state", "url", "shown"),
    [
        (RunState.RUNNING, "http://127.0.0.1:8787/status", True),
        (RunState.SUCCEEDED, "http://127.0.0.1:8787/status", False),
        (RunState.RUNNING, "javascript:alert(1)", False),
    ],
)
def test_the_page_of_a_runs_engine_is_shown_while_it_runs(state, url, shown):
    run = run_view(state=state, events=(Event(1.0, 0, "page", "http://early"), Event(2.0, 0, "page", url)))

    assert run.page == (url if shown else None)
    assert (f'href="{url}"' in run_card(run)) is shown
    assert any(unstyle(line).startswith("page ") for line in report(run)) is shown
