"""What tests on a cluster need: a cluster. Without one they fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.api import KUBECONFIG, Namespace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse to run without a cluster: a test that was skipped proves nothing."""
    if not KUBECONFIG and any("/tests/cluster/" in str(item.path) for item in items):
        raise pytest.UsageError("tests/cluster needs a cluster: set KUBECONFIG.")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """Make a namespace of a file's own, as strict as Pod Security can be."""
    made = Namespace(restricted=True)
    yield made
    made.close()


@pytest.fixture
def reach(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have mlfn reach that namespace, as the user of `mlfn rbac`."""
    monkeypatch.setenv("KUBECONFIG", str(namespace.write_kubeconfig(tmp_path / "kubeconfig")))
