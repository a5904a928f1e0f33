"""What a sweep costs the API server, counted."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.kubernetes.connection import Connection
from tests.cluster.api import Namespace
from tests.ledger import wait_until

pytestmark = pytest.mark.usefixtures("reach")


@mlfn.function
def double(n: int) -> int:
    return 2 * n


def test_a_grid_of_1000_is_made_by_three_writes(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    call = Connection._call

    def counting(self: Connection, method: str, path: str, *rest: Any) -> dict[str, Any]:
        if method != "GET":
            written.append(f"{method} {path.rpartition('/')[2]}")
        return call(self, method, path, *rest)

    with namespace.quota(pods="0"):  # nothing of it begins
        monkeypatch.setattr(Connection, "_call", counting)
        sweep = double.on("kubernetes").grid(n=range(1000)).submit()
        wait_until(
            lambda: any(
                "exceeded quota" in (mlfn.run(child.id).record.status or "") for child in islice(sweep.children, 3)
            ),
            timeout=60.0,
        )
        assert written == ["POST configmaps", "POST jobs", "POST secrets"]

        sweep.cancel()
        assert sweep.wait(60) and len(written) == 4, written
        monkeypatch.undo()
