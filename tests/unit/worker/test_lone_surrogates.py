"""Text that no UTF-8 holds, as a file name of another encoding: it goes through a run, and is escaped where it is stored or shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.spec.canonical import canonical, digest
from mlfn.spec.record import RemoteFailure

TEXT = "bad \udcff and \ud800"
SHOWN = r"bad \udcff and \ud800"
PLACES = ["inline", "local"]


@mlfn.function(retry=mlfn.Retry(1, delay=0))
def fail(text: str, how: str) -> None:
    if how == "cause":
        raise ValueError("outer") from KeyError(text)
    error = OSError(2, "No such file", text) if how == "path" else ValueError(text)
    if how == "note" and sys.version_info >= (3, 11):
        error.add_note(text)
    raise error


@pytest.mark.parametrize("how", ["text", "path", "note", "cause"])
@pytest.mark.parametrize("place", PLACES)
def test_the_users_own_exception_comes_back_and_is_shown_escaped(place: str, how: str) -> None:
    run = fail.on(place).submit(TEXT, how)

    error = run.exception(timeout=60)

    assert type(error) is (FileNotFoundError if how == "path" else ValueError)
    assert [item.state for item in run.attempts] == ["failed", "failed"]
    texts = [str(run.error), *(str(item.failure) for item in run.attempts)]
    assert all(text.encode() for text in texts) and SHOWN in texts[0].replace("\\\\", "\\")


def test_the_first_line_of_a_failure_has_no_nul_which_no_database_takes() -> None:
    assert RemoteFailure("builtins.ValueError", "a\0b").first_line == r"ValueError: a\x00b"


@pytest.mark.parametrize("place", PLACES)
def test_children_and_progress_and_outputs_take_any_text(place: str) -> None:
    @mlfn.function
    def work(text: str, ctx: mlfn.Context) -> dict[str, str]:
        for _ in ctx.progress([1], text=text):
            with ctx.child(name=text) as child:
                child.log_result("name", text)
        ctx.log_result("name", text)
        return {text: text}

    run = work.on(place).submit(TEXT)

    assert run.result(timeout=60) == {TEXT: TEXT}
    assert run.outputs["name"] == run.children[1].outputs["name"] == run.children[1].params["name"] == TEXT


def test_a_log_line_and_an_exit_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    @mlfn.function
    def speak(text: str, ctx: mlfn.Context) -> None:
        print(text)
        ctx.logger.info(text)

    run = speak.submit(TEXT)
    run.result(timeout=60)

    assert run.logs().count(SHOWN) == 2
    assert capfd.readouterr().err == ""


@mlfn.function
def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("place", PLACES)
def test_labels_are_kept_and_found_escaped(place: str) -> None:
    run = same.with_options(labels={TEXT: TEXT}).on(place).submit(1)

    assert run.result(timeout=60) == 1
    assert run.labels == {SHOWN: SHOWN}
    assert list(mlfn.runs(label={TEXT: TEXT})) == [run]


def test_a_variable_arrives_with_its_bytes() -> None:
    @mlfn.function(env={"NAME": "a\udcff"})
    def look() -> bytes:
        return os.environb[b"NAME"]

    assert look.submit().result(timeout=60) == b"a\xff"


def test_a_working_folder_that_is_no_utf_8_is_the_runs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "f\udcff"
    folder.mkdir()
    monkeypatch.chdir(folder)

    @mlfn.function
    def here() -> str:
        return os.getcwd()

    assert here.submit().result(timeout=60) == str(folder)


def test_the_command_line_shows_such_a_parameter(tmp_path: Path) -> None:
    run = same.submit(TEXT)
    run.result(timeout=60)

    for command in (["runs"], ["runs", "--json"], ["show", run.id], ["show", run.id, "--json"]):
        done = subprocess.run([sys.executable, "-m", "mlfn", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_canonical_json_is_utf_8_and_the_hash_over_it_stays() -> None:
    assert canonical({"a": "\udcff ä"}) == '{"a":"\\udcff ä"}'
    assert digest("\ud800") == "ee4a76500d4d714ca691afe56c1fd9e0a5fbcb42d6c8f8d7178aae4ddb683cf7"
