from __future__ import annotations

import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

from mlfn.artifacts.formats.base import Packed
from mlfn.artifacts.formats.files import walk
from mlfn.artifacts.formats.registry import pack, unpack
from mlfn.errors import OutputError


def packed(value: Any) -> Packed:
    return pack(value, name="out", pickler=pickle.dumps)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "empty").mkdir(parents=True)
    (root / "inner").mkdir()
    (root / "inner" / "b.txt").write_text("bb")
    (root / "a.txt").write_text("a")
    return root


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("model.bin", ".bin"),
        ("data.tar.gz", ".tar.gz"),
        (".hidden", ""),
        ("plain", ""),
        ("v1.2 final", ""),
        ("a.b.c", ".c"),
    ],
)
def test_a_file_is_its_own_artifact_and_keeps_its_suffix(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"12345")

    made = packed(path)

    assert (made.packer, made.content, made.suffix, made.size) == ("path", path, suffix, 5)


def test_a_folder_is_measured_with_what_lies_below_it(folder: Path) -> None:
    made = packed(folder)

    assert (made.packer, made.content, made.size) == ("path", folder, 3)
    assert [entry.relative for entry in walk(folder)] == ["a.txt", "empty", "inner", "inner/b.txt"]


def test_a_relative_path_and_a_link_lead_to_the_same_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "link").symlink_to("a.txt")

    assert packed(Path("a.txt")).content == folder / "a.txt"
    assert packed(Path("link")).content == folder / "a.txt"


@pytest.mark.parametrize("path", [Path("nothing-here"), Path("null\0"), Path("x" * 5000), Path(os.devnull)], ids=str)
def test_a_path_where_no_file_is_is_a_value(path: Path) -> None:
    made = packed(path)

    assert made.packer == "json"
    assert unpack("json", inline=made.inline, path=None, unpickler=pickle.loads) == path


def test_a_link_inside_a_folder_to_a_file_of_it_is_copied_as_that_file(folder: Path) -> None:
    (folder / "latest").symlink_to("inner/b.txt")

    found = {entry.relative: entry.source for entry in walk(folder)}

    assert found["latest"] == folder / "inner" / "b.txt"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "inner", "missing", "loop"])
def test_another_link_inside_a_folder_is_refused_by_name(folder: Path, target: str) -> None:
    (folder.parent / "outside").write_text("secret")
    (folder / "loop").symlink_to(target)

    with pytest.raises(OutputError, match=r"'loop' in .* is a link"):
        packed(folder)


def test_a_pipe_and_a_socket_inside_a_folder_are_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(OutputError, match=r"'pipe' in .* is a device, socket or pipe"):
        packed(folder)
    (folder / "pipe").unlink()

    monkeypatch.chdir(folder)  # a socket's path may have 107 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OutputError, match=r"'socket' in .* is a device, socket or pipe"):
            packed(folder)


def test_the_root_of_the_file_system_is_refused() -> None:
    with pytest.raises(OutputError, match="root of a file system"):
        packed(Path("/"))
