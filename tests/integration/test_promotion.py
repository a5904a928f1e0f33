"""The best child of a sweep becomes a version under a tag, with its parameters and its outputs."""

from __future__ import annotations

import pytest

import mlfn
from mlfn.dispatch.garbage_collection import Wanted, find_garbage
from mlfn.errors import NotFoundError, ParameterError


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
