from __future__ import annotations

from typing import Any

import pytest

from mlfn.artifacts.store import ArtifactStore
from mlfn.dispatch.garbage import Garbage
from mlfn.dispatch.removal import find_removal, remove_found
from mlfn.errors import ParameterError
from mlfn.store.queries import TagRow
from tests.unit.dispatch.test_garbage_collection import NOW, OLD, World, damage, world

__all__ = ["world"]


def output_of(run: str) -> dict[str, Any]:
    return {"x": {"output": {"run": run, "key": "return"}}}


def remove(world: World, *runs: str) -> list[Garbage]:
    artifacts = ArtifactStore(world.folder / "artifacts")
    named = [world.store.get_run(run) for run in runs]
    removal = find_removal(world.store, world.folder, named, now=NOW, artifacts=artifacts)
    return remove_found(world.store, world.folder, removal, others=(), now=NOW, artifacts=artifacts)


def test_a_run_goes_with_its_files_and_no_other(world: World) -> None:
    run, other = world.run(ended=NOW), world.run(ended=NOW)
    world.files_of(run, written=NOW)
    kept = world.files_of(other)

    gone = remove(world, run, run)

    assert [item.kind for item in gone] == ["run", "artifacts", "log"]
    assert world.store.known_runs([run, other]) == {other}
    assert world.files() == set(kept)


def test_a_sweep_goes_with_its_children(world: World) -> None:
    sweep = world.run(ended=NOW)
    child = world.run(ended=NOW, parent=sweep)
    grandchild = world.run(ended=NOW, parent=child)
    world.files_of(grandchild)

    remove(world, sweep)

    assert world.store.known_runs([sweep, child, grandchild]) == set()
    assert world.files() == set()


def refusal(world: World, *runs: str) -> str:
    with pytest.raises(ParameterError) as refused:
        remove(world, *runs)
    assert world.store.known_runs(runs) == set(runs)
    return str(refused.value)


def test_a_run_that_has_not_ended_is_refused(world: World) -> None:
    sweep = world.run(ended=NOW)
    child = world.run(parent=sweep)

    assert f"`mlfn cancel {child[:8]}`" in refusal(world, sweep)


def test_a_child_is_refused_without_its_sweep(world: World) -> None:
    sweep = world.run(ended=NOW)
    child = world.run(ended=NOW, parent=sweep)

    assert f"`mlfn rm {sweep[:8]}`" in refusal(world, child)
    remove(world, child, sweep)


def test_a_child_whose_parent_is_gone_goes(world: World) -> None:
    child = world.run(ended=NOW, parent="f" * 32)

    assert len(remove(world, child)) == 1


def test_a_run_that_another_needs_is_refused_with_its_name(world: World) -> None:
    needed = world.run(ended=NOW)
    user = world.run(ended=NOW, params=output_of(needed))

    assert f"`mlfn rm {user[:8]} {needed[:8]}` removes both" in refusal(world, needed)
    assert len(remove(world, needed, user)) == 2


def test_a_run_whose_file_another_has_is_refused(world: World) -> None:
    needed = world.run(ended=NOW)
    path = f"{needed}/param-x/{'a' * 64}.bin"
    user = world.run(ended=NOW, params={"x": {"packer": "bytes", "path": path, "sha256": "a" * 64}})

    assert f"is needed by f ({user[:8]})" in refusal(world, needed)


def test_a_run_that_a_tag_names_is_refused(world: World) -> None:
    run = world.run(ended=NOW)
    world.store.move_tag(TagRow("default", "f", "prod", "fn", run), time=NOW)

    assert "f:prod was promoted from" in refusal(world, run)


def test_a_run_that_an_unreadable_one_mentions_is_refused(world: World) -> None:
    needed = world.run(ended=NOW)
    broken = world.run(ended=NOW, params=output_of(needed))
    damage(world, broken)

    assert f"`mlfn gc --broken {broken}`" in refusal(world, needed)


def test_one_refusal_removes_none_of_them(world: World) -> None:
    assert "is running" in refusal(world, world.run(ended=NOW), world.run())


def test_files_go_after_all_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = world.run(ended=NOW)
    runs = [sweep, *(world.run(ended=NOW, parent=sweep) for _ in range(3))]
    for run in runs:
        world.files_of(run, written=OLD)
    monkeypatch.setattr("mlfn.dispatch.removal.is_removed", interrupted)

    with pytest.raises(KeyboardInterrupt):
        remove(world, sweep)

    assert world.store.known_runs(runs) == set()
    assert len(world.files()) == 8
    world.clean()
    assert world.files() == set()


def interrupted(*_: Any) -> bool:
    raise KeyboardInterrupt
