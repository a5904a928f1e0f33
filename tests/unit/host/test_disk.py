from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlfn.host.disk import Room, files_below, room_of


def test_a_file_of_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"123")
    os.link(tmp_path / "a", tmp_path / "deep" / "c")

    assert room_of(files_below(tmp_path)) == Room(8, 2, is_all=True)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "file").write_bytes(b"x" * 5000)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "large")

    assert room_of(files_below(tmp_path / "here")).size < 5000


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert room_of(files_below(tmp_path / "no")) == Room(0, 0, is_all=True)


@pytest.mark.parametrize("bound", ["_MOST_FILES", "_MOST_SECONDS"])
def test_a_walk_ends_early_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"1")
    monkeypatch.setattr(f"mlfn.host.disk.{bound}", 2 if bound == "_MOST_FILES" else -1.0)

    room = room_of(files_below(tmp_path))

    assert not room.is_all and room.files <= 2
