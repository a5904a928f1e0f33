from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfn.dispatch.garbage import GRACE, TEMPORARY_GRACE, Garbage, freed_by
from mlfn.dispatch.garbage_collection import Wanted, find_broken, find_garbage, remove_broken, remove_garbage
from mlfn.host.identity import new_id
from mlfn.spec.record import Outcome, RunState
from mlfn.store import open_store
from mlfn.store.changes import Claimed, ExecutionCreated, Finished, FinishedUnstarted, Submitted, SweepSubmitted
from mlfn.store.commands import Store

NOW = time.time()
OLD = NOW - TEMPORARY_GRACE - 60
YOUNG = NOW - GRACE / 2
DAY = 86400.0


class World:
    """A data folder and its store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: Store = open_store("", folder)

    def run(
        self, *, ended: float | None = None, params: dict | None = None, parent: str | None = None, name: str = "f"
    ) -> str:
        run = new_id()
        submitted = Submitted(run, name, "default", "fn", "plan", "local", "me", params or {}, OLD, parent=parent)
        claim = Claimed(run, "me", None, OLD)
        end = [Finished(run, 1, Outcome(RunState.SUCCEEDED), ended)] if ended is not None else []
        self.store.apply([submitted, claim, *end])
        return run

    def sweep(self, **body: Any) -> str:
        run = new_id()
        submitted = Submitted(run, "f", "default", "fn", "plan", "local", "me", {}, OLD)
        self.store.apply([SweepSubmitted(submitted, None, body)])
        return run

    def file(self, name: str, *, written: float = OLD) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)
        self.age(path, written)
        return name

    def age(self, path: Path, written: float) -> None:
        while path != self.folder:
            os.utime(path, (written, written))
            path = path.parent

    def files_of(self, run: str, *, written: float = OLD) -> list[str]:
        return [
            self.file(f"artifacts/{run}/model/{'a' * 64}.mlfn", written=written),
            self.file(f"logs/{run[:2]}/{run}-1.log", written=written),
        ]

    def garbage(self, older_than: float | None = None, **wanted: Any) -> list[Garbage]:
        chosen = Wanted(older_than, **wanted) if older_than is not None or wanted else None
        return find_garbage([self.store], self.folder, now=NOW, wanted=chosen)

    def clean(self, older_than: float | None = None, **wanted: Any) -> list[Garbage]:
        return remove_garbage(self.store, self.folder, self.garbage(older_than, **wanted), now=NOW)

    def files(self) -> set[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("mlfn.db"))
        return {path.relative_to(self.folder).as_posix() for path in found}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "data")
    yield world
    world.store.close()


def environment(world: World, digit: str, *, used: float | None, written: float = OLD) -> str:
    world.file(f"environments/{digit * 24}/bin/tool", written=written)
    if used is not None:
        world.file(f"environments/{digit * 24}/complete", written=used)
    return f"environments/{digit * 24}"


def test_environments_go_when_none_has_used_them_for_long_and_all_of_them_on_request(world):
    used, unused = environment(world, "a", used=NOW - 20 * DAY), environment(world, "b", used=NOW - 40 * DAY)
    just_used = environment(world, "c", used=NOW - 5)
    abandoned, building = environment(world, "d", used=None), environment(world, "e", used=None, written=NOW - 60)

    assert names(world.clean()) == [unused, abandoned]
    everything = find_garbage([world.store], world.folder, now=NOW, all_environments=True)
    assert names(everything) == [used]
    assert names(remove_garbage(world.store, world.folder, everything, now=NOW)) == [used]
    assert {name.rpartition("/")[0] for name in world.files()} >= {just_used, f"{building}/bin"}


def test_an_environment_that_is_wanted_between_the_look_and_the_removal_stays(world):
    name = environment(world, "a", used=NOW - 40 * DAY)
    found = world.garbage()
    os.utime(world.folder / name / "complete", (NOW, NOW))

    assert remove_garbage(world.store, world.folder, found, now=NOW) == []
    assert (world.folder / name / "bin" / "tool").exists()


def names(found: list[Garbage]) -> list[str]:
    return sorted(item.name for item in found)


def foreign_files(world: World) -> list[str]:
    run = new_id()
    return [
        *(world.file(f"artifacts/notes{number}.txt") for number in range(4)),
        *(world.file(f"artifacts/run{number}/result.csv") for number in range(4)),
        *(world.file(f"logs/{run[:2]}/{run}.log{number}") for number in range(2)),
        world.file(f"logs/{'zz'}/{run}-1.log"),
        world.file(f"logs/{run}-1.log"),
        world.file("payloads/README"),
        world.file(f"payloads/{'A' * 64}"),
        world.file("workers/pool.json"),
        world.file("environments/abc/complete"),
        world.file("environments/.half.tmp"),
        world.file("notes.md"),
        world.file(f"{run}/mine.txt"),
        world.file(".secret.tmp"),
    ]


def test_exactly_the_garbage_goes_and_a_second_pass_finds_nothing(world):
    live = [name for _ in range(8) for name in world.files_of(world.run())]
    live += [world.file(f"payloads/{digit * 64}") for digit in "ab"]
    for digit in "ab":
        world.store.add_plan(digit, function="fn", body=f'{{"payload": "{digit * 64}"}}')
    for worker in (new_id(), new_id()):
        world.store.apply([ExecutionCreated(worker, "c", "local", "", {})])
        live.append(world.file(f"workers/{worker}/journal"))
    garbage = [name for _ in range(6) for name in world.files_of(new_id())]
    garbage += [world.file(f"payloads/{digit * 64}") for digit in "cde"]
    garbage += [world.file(f"workers/{new_id()}/journal") for _ in range(3)]
    garbage += [world.file(f"artifacts/{live[0].split('/')[1]}/model/.half.tmp")]
    garbage += [world.file(f"payloads/.{'f' * 64}.01234567")]
    foreign = foreign_files(world)
    assert (len(live), len(garbage), len(foreign)) == (20, 20, 20)

    listed = world.garbage()
    gone = world.clean()

    assert world.files() == {*live, *foreign}
    assert names(gone) == names(listed)
    assert len(gone) == 20
    assert world.garbage() == []


def test_nothing_is_removed_by_looking(world):
    world.files_of(new_id())

    world.garbage(older_than=1)

    assert len(world.files()) == 2


def test_what_is_younger_than_an_hour_may_be_about_to_be_claimed(world):
    young = world.files_of(new_id(), written=YOUNG)
    young += [world.file(f"payloads/{'c' * 64}", written=YOUNG), world.file(f"workers/{new_id()}/beat", written=YOUNG)]

    assert world.clean() == []
    assert world.files() == set(young)


def test_one_young_file_keeps_its_whole_folder(world):
    run = new_id()
    world.file(f"artifacts/{run}/a/{'a' * 64}.bin")
    world.file(f"artifacts/{run}/b/{'b' * 64}.bin")
    os.utime(world.folder / f"artifacts/{run}/b/{'b' * 64}.bin", (YOUNG, YOUNG))

    assert world.clean() == []


def test_a_temporary_file_is_left_for_a_day(world):
    run = world.run()
    world.file(f"artifacts/{run}/model/.busy.tmp", written=NOW - 2 * GRACE)

    assert world.garbage() == []


def test_what_came_into_use_between_looking_and_removing_stays(world):
    name = world.file(f"payloads/{'c' * 64}")
    found = world.garbage()
    os.utime(world.folder / name)

    assert remove_garbage(world.store, world.folder, found, now=time.time()) == []
    assert world.files() == {name}


def test_an_artifact_that_another_run_has_as_a_parameter_stays(world):
    gone = new_id()
    kept = world.files_of(gone)[0]
    world.run(params={"model": {"packer": "pickle", "path": f"{gone}/model/{'a' * 64}.mlfn", "sha256": "a" * 64}})

    world.clean()

    assert world.files() == {kept}


def test_a_link_is_not_followed(world, tmp_path):
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (world.folder / "artifacts").mkdir()
    (world.folder / "artifacts" / new_id()).symlink_to(outside)
    inside = world.folder / "artifacts" / new_id()
    inside.mkdir()
    (inside / "model").symlink_to(outside)
    os.utime(inside / "model", (OLD, OLD), follow_symlinks=False)
    os.utime(inside, (OLD, OLD))

    world.clean()

    assert not inside.exists()
    assert (outside / "file").read_text() == "mine"
    assert len(list((world.folder / "artifacts").iterdir())) == 1


def test_the_folder_of_a_worker_that_beats_stays(world):
    for worker, beat in ((new_id(), YOUNG), (new_id(), OLD)):
        world.file(f"workers/{worker}/journal")
        world.file(f"workers/{worker}/beat", written=beat)

    assert [Path(item.name).name for item in world.garbage()] == [worker]


def test_old_runs_go_on_request_with_all_their_files(world):
    old = world.run(ended=NOW - 40 * DAY)
    recent = world.run(ended=NOW - 20 * DAY)
    running = world.run()
    world.files_of(old, written=YOUNG)  # its run is over and gone: nobody will claim these
    kept = [*world.files_of(recent), *world.files_of(running)]

    gone = world.clean(older_than=30 * DAY)

    assert names(gone) == sorted([old, f"artifacts/{old}", f"logs/{old[:2]}/{old}-1.log"])
    assert world.files() == set(kept)
    assert world.store.known_runs([old, recent, running]) == {recent, running}
    assert world.clean(older_than=30 * DAY) == []


def test_runs_go_by_name_with_those_below(world):
    other = world.run(ended=NOW, name="other")
    train = world.run(ended=NOW, name="train")
    child = world.run(ended=NOW, name="part", parent=train)
    world.run(ended=NOW, name="train", parent=other)

    gone = world.clean(name="train")

    assert names(gone) == sorted([train, child])
    assert world.clean(name="part") == []


def test_runs_go_by_the_size_of_a_whole(world):
    small, large = world.run(ended=NOW), world.run(ended=NOW)
    children = [world.run(ended=NOW, parent=large) for _ in range(2)]
    for run in (small, large, *children):
        world.files_of(run)  # 20 bytes

    assert world.garbage(larger_than=60) == []
    assert {item.run for item in world.clean(larger_than=59)} == {large, *children}


def test_age_size_and_name_must_all_hold(world):
    run = world.run(ended=NOW - 2 * DAY)
    world.files_of(run)

    assert world.garbage(older_than=DAY, larger_than=20) == []
    assert world.garbage(older_than=3 * DAY, name="f") == []
    assert {item.run for item in world.clean(older_than=DAY, larger_than=19, name="f")} == {run}


def test_what_an_unfinished_sweep_mentions_stays(world):
    earlier = world.run(ended=OLD)
    sweep = world.sweep(after=earlier)

    assert world.garbage(name="f") == []
    world.store.apply([FinishedUnstarted(sweep, Outcome(RunState.CANCELLED), OLD)])
    assert names(world.garbage(name="f")) == sorted([earlier, sweep])


def test_a_file_is_freed_with_its_last_name(world):
    runs = [world.run(ended=OLD) for _ in range(3)]
    first = world.folder / world.file(f"artifacts/{runs[0]}/param-x/{'a' * 64}.bin")
    for run in runs[1:]:
        (world.folder / "artifacts" / run / "param-x").mkdir(parents=True)
        os.link(first, world.folder / "artifacts" / run / "param-x" / first.name)

    found = world.garbage(older_than=1)

    assert freed_by(found) == 10
    assert freed_by([item for item in found if item.run != runs[0]]) == 0


def test_an_old_run_stays_while_a_run_that_stays_refers_to_it(world):
    grandparent = world.run(ended=NOW - 40 * DAY)
    parent = world.run(ended=NOW - 40 * DAY, params={"x": {"output": {"run": grandparent, "key": "return"}}})
    world.run(params={"x": {"output": {"run": parent, "key": "return"}}})

    assert world.clean(older_than=DAY) == []


def test_a_sweep_and_its_children_stay_together(world):
    sweep = world.run()
    child = world.run(ended=NOW - 40 * DAY, parent=sweep)

    assert world.clean(older_than=DAY) == []
    assert world.store.known_runs([child]) == {child}


def test_the_claims_of_a_second_store_count(world, tmp_path):
    other = World(tmp_path / "other")
    kept = world.files_of(other.run())

    found = find_garbage([world.store, other.store], world.folder, now=NOW)

    other.store.close()
    assert found == []
    assert world.files() == set(kept)


def test_an_empty_folder_holds_no_garbage(world):
    assert world.garbage(older_than=1) == []


def damage(world: World, run: str) -> None:
    with world.store.connection.writing() as engine:
        engine.execute("UPDATE runs SET params = substr(params, 2) WHERE id = ?", (run,))


def test_a_row_that_cannot_be_read_costs_no_file(world: World):
    nobodys = world.files_of("a" * 32)
    broken, other = world.run(ended=OLD), world.run(ended=OLD)
    world.files_of(broken)
    damage(world, broken)

    gone = world.clean()

    assert [item.name for item in gone] == [nobodys[1]], "artifacts may be what the broken row means"
    assert world.store.known_runs([broken, other]) == {broken, other}


def test_old_runs_that_a_broken_one_mentions_stay(world: World):
    needed, other = world.run(ended=OLD), world.run(ended=OLD)
    broken = world.run(ended=OLD, params={"x": {"output": {"run": needed, "key": "return"}}})
    damage(world, broken)

    world.clean(older_than=0)

    assert world.store.known_runs([needed, other, broken]) == {needed, broken}


def test_a_page_of_broken_rows_hides_no_run_behind_it(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mlfn.dispatch.claims._PAGE", 2)
    first = world.run(ended=OLD)
    kept = world.files_of(first)
    for _ in range(3):
        damage(world, world.run(ended=OLD))

    assert world.clean() == []
    assert all((world.folder / name).exists() for name in kept)


def test_of_a_broken_run_goes_what_no_other_uses(world: World):
    broken, used = world.run(ended=OLD), world.run(ended=OLD)
    for run in (broken, used):
        world.files_of(run, written=NOW)
        damage(world, run)
    world.run(ended=OLD, params={"x": {"packer": "file", "path": f"{used}/model/{'a' * 64}.mlfn"}})
    with world.store.connection.writing() as engine:
        engine.execute("UPDATE runs SET params = '{}' WHERE id = ?", (used,))

    found = find_broken(world.store, world.folder, broken, others=[], now=NOW)
    assert [fault.column for fault in found.faults] == ["params"]
    gone = remove_broken(world.store, world.folder, found, now=NOW)
    assert [item.kind for item in gone] == ["run", "artifacts", "log"]

    damage(world, used)
    gone = remove_broken(
        world.store, world.folder, find_broken(world.store, world.folder, used, others=[], now=NOW), now=NOW
    )
    assert [item.kind for item in gone] == ["run", "log"]
    assert (world.folder / "artifacts" / used).exists()
