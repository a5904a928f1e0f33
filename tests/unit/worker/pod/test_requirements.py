"""Where the installer of a pod looks for packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mlfn.backends.places.kubernetes.staging import index_variables
from mlfn.worker.pod import preparation, requirements

SHOWS = "#!/bin/sh\necho $PIP_INDEX_URL $PIP_TRUSTED_HOST, $UV_DEFAULT_INDEX $UV_INDEX_URL $UV_INSECURE_HOST\n"


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what the installer says, which stands here for pip."""
    installer = tmp_path / "python"
    installer.write_text(SHOWS)
    installer.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(installer))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://of-the-image/")
    monkeypatch.setattr(requirements, "TARGET", str(tmp_path / "packages"))
    monkeypatch.setattr(preparation, "FOLDER", str(tmp_path))
    monkeypatch.setattr(preparation, "place_files", lambda *_: None)
    return []


def prepare(said: list[bytes], folder: Path, **asked: Any) -> str:
    preparation.prepare(
        {"plan": {"cwd": str(folder / "work")}, "requirements": ["no-such-package"], **asked}, said.append
    )
    return said[1].decode().strip()


def test_both_installers_use_the_index_of_the_settings(said: list[bytes], tmp_path: Path) -> None:
    index = index_variables("http://a/", "a:80")

    assert prepare(said, tmp_path, index=index, env={}) == "http://a/ a:80, http://a/ http://a/ a:80"
    assert "UV_DEFAULT_INDEX" not in os.environ, "the function itself sees it not"


def test_the_functions_own_index_comes_first(
    said: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    index = index_variables("http://a/", "")

    assert prepare(said, tmp_path, index=index, env={"PIP_INDEX_URL": "http://b/"}).startswith("http://b/")


def test_without_settings_the_images_own_index_stays(said: list[bytes], tmp_path: Path) -> None:
    assert prepare(said, tmp_path, index=index_variables("", ""), env={}) == "http://of-the-image/ ,"
