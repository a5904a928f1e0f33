"""The manifests that are checked in are taken by a real API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.api import Namespace
from tests.unit.backends.test_manifests import FOLDER, read


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_manifest_that_is_checked_in_is_taken(namespace: Namespace, file: Path) -> None:
    text = file.read_text().replace("sparkVersion: version", "sparkVersion: 4.0.1")  # which the file leaves open
    for made in read(text):
        made["metadata"]["namespace"] = namespace.name
        namespace.api.post(namespace.path(f"{made['kind'].lower()}s"), made, dryRun="All", fieldValidation="Strict")
