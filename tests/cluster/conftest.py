"""What tests on a cluster need: a cluster. Without one they fail."""

from __future__ import annotations

import pytest

from tests.cluster.api import KUBECONFIG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse to run without a cluster: a test that was skipped proves nothing."""
    if not KUBECONFIG and any("/tests/cluster/" in str(item.path) for item in items):
        raise pytest.UsageError("tests/cluster needs a cluster: set KUBECONFIG.")
