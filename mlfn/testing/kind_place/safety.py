"""What is never left, never shown and never removed."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

import mlfn
from mlfn import errors
from mlfn.testing.kind_place.inside import signing_key
from mlfn.testing.kind_place.pair import Pair

_DAY = 86_400.0
_THIRD_PARTY = """
from dataclasses import dataclass

import mlfn
from mlfn.testing.kind_place.inside import place_called

@dataclass(frozen=True)
class ThirdKind(mlfn.Job):
    pass

class ThirdPlace(place_called({on!r})):
    pass
"""
_ENTRY_POINTS = """\
[mlfn.kinds]
third-kind = third_party:ThirdKind

[mlfn.places]
third-place = third_party:ThirdPlace
"""
_USE_THIRD_PARTY = """
print(handlers.double.with_options(kind="third-kind").on("third-place").submit(4).result(60))
"""


class SafetyCases(Pair):
    """Secrets, refusals, plans, garbage and members from outside."""

    def test_no_secret_or_master_key_anywhere(self) -> None:
        token, key = secrets.token_hex(20), signing_key()
        self.give_secret("SUITE_TOKEN", token)
        digest = hashlib.sha256(key).hexdigest()

        shown = self.begin(self.placed("use_secret", secrets=["SUITE_TOKEN"]), "SUITE_TOKEN", digest, str(self.shared))
        self.wait_until(lambda: self.notes("start"), "the run has begun")
        failed = self.placed("raise_secret", secrets=["SUITE_TOKEN"]).submit("SUITE_TOKEN")
        assert failed.wait(self.patience)
        while_running = self._files_with(key)
        shown_to_all = _command_lines_with(token.encode(), *_written(key))
        self.go()
        places = set(shown.result(self.patience))

        self._is_nowhere(token, shown, failed)
        assert while_running == [] and self._files_with(key) == []
        assert shown_to_all == []
        # The caller's own memory has the key, as it signs with it.
        assert places <= ({"memory"} if self.in_caller else set())

    def _files_with(self, key: bytes) -> list[Path]:
        """Return the files of the case, other than the key itself, that contain it."""
        files = [path for path in self.root.rglob("*") if path.is_file() and path != self.root / "config/mlfn/key"]
        return [path for path in files if any(form in _content(path) for form in _written(key))]

    def _is_nowhere(self, token: str, *runs: mlfn.Run[object]) -> None:
        texts = [text for run in runs for text in (run.logs(), str(run.error), self.command("show", run.id))]
        assert not any(token in text for text in texts)
        assert [path for path in self.data_files() if token.encode() in path.read_bytes()] == []

    def test_unmet_option_refused_by_name(self) -> None:
        [name] = self.unmet

        error = self.raised(errors.OptionError, lambda: self.placed("double", **self.unmet).submit(2))

        assert name in str(error) and self.on in str(error)
        assert len(mlfn.runs()) == 0

    def test_plan_creates_nothing_and_is_accepted(self) -> None:
        double = self.placed("double")

        plan = double.plan(4)

        assert not self.data.exists()
        assert (
            re.search(r"name: double\b", plan) and re.search(rf"name: {self.on}\b", plan) and re.search(r'"n": 4', plan)
        )
        self.accept(plan)
        assert double.submit(4).result(self.patience) == 8

    def test_gc_removes_only_unclaimed(self) -> None:
        run = self.placed("write_report").submit()
        assert run.wait(self.patience)
        unclaimed = self.data / "artifacts" / secrets.token_hex(16) / "report.txt"
        unclaimed.parent.mkdir()
        unclaimed.touch()
        self._let_a_day_pass()

        self.command("gc")

        assert not unclaimed.parent.exists()
        assert mlfn.run(run.id).outputs.report.path.read_text() == "written by the run\n"
        assert mlfn.run(run.id).rerun().wait(self.patience), "the payload is there"

    def _let_a_day_pass(self) -> None:
        """Date all files of runs a day back: what is young is left alone, claimed or not."""
        then = time.time() - _DAY
        for folder in ("artifacts", "payloads", "logs"):
            for path in [*(self.data / folder).rglob("*")]:
                os.utime(path, (then, then))

    def test_third_party_kind_and_place_by_entry_point(self) -> None:
        self._install_third_party(self.work)

        assert self.finish(self.client(_USE_THIRD_PARTY)).strip() == "8"

    def _install_third_party(self, folder: Path) -> None:
        """Write a distribution of one module as an installer would leave it."""
        (folder / "third_party.py").write_text(_THIRD_PARTY.format(on=self.on))
        info = folder / "third_party-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(_ENTRY_POINTS)


def _written(key: bytes) -> list[bytes]:
    """Return what a key looks like as itself, in hexadecimal and in base64."""
    return [key, key.hex().encode(), base64.b64encode(key)[:-1], base64.urlsafe_b64encode(key)[:-1]]


def _command_lines_with(*texts: bytes) -> list[str]:
    """Return the command lines on this machine, which any user may read, that contain one of the texts."""
    lines = [(path, _content(path)) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [str(path) for path, line in lines if any(text in line for text in texts)]


def _content(path: Path) -> bytes:
    with suppress(OSError):  # a folder, or removed by the run that goes on meanwhile
        return path.read_bytes()
    return b""
