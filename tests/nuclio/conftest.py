"""What a test of Nuclio's own processor gets: the processor that the environment names, and an end of what it has deployed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn

NAMES = ("MLFN_NUCLIO_PROCESSOR", "MLFN_NUCLIO_WRAPPER")
GIVEN = {name: os.environ[name] for name in NAMES if name in os.environ}
if NAMES[0] not in GIVEN:
    raise pytest.UsageError(f"{NAMES[0]} names no processor of Nuclio: CONTRIBUTING.md says what these tests need.")


@pytest.fixture(autouse=True)
def data(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a data folder and the processor, and end the services that it has deployed."""
    folder = tmp_path / "data"
    monkeypatch.setenv("MLFN_DATA", str(folder))
    monkeypatch.setenv("MLFN_GRACE", "2")
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    yield folder
    for service in mlfn.services():
        service.delete()
