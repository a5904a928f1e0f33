"""Artifacts at a root that is set: a folder, memory, and a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.dispatch.session import current_session
from mlfn.errors import MissingExtraError, NotFoundError, SettingsError, StorageError
from mlfn.ui.cli import cleaning
from tests.s3_server import READ_ONLY_KEY, READ_ONLY_SECRET, S3Server, s3

DAY = 86_400.0


class Thing:
    """A value that only a pickle can store."""

    def __init__(self, size: int) -> None:
        self.content = b"x" * size


@mlfn.function
def make(size: int, ctx: mlfn.Context) -> Thing:
    folder = Path("report")
    folder.mkdir(exist_ok=True)
    (folder / "index.txt").write_text("a report")
    ctx.log_artifact("report", folder)
    return Thing(size)


@mlfn.function
def weigh(thing: Thing) -> int:
    return len(thing.content)


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with s3() as started:
        yield started


@pytest.fixture(params=["folder", "file-url", "s3"])
def root(request: pytest.FixtureRequest, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root that every process of this machine can reach, set for this test."""
    if request.param == "s3":
        started: S3Server = request.getfixturevalue("server")
        for name, value in started.environ().items():
            monkeypatch.setenv(name, value)
    shelf = tmp_path / "shelf"
    chosen = {"folder": str(shelf), "file-url": shelf.as_uri(), "s3": f"s3://results/{uuid.uuid4().hex}"}[request.param]
    monkeypatch.setenv("MLFN_ARTIFACTS", chosen)
    return chosen


def stored_paths(run: mlfn.Run[Any]) -> list[str]:
    return [str(output.path) for output in current_session().store.outputs(run.id, 1) if output.path]


