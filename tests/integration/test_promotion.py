"""The best child of a sweep becomes a version under a tag, with its parameters and its outputs."""

from __future__ import annotations

import pytest

import mlfn
from mlfn.dispatch.garbage_collection import Wanted, find_garbage
from mlfn.errors import NotFoundError, OptionError, ParameterError


@mlfn.function(project="fraud")
@mlfn.handler(outputs=["model", "score"])
def train(depth: int, rows: int = 10, *, lr: float = 0.1) -> tuple[dict[str, int], float]:
    return {"depth": depth, "rows": rows}, depth * lr


@mlfn.function
def measure(scores: list[float]) -> float:
    return sum(scores)


@pytest.fixture
def sweep(local):
    sweep = train.grid(depth=[4, 16, 8]).with_options(select="max.score").submit(lr=0.5)
    sweep.wait(30)
    return sweep


def test_the_best_is_promoted_with_what_was_swept_as_its_defaults(sweep):
    version = sweep.best.promote(tag="prod")

    assert version.defaults == {"depth": 16}
    assert version.outputs["model"] == {"depth": 16, "rows": 10}
    assert version.spec["promoted"] == {"run": sweep.best.id, "sweep": sweep.id, "iteration": 2}
    assert version.hash != sweep.best.record.function


def test_it_is_found_by_its_tag_and_runs_with_its_parameters(sweep):
    sweep.best.promote(tag="prod")

    version = mlfn.get_function("fraud/train:prod")

    assert version.run.id == sweep.best.id
    assert version.submit().result(30) == ({"depth": 16, "rows": 10}, 8.0)
    assert version.submit(rows=20).result(30)[0] == {"depth": 16, "rows": 20}


def test_it_is_called_with_its_runs_parameters(sweep):
    sweep.best.promote(tag="prod")

    version = mlfn.get_function("fraud/train:prod")

    assert version() == ({"depth": 16, "rows": 10}, 8.0)
    assert version(rows=20)[0] == {"depth": 16, "rows": 20}
    with pytest.raises(ParameterError, match=r"train\(depth='x'\) does not fit int"):
        version(depth="x")


def test_it_takes_parameters_by_position(sweep):
    version = sweep.best.promote(tag="prod")

    assert version(4)[0] == {"depth": 4, "rows": 10}
    assert version.submit(4, rows=5).result(30)[0] == {"depth": 4, "rows": 5}


DESCRIBED = {
    "grid": lambda version: version.grid(depth=[1, 2]),
    "a grid of names": lambda version: version.grid({"depth": [1, 2]}),
    "zip": lambda version: version.zip(depth=[1, 2], rows=[7, 8]),
    "map": lambda version: version.map([1, 2]),
    "random": lambda version: version.random(n=2, depth=[1, 2], seed=1, method="latin"),
    "search": lambda version: version.search(
        n=2, depth=[1, 2], seed=1, sampler="random", first=[{"depth": 1}, {"depth": 2}]
    ),
    "rows": lambda version: version.sweep([{"depth": 1}, {"depth": 2, "lr": 0.25}]),
    "an iterator": lambda version: version.sweep(iter([{"depth": 1}, {"depth": 2}])),
}


@pytest.mark.parametrize("described", DESCRIBED.values(), ids=DESCRIBED)
def test_it_is_swept_with_its_runs_parameters(sweep, described):
    sweep.best.promote(tag="prod")
    version = mlfn.get_function("fraud/train:prod")

    again = described(version).with_options(select="max.score").submit()

    again.wait(30)
    assert {row["depth"] for row in (child.params for child in again.children)} == {1, 2}
    assert all(child.record.function == sweep.best.record.function for child in again.children)
    if described is DESCRIBED["grid"]:
        assert again.best.outputs["model"] == {"depth": 2, "rows": 10}
        assert again.best.params["lr"] == 0.5


def test_a_sweep_of_it_takes_other_parameters(sweep):
    version = sweep.best.promote(tag="prod")

    again = version.grid(depth=[1]).submit(rows=3, lr=0.25)

    assert again.wait(30)
    assert again.children[1].params == {"depth": 1, "rows": 3, "lr": 0.25}
    with pytest.raises(ParameterError, match="'rows' is both swept and given"):
        version.grid(rows=[1]).submit(rows=3)
    with pytest.raises(ParameterError, match="no parameter 'dept'"):
        version.grid(dept=[1])
    with pytest.raises(OptionError, match="retry= cannot be changed"):
        version.grid(depth=[1]).with_options(retry=2)


@mlfn.function
def collect(config: dict[str, int], **more: int) -> dict[str, int]:
    return {**config, **more}


def test_a_part_of_its_parameters_is_swept(local):
    run = collect.submit({"lr": 1, "depth": 2}, seed=7)
    run.wait(30)
    version = run.promote(tag="prod")

    parts = version.grid({"config.lr": [5]}).submit()
    more = version.grid(other=[6]).submit()
    again = version.grid({"config.lr": [5]}).with_options(name="again").submit()

    assert parts.children[1].result(30) == {"lr": 5, "depth": 2, "seed": 7}
    assert more.children[1].result(30) == {"lr": 1, "depth": 2, "seed": 7, "other": 6}
    again.wait(30)
    assert version.grid({"config.lr": [5]}).with_options(name="again").submit().id == again.id
    assert version(other=1) == {"lr": 1, "depth": 2, "seed": 7, "other": 1}


def test_one_that_took_an_output_is_called_with_its_value(sweep):
    run = measure.submit(scores=[sweep.best.outputs.score, 1.0])
    run.wait(30)

    assert run.promote(tag="prod")() == 9.0


def test_a_tag_moves(sweep):
    first = sweep.children[1].promote(tag="prod")
    again = sweep.best.promote(tag="prod")

    assert mlfn.get_function("fraud/train:prod").hash == again.hash != first.hash


def test_what_a_tag_names_is_not_cleaned_up(sweep):
    from mlfn.dispatch.session import current_session

    client = current_session()
    old = find_garbage([client.store], client.folder, wanted=Wanted(older_than=0), now=2e12)
    assert {item.run for item in old if item.kind == "run"} >= {sweep.id, sweep.best.id}

    sweep.best.promote(tag="prod")

    kept = find_garbage([client.store], client.folder, wanted=Wanted(older_than=0), now=2e12)
    assert {item.run for item in kept if item.kind == "run"}.isdisjoint({sweep.id, sweep.best.id})


def test_what_is_not_there_is_named_with_what_is_near(sweep):
    sweep.best.promote(tag="prod")

    with pytest.raises(NotFoundError, match="did you mean 'fraud/train:prod'"):
        mlfn.get_function("fraud/train:prd")
    with pytest.raises(ParameterError, match="project/name:tag"):
        mlfn.get_function("train")


def test_a_sweep_itself_is_not_promoted(sweep):
    with pytest.raises(ParameterError, match=r"is a sweep.*sweep\.best\.promote\(tag='prod'\)"):
        sweep.promote(tag="prod")


def test_a_run_that_failed_is_not_promoted(local):
    failed = mlfn.function(name="fails")(lambda: 1 / 0).submit()
    failed.wait(30)

    with pytest.raises(ParameterError, match="is failed: only a run that succeeded"):
        failed.promote(tag="prod")
