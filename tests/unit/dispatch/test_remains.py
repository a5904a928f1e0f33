"""What lies at an engine, and which of it can go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfn.artifacts.home import home_of
from mlfn.backends.places.base import Capabilities, OneShot, Remains
from mlfn.dispatch import remains
from mlfn.dispatch.remains import find_left, remove_left
from mlfn.errors import PlaceError
from mlfn.store import open_store
from mlfn.store.changes import Claimed, ExecutionCreated, Submitted
from mlfn.store.commands import Store

AN_HOUR = 3600.0


class FarPlace(OneShot):
    CAPABILITIES = Capabilities(outlives_client=True)
    there: list[Remains]
    asked: list[dict[str, Any]]

    @classmethod
    def remains(cls, **target: Any) -> list[Remains]:  # type: ignore[override]
        cls.asked.append(target)
        return list(cls.there)

    @classmethod
    def remove(cls, found: Remains, **target: Any) -> None:  # type: ignore[override]
        if found.name == "stuck":
            raise PlaceError("stuck cannot be removed: forbidden.")
        cls.there.remove(found)


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    FarPlace.there, FarPlace.asked = [], []
    monkeypatch.setattr(remains, "engine_class", lambda name: FarPlace if name == "far" else OneShot)
    monkeypatch.setattr(remains, "capabilities", lambda _: FarPlace.CAPABILITIES)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Have a run of a client that lives, one of a dead one, and an execution of that one's without a run."""
    opened = open_store("", tmp_path)
    opened.add_function("f", project="default", name="train", spec="{}", time=1.0)
    opened.add_plan("p", function="f", body="{}")
    for client, run in (("alive", "a"), ("dead", "b"), ("dead", None)):
        execution = f"of-{client}" if run else "idle"
        opened.apply([ExecutionCreated(execution, client, "far", '{"namespace": "ml"}', {})])
        if run:
            opened.apply([Submitted(run, "train", "default", "f", "p", "far", client, {}, 1.0)])
            opened.apply([Claimed(run, client, execution, 2.0)])
    yield opened
    opened.close()


def lying(name: str, *, age: float = AN_HOUR, home: str = "", execution: str | None = "") -> None:
    FarPlace.there.append(Remains(name, age, {}, name if execution == "" else execution, home))


def names(store: Store, folder: Path) -> list[str]:
    return [item.found.name for item in find_left("far", [store], folder, lives=lambda client: client == "alive")]


def test_what_no_live_run_claims_can_go_and_nothing_else(store: Store, tmp_path: Path) -> None:
    own = home_of(tmp_path)
    for name in ("of-alive", "of-dead", "idle"):
        lying(name)
    lying("forgotten", home=own)
    lying("young", home=own, age=AN_HOUR - 60)
    lying("of-others", home="of-0123456789abcdef")
    lying("of-nobody-knows-whom")
    lying("needless", execution=None)

    assert names(store, tmp_path) == ["idle", "forgotten", "needless"]
    assert FarPlace.asked == [{}, {"namespace": "ml"}], "it is looked where runs went, and where they go by default"


def test_what_is_removed_is_forgotten_and_what_cannot_be_stays(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lying("idle")
    lying("stuck", home=home_of(tmp_path))

    gone = remove_left(store, find_left("far", [store], tmp_path, lives=lambda client: client == "alive"))

    assert [item.found.name for item in gone] == ["idle"]
    assert store.execution_ids() == {"of-alive", "of-dead"}
    assert "stuck cannot be removed: forbidden." in caplog.text