def in_another_process(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("place", ["local", "inline"])
def test_results_are_written_and_read_at_the_root(root: str, local: Path, place: str) -> None:
    run = make.on(place).submit(100_000)

    assert len(run.result().content) == 100_000
    assert (run.outputs.report.path / "index.txt").read_text() == "a report"
    assert not any(path.is_file() for path in (local / "artifacts").rglob("*"))
    assert all(path.split("/")[1] == run.id for path in stored_paths(run))


@pytest.mark.parametrize("place", ["local", "inline"])
def test_a_result_at_the_root_is_a_parameter(root: str, place: str) -> None:
    run = make.on(place).submit(100_000)

    assert weigh.on(place).submit(getattr(run.outputs, "return")).result() == 100_000
    assert weigh.on(place).submit(Thing(3)).result() == 3


def test_another_process_reads_the_root(root: str) -> None:
    run = make.submit(10)
    assert run.wait()

    said = in_another_process(
        f"import mlfn; print((mlfn.run({run.id!r}).outputs.report.path / 'index.txt').read_text())"
    )

    assert said == "a report"


def test_where_results_lie_is_shown(root: str) -> None:
    run = make.submit(10)
    assert run.wait()

    shown = in_another_process(
        f"from mlfn.ui.cli.app import main; import sys; sys.argv = ['mlfn', 'show', {run.id!r}]; main()"
    )

    home = stored_paths(run)[0].split("/")[0]
    assert f"{root}/{home}/{run.id}" in shown
    assert run.url.endswith(f"/{home}/{run.id}")


def test_what_was_put_before_stays_readable(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFN_ARTIFACTS")
    before = make.submit(10)
    assert before.wait()

    monkeypatch.setenv("MLFN_ARTIFACTS", root)

    assert (mlfn.run(before.id).outputs.report.path / "index.txt").read_text() == "a report"
    assert weigh.submit(getattr(mlfn.run(before.id).outputs, "return")).result() == 10


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gc think that it is tomorrow: an object of S3 has the time of its server."""
    later = time.time() + DAY
    monkeypatch.setattr(cleaning, "now", lambda: later)


def test_gc_removes_only_unclaimed_of_its_own(root: str, tomorrow: None) -> None:
    kept, removed = make.submit(10), make.submit(20)
    assert kept.wait() and removed.wait()
    artifacts = current_session().artifacts
    other = stored_paths(kept)[0].replace(stored_paths(kept)[0][:19], "of-0123456789abcdef", 1)
    artifacts.root.put_note(other, b"of another data folder")
    current_session().store.remove_runs([removed.id])

    assert [item.run for item in artifacts.runs()] == sorted([kept.id, removed.id])
    cleaning.gc.main([], standalone_mode=False)

    assert [item.run for item in artifacts.runs()] == [kept.id]
    assert (mlfn.run(kept.id).outputs.report.path / "index.txt").read_text() == "a report"
    with artifacts.root.open(other) as file:
        assert file.read() == b"of another data folder"


def test_gc_leaves_what_is_young(root: str) -> None:
    run = make.submit(10)
    assert run.wait()
    current_session().store.remove_runs([run.id])

    cleaning.gc.main([], standalone_mode=False)

    assert [item.run for item in current_session().artifacts.runs()] == [run.id]


def test_a_copied_root_is_read_where_it_is_set(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    run = make.submit(10)
    assert run.wait()
    system, base = fsspec.core.url_to_fs(root)
    system.get(base, str(tmp_path / "copy"), recursive=True)
    system.rm(base, recursive=True)

    monkeypatch.setenv("MLFN_ARTIFACTS", str(tmp_path / "copy"))

    # Objects of a folder have an index beside them, files are as they are.
    assert len(mlfn.run(run.id).result().content) == 10


def test_a_lost_root_names_the_setting(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make.submit(10)
    assert run.wait()

    monkeypatch.setenv("MLFN_ARTIFACTS", str(tmp_path / "elsewhere"))

    with pytest.raises(NotFoundError, match="set MLFN_ARTIFACTS to where it lies now"):
        mlfn.run(run.id).result()


def test_memory_serves_inline_runs(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFN_ARTIFACTS", f"memory://{uuid.uuid4().hex}")

    run = make.on("inline").submit(100_000)

    assert len(run.result().content) == 100_000
    assert weigh.on("inline").submit(getattr(run.outputs, "return")).result() == 100_000


def test_memory_is_refused_for_workers(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFN_ARTIFACTS", f"memory://{uuid.uuid4().hex}")

    with pytest.raises(SettingsError, match=r"a run on='local' does not see: run it inline"):
        make.submit(1)


# -- what is refused before anything runs


def refusal(expected: type[Exception]) -> str:
    with pytest.raises(expected) as caught:
        make.submit(1)
    assert len(mlfn.runs()) == 0
    return str(caught.value)


def test_a_missing_package_is_named(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFN_ARTIFACTS", "gs://results/x")

    assert "pip install gcsfs" in refusal(MissingExtraError)


@pytest.mark.parametrize(
    ("key", "secret", "why"), [("nobody", "x", ""), (READ_ONLY_KEY, READ_ONLY_SECRET, "Access Denied")]
)
def test_wrong_credentials_are_refused(
    server: S3Server, local: Path, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, why: str
) -> None:
    for name, value in server.environ(key, secret).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFN_ARTIFACTS", "s3://results/x")

    said = refusal(StorageError)

    assert said.startswith("Cannot write") and "s3://results/x/of-" in said and why in said
    assert "AWS_ACCESS_KEY_ID" in said


def test_a_password_in_the_url_is_not_shown(server: S3Server, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("MLFN_ARTIFACTS", "s3://nobody:hunter2@results/x")

    said = refusal(StorageError)

    assert "hunter2" not in said and "nobody:***@results" in said


def test_a_folder_that_cannot_be_written_is_named(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFN_ARTIFACTS", str(tmp_path / "file" / "shelf"))

    assert str(tmp_path / "file" / "shelf") in refusal(StorageError)


def test_a_server_that_is_gone_is_named(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in S3Server("http://127.0.0.1:9", os.getpid()).environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MLFN_ARTIFACTS", "s3://results/x")

    assert "Could not connect" in refusal(StorageError)
