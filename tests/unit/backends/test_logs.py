"""A log is read through the place that holds it, by readers that know no file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import mlfn
from mlfn.backends.logs import AttemptLog
from mlfn.dispatch.session import current_session
from mlfn.spec.record import Outcome, RunState, log_file
from mlfn.store.changes import Claimed, ExecutionCreated, Finished, Started, Submitted
from mlfn.ui.cli.reading import logs
from mlfn.ui.views import Source
from mlfn.ui.views.run import read_run
from tests.packages import installed

PLACE = """
from pathlib import Path

from mlfn.backends.places.base import Capabilities, OneShot

class ShelfPlace(OneShot):
    OPTIONS = ()
    CAPABILITIES = Capabilities()

    @staticmethod
    def read_log(wanted, offset):
        assert (wanted.target, wanted.unit, wanted.rank) == ("", 3, 0)
        path = Path(wanted.handle["shelf"], f"{wanted.run}-{wanted.attempt}")
        return path.read_bytes()[offset : offset + 4] if path.exists() else b""
"""


@mlfn.function
def double(x: int) -> int:
    return 2 * x


class Shelved:
    """A run whose place keeps the log in a folder of its own."""

    def __init__(self, shelf: Path) -> None:
        known, store = double.on("inline").submit(2).record, current_session().store
        self.id = "a" * 32
        owner = current_session().id
        store.apply(
            [
                ExecutionCreated("e" * 32, owner, "shelf", "", {"shelf": str(shelf)}),
                Submitted(self.id, "double", "default", known.function, known.plan, "shelf", owner, {}, 1.0),
                Claimed(self.id, owner, "e" * 32, 1.0, unit=3),
                Started(self.id, 1, 1.0),
            ]
        )
        self._log = shelf / f"{self.id}-1"

    def write(self, data: bytes) -> None:
        with self._log.open("ab") as file:
            file.write(data)

    def finish(self) -> None:
        current_session().store.apply([Finished(self.id, 1, Outcome(RunState.SUCCEEDED), 2.0)])

    def forget(self) -> None:
        current_session().store.remove_execution("e" * 32)
        self._log.unlink()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Shelved]:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with installed(tmp_path, "shelves", "[mlfn.places]\nshelf = shelves.place:ShelfPlace\n", {"place": PLACE}):
        yield Shelved(shelf)


def attempt_log(run: Shelved) -> AttemptLog:
    session = current_session()
    return AttemptLog(session.store, session.folder, session.store.attempts(run.id)[-1])


def test_a_log_is_read_through_its_place(run: Shelved) -> None:
    assert mlfn.run(run.id).logs() == ""

    run.write("zwölf Boxkämpfer\n".encode())

    assert mlfn.run(run.id).logs() == "zwölf Boxkämpfer\n"
    assert mlfn.run(run.id).log_path() is None


def test_the_command_line_reads_through_the_place(run: Shelved) -> None:
    run.write(b"first\nsecond\n")

    shown = CliRunner().invoke(logs, [run.id])

    assert (shown.exit_code, shown.output) == (0, "first\nsecond\n")


def test_a_card_shows_the_log_of_a_place(run: Shelved) -> None:
    run.write(b"first\n" * 20_000 + b"last\n")
    session = current_session()

    view = read_run(Source(session.store, session.folder), session.store.get_run(run.id))

    assert view.log[-1] == "last" and view.log_size == 120_005
    assert view.log_at == f"shelf: {'e' * 32}"


def test_a_log_at_a_place_is_followed(run: Shelved) -> None:
    chunks: list[str] = []
    following = threading.Thread(target=lambda: chunks.extend(mlfn.run(run.id).logs(follow=True)))

    run.write(b"first\n")
    following.start()
    while "".join(chunks) != "first\n":
        following.join(0.01)
    run.write(b"second\n")
    run.finish()
    following.join(30)

    assert "".join(chunks) == "first\nsecond\n"


def test_the_file_counts_once_the_execution_is_gone(run: Shelved) -> None:
    run.write(b"first\nsecond\n")
    kept = Path(log_file(current_session().folder, run.id, 1))
    kept.parent.mkdir()
    kept.write_bytes(b"first\nsecond\n")
    run.finish()
    run.forget()

    assert mlfn.run(run.id).logs() == "first\nsecond\n"
    assert attempt_log(run).where == str(kept)


def test_nothing_is_left_of_a_log_without_file(run: Shelved) -> None:
    run.write(b"first\n")
    run.finish()
    run.forget()

    assert (attempt_log(run).where, attempt_log(run).read(0)) == (None, b"")
    assert mlfn.run(run.id).logs() == ""
