"""Functions, runs and their cards in a real Jupyter kernel."""

from __future__ import annotations

import os
import signal
import threading
import time

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.acceptance.kernel import ansi_free, html, notebook, printed, text
from tests.architecture.source import ROOT

FIRST = """
import os, pathlib, time
import mlfn as mlrun

here = pathlib.Path.cwd()

class Odd(ValueError):
    pass

class Point:
    def __init__(self, x):
        self.x = x

def helper(x):
    return x + 1

@mlrun.function
def with_helper(x: int) -> int:
    return helper(x)

@mlrun.function
def refuse(x: int):
    if x % 2:
        raise Odd(f"{x} is odd")  # the line of the cell

@mlrun.function
def point(x: int) -> Point:
    return Point(x)

@mlrun.function(env={"TOKEN": "hush"}, cpu=1)
@mlrun.handler(outputs=["said"])
def until(gate: str, ctx: mlrun.Context, steps: int = 4, how: str = "softly") -> str:
    '''Wait for a file.'''
    for step in ctx.progress(range(steps), text="steps"):
        ctx.log_metric("step", step)
        print("step", step, flush=True)
        while step == steps // 2 and not (pathlib.Path(gate)).exists():
            time.sleep(0.01)
    return "done"

def gated(name):
    return str(here / name)
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nb")
    with notebook(folder) as opened:
        opened.folder = folder
        opened.run(FIRST)
        yield opened


def test_a_function_declared_in_a_cell_runs_in_a_worker(book):
    assert book.value("with_helper.submit(1).result()") == "2"
    assert book.value("with_helper(1)") == "2"


def test_a_run_can_be_awaited_at_the_top_level_of_a_cell(book):
    assert book.value("await with_helper.submit(41)") == "42"


def test_a_helper_defined_anew_in_another_cell_is_captured_anew(book):
    book.run("def helper(x): return x + 100")

    assert book.value("with_helper.submit(1).result()") == "101"

    book.run("def helper(x): return x + 1")

    assert book.value("with_helper.submit(1).result()") == "2"


def test_a_class_defined_in_a_cell_comes_back_as_itself(book):
    assert book.value("back = point.submit(4).result(); type(back) is Point, back.x") == "(True, 4)"


def test_an_exception_of_a_type_from_a_cell_comes_back_with_the_cells_line(book):
    cell = book.run(
        "try:\n    refuse.submit(3).result()\nexcept Odd as error:\n    print(error, '|', type(error.__cause__).__name__)\n"
        "    print(error.__cause__)"
    )

    assert "3 is odd | RemoteTracebackError" in printed(cell)
    assert 'raise Odd(f"{x} is odd")  # the line of the cell' in printed(cell)


def test_a_wrong_argument_shows_its_sentence_and_the_users_lines_alone(book):
    with pytest.raises(CellExecutionError):
        book.run("def go():\n    return with_helper.submit(x='deep')\ngo()")

    lines = [ansi_free(line) for line in book.document.cells[-1].outputs[-1].traceback]
    shown = "\n".join(lines)
    assert "return with_helper.submit(x='deep')" in shown and shown.rstrip().endswith(
        "ParameterError: with_helper(x='deep') does not fit int: Input should be a valid integer."
    )
    assert "mlfn/" not in shown and len(shown.splitlines()) < 15


def test_a_card_follows_its_run_in_its_own_cell_while_another_cell_runs(book):
    shown = book.run("run = until.submit(gated('one')); run")
    assert "<mlfn.Run" in text(shown) and "running" not in printed(shown)

    other = book.run("pathlib.Path(gated('one')).touch(); run.result()")

    # The document as it would be saved now: one card, with the end of the run in it.
    assert [output.output_type for output in shown.outputs] == ["display_data"]
    assert "succeeded" in html(shown)
    assert "until" in html(shown)
    assert "done" in html(shown)
    assert "<polyline" in html(shown)
    assert "step 3" in html(shown)
    assert text(other) == "'done'"
    assert html(other) == ""


def test_a_card_moves_while_its_cell_is_long_over_and_nothing_runs(book):
    shown = book.run("run = until.submit(gated('two')); run")

    messages = []
    while not any("2 of 4" in part for part in messages):
        messages.append(_updated(book.next_message()))
    (book.folder / "two").touch()
    while "succeeded" not in messages[-1]:
        messages.append(_updated(book.next_message()))

    # What was published between cells is in the document after the next one.
    book.run("1")
    assert "succeeded" in html(shown)


def _updated(message):
    if message["msg_type"] != "update_display_data":
        return ""
    assert message["content"]["transient"]["display_id"].startswith("mlfn-")
    return message["content"]["data"]["text/html"]


def test_one_run_in_two_cells_ends_in_both(book):
    first = book.run("run = until.submit(gated('three')); run")
    second = book.run("mlrun.run(run.id)")

    book.run("pathlib.Path(gated('three')).touch(); run.wait()")

    assert "succeeded" in html(first)
    assert "succeeded" in html(second)


def test_a_card_is_right_at_the_end_of_the_cell_that_awaits(book):
    shown = book.run("from IPython.display import display\nrun = with_helper.submit(5)\ndisplay(run)\nawait run")

    assert "succeeded" in html(shown)
    assert text(shown).endswith("6")


def test_a_failed_run_shows_the_users_frames(book):
    shown = book.run("run = refuse.submit(5); run.wait(); run")

    assert "failed" in html(shown)
    assert "raise Odd(f&#34;{x} is odd&#34;)" in html(shown)
    assert "execution.py" not in html(shown)


def test_interrupting_a_waiting_cell_leaves_the_run_alive(book):
    kernel = int(book.value("os.getpid()"))
    book.run("run = until.submit(gated('four'))")

    def interrupt():
        while not (book.folder / "waiting").exists():
            time.sleep(0.01)
        os.kill(kernel, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        book.run("pathlib.Path(gated('waiting')).touch(); run.result()")
    thread.join()

    assert book.value("run.state.is_terminal") == "False"
    assert book.value("pathlib.Path(gated('four')).touch(); run.result()") == "'done'"


def test_a_function_shows_what_is_declared_of_it(book):
    shown = html(book.run("until"))

    for word in (
        "until",
        "Wait for a file.",
        "job",
        "said",
        "gate",
        "str",
        "steps",
        "4",
        "&#39;softly&#39;",
        "TOKEN",
    ):
        assert word in shown
    assert "ctx" not in shown
    assert "hush" not in shown


def test_a_listing_is_a_table(book):
    shown = book.run("mlrun.wait([with_helper.submit(i) for i in range(3)]); mlrun.runs(limit=3)")

    assert html(shown).count("<tr>") == 4
    assert "3 runs" in text(shown)


def test_a_sweeps_card_follows_it_and_ends_with_its_picture(book):
    shown = book.run("sweep = until.grid(steps=[2, 3, 4]).with_options(select='max.step').submit(gated('six')); sweep")
    assert "<mlfn.SweepRun" in text(shown)
    assert "of 3 children" in html(shown)

    messages = [html(shown)]
    while "running" not in messages[-1] or "Running" not in messages[-1]:
        messages.append(_updated(book.next_message()) or messages[-1])
    book.run("pathlib.Path(gated('six')).touch(); sweep.wait()")

    assert [output.output_type for output in shown.outputs] == ["display_data"]
    assert "3 of 3 children" in html(shown)
    assert "step = 3" in html(shown)
    assert html(shown).count("<path") == 3
    assert html(book.run("mlrun.run(sweep.id)")).count("<path") == 3


def test_a_plot_of_a_sweep_is_seen_in_an_export(book):
    book.run("done = with_helper.grid(x=[1, 2]).with_options(select='max.return').submit(); done.wait()")

    (shown,) = book.run("done.plot('parallel')").outputs

    assert shown.data["application/vnd.plotly.v1+json"]["data"]  # for a front end with plotly's scripts
    assert shown.data["image/png"]


def test_outputs_metrics_and_a_version_have_cards(book):
    book.run("one = with_helper.submit(1); one.wait()")

    assert "return" in html(book.run("one.outputs"))
    assert "none yet" in html(book.run("one.metrics"))
    assert "with_helper:prod" in html(book.run("one.promote('prod')"))


def test_a_description_is_a_table(book):
    shown = book.run("until.grid(gate=['a', 'b'], steps=range(1000))")

    assert "sweep of 2,000 children" in html(shown)
    assert "and 1,990 more" in html(shown)


def test_a_hostile_run_shows_as_text(book):
    book.run(
        "@mlrun.function(name='hostile')\n"
        "def hostile(x: str, ctx: mlrun.Context):\n"
        "    evil = '<script>owned()</script>'\n"
        "    print(evil); ctx.log_metric('loss', 1); ctx.log_result('evil', evil)\n"
        "    list(ctx.progress([1, 2], text=evil))\n"
        "    raise Odd(evil)"
    )
    shown = book.run("run = hostile.submit('<script>owned()</script>'); run.wait(); run")

    assert "<script" not in html(shown)
    assert html(shown).replace("<wbr>", "").count("&lt;script&gt;owned()&lt;/script&gt;") >= 5


def test_nothing_was_complained_of(book):
    complaints = [printed(cell, "stderr") for cell in book.document.cells if cell.cell_type == "code"]

    assert "".join(complaints) == ""


def test_a_store_that_went_away_is_said_in_the_card(book):
    shown = book.run(
        "run = mlrun.run(run.id)\n"
        "run._record = __import__('dataclasses').replace(run._record, state=type(run.state).RUNNING)\n"
        "run._session = None\n"
        "run"
    )

    assert "The store cannot be read" in html(shown)
    assert "hostile" in html(shown)


def test_the_example_notebook_runs(tmp_path):
    document = nbformat.read(ROOT / "examples" / "05_notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in document.cells)

    with notebook(tmp_path, document) as opened:
        for index, cell in enumerate(document.cells):
            opened.client.execute_cell(cell, index)

    shown = [html(cell) for cell in document.cells if cell.cell_type == "code"]
    assert "Grow a forest" in shown[1]
    assert "succeeded" in shown[2]
    assert "failed" in shown[5]
    assert "3 runs" in shown[6]


def test_what_a_kernel_leaves_at_its_shutdown_goes_on_or_waits_for_somebody(tmp_path):
    with notebook(tmp_path) as first:
        first.run(FIRST)
        first.run("mlrun.init(max_workers=1)")
        with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
            first.run("raise KeyboardInterrupt")  # long before the end of the kernel: it ends nothing then
        first.run("a = until.submit(gated('five')); b = until.submit(gated('five'))")
        ids = eval(first.value("[a.id, b.id]"))
        first.run("while a.state == 'pending': time.sleep(0.01)")

    with notebook(tmp_path) as second:
        second.run(f"import mlfn, pathlib; a, b = map(mlfn.run, {ids})")
        assert second.value("[str(a.state), str(b.state)]") == "['running', 'pending']"
        assert "The process that submitted it is gone" in html(second.run("b"))
        second.run("pathlib.Path('five').touch()")
        assert second.value("b.result(), a.result()") == "('done', 'done')"
        assert second.value("len(b.attempts), len(a.attempts)") == "(1, 1)"


def test_the_notebook_of_sweeps_runs(tmp_path):
    document = nbformat.read(ROOT / "examples" / "sweeps.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in document.cells)

    with notebook(tmp_path, document) as opened:
        for index, cell in enumerate(document.cells):
            opened.client.execute_cell(cell, index)

    before, card, told, table, best, states, _, listed = [
        cell for cell in document.cells if cell.cell_type == "code" and not cell.source.startswith("import numpy")
    ]
    assert html(before).count("<tr") == 10
    assert "succeeded" in html(card) and "best_iteration" in html(card)
    assert "by child" in printed(told)
    assert html(table).count("<tr") == 10
    assert "accuracy" in html(best)
    assert "succeeded" in text(states)
    assert "2 runs" in text(listed)
    assert "".join(printed(cell, "stderr") for cell in document.cells if cell.cell_type == "code") == ""
