"""Where Optuna surprises whoever embeds it, and that a search does not hand this on."""

from __future__ import annotations

import io
import logging
import math
import re
import threading
import warnings
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.errors import MissingExtraError, ParameterError
from mlfn.spec.record import RunState
from mlfn.sweep.conditions.grammar import parse_selector
from mlfn.sweep.optuna import Search, importances, study_of
from mlfn.sweep.optuna.loading import MAJOR
from mlfn.sweep.optuna.study import of_one
from mlfn.sweep.results.child import Child
from mlfn.sweep.results.selection import best
from mlfn.sweep.results.standing import report_of
from mlfn.sweep.spaces.distributions import randint, uniform
from mlfn.sweep.strategy import Told
from tests.unit.sweep.optuna.searching import ending, serial, succeeded, tell_all


def search(spaces=None, **more):
    return Search(spaces or {"x": uniform(0, 1)}, 100, **{"directions": ("min",), "seed": 7, **more})


def grid_sampler():
    return optuna.samplers.GridSampler({"a": [0, 1], "b": [0, 1]}, seed=0)


def brute_force_sampler():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.BruteForceSampler(seed=0)


@pytest.mark.parametrize("make", [grid_sampler, brute_force_sampler])
@pytest.mark.parametrize("failing", [(), (2,), (4,)], ids=str)
def test_the_end_of_a_grid_raises_nothing_and_repeats_no_cell(make, failing):
    """These raise in `tell` of the last cell, and then suggest cells again; `.grid` is a strategy of its own."""
    one = search({"a": randint(0, 1), "b": randint(0, 1)}, sampler=make())
    cells = []
    while len(cells) < 10 and (params := one.ask(len(cells) + 1)) is not None:
        cells.append(tuple(params.values()))
        number = len(cells)
        one.tell(Told(number, params, RunState.FAILED, None) if number in failing else succeeded(number, params, 1.0))

    assert sorted(set(cells)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(cells) == 4


def test_options_that_python_takes_for_equal_stay_apart():
    """CategoricalDistribution([1, True]) knows True as 1."""
    options = [1, True, "1", 1.0, 0, False, None, {"a": 1}, [1], [True], float("nan")]
    one = search({"x": options}, sampler="random")
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as it does for a dict
        for iteration in range(1, 101):
            params = one.ask(iteration)
            seen.append(params["x"])
            one.tell(succeeded(iteration, params, 1.0))

    assert all(any(value is option for value in seen) for option in options)
    known = one._trials
    assert [options[known[number].params["x"]] is value for number, value in enumerate(seen)] == [True] * 100


class Opaque:
    """An option without == that is another object once it was stored."""

    def __init__(self, size):
        self.size = size


def test_options_are_known_again_after_they_were_stored():
    one = search({"x": [Opaque(1), Opaque(2), lambda: 1]})

    one.tell(succeeded(1, {"x": Opaque(2)}, 1.0))

    assert one._trials[0].params == {"x": 1}


def test_an_option_that_is_gone_is_named_instead_of_a_dynamic_value_space():
    with pytest.raises(ParameterError, match="x='c' is not of choice"):
        search({"x": ["a", "b"]}).tell(succeeded(1, {"x": "c"}, 1.0))


@pytest.mark.parametrize(
    ("space", "value"),
    [(uniform(0, 1), 1.5), (uniform(0, 1), math.nan), (randint(1, 9), 10), (randint(1, 9), 2.0), (randint(0, 1), True)],
    ids=repr,
)
def test_a_value_of_another_space_is_refused_though_optuna_takes_other_bounds(space, value):
    with pytest.raises(ParameterError, match=r"x=.* is not of .* Another space is another search"):
        search({"x": space}).tell(succeeded(1, {"x": value}, 1.0))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("directions", [("min",), ("max", "min")], ids=len)
def test_a_value_that_is_not_finite_is_a_failed_trial(value, directions):
    """`tell` takes inf for a completed trial."""
    one = search(directions=directions)
    one.tell(succeeded(1, one.ask(1), *[1.0] * (len(directions) - 1), value))

    assert one._trials[0].state.name == "FAIL"


@pytest.mark.parametrize("bound", [math.inf, -math.inf, math.nan])
def test_a_constraint_that_is_not_finite_leaves_the_search_at_work(bound):
    """Optuna refuses NaN as a constraint."""
    one = search()
    for iteration in range(1, 30):
        params = one.ask(iteration)
        one.tell(succeeded(iteration, params, params["x"], constraints={"memory": bound if iteration % 2 else -1.0}))

    assert all(one._trials[number].state.name == "COMPLETE" for number in range(29))


def test_a_success_without_a_value_is_a_failed_trial():
    one = search()
    one.tell(Told(1, one.ask(1), RunState.SUCCEEDED, None))

    assert one._trials[0].state.name == "FAIL"


def test_a_plain_seed_differs_after_a_resume():
    def plain(done):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=7, n_startup_trials=0))
        for trial in done:
            study.add_trial(trial)
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        study.tell(trial, trial.params["x"])
        return study.trials[-1], study

    first, study = plain([])
    second = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).params
    assert plain([first])[0].params != second


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2", "qmc", "random"])
def test_a_search_that_is_taken_over_chooses_as_if_it_had_not_been(sampler):
    def made():
        return search({"x": uniform(0, 1), "depth": randint(1, 9)}, sampler=sampler)

    whole = serial(made(), 90)
    for done in (20, 89):  # NSGA-II takes 50 that succeeded for a generation
        assert tell_all(made(), whole[:done]).ask(done + 1) == whole[done].params
    assert len({told.params["x"] for told in whole}) > 45


@pytest.mark.parametrize("sampler", ["cmaes", "tpe", "nsga2"])
def test_a_trial_holds_nothing_that_must_be_unpickled(sampler):
    """CmaEsSampler leaves a pickle of its state on trials."""
    one = search({"x": uniform(0, 1), "y": uniform(0, 1)}, sampler=sampler)
    serial(one, 60)

    assert {key for number in range(60) for key in one._trials[number].system_attrs} <= {"constraints:memory"}
    assert one._trials.study()._storage.get_study_system_attrs(0) == {}


def test_nothing_is_written_to_the_users_terminal(monkeypatch):
    """Optuna puts a handler on stderr, where each new study is announced."""
    written = io.StringIO()
    monkeypatch.setattr(optuna.logging._default_handler, "stream", written)
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        serial(search(sampler="cmaes", pruner="patient"), 20)
        importances(serial(search(), 20), directions=("min",))
        assert written.getvalue() == ""

        optuna.create_study()
        assert "A new study created" in written.getvalue()  # the user's own are announced as ever
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


def test_the_users_logging_is_left_as_it_was():
    before = (logging.getLogger("optuna").level, logging.getLogger("optuna").propagate, logging.getLogger().handlers[:])

    serial(search(), 3)

    assert before == (
        logging.getLogger("optuna").level,
        logging.getLogger("optuna").propagate,
        logging.getLogger().handlers,
    )


def test_experimental_parts_are_used_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pruner in ("patient", "wilcoxon"):
            serial(search(pruner=pruner), 12)


def test_a_call_from_another_thread_sees_what_was_told_meanwhile():
    """A study caches its trials by thread."""
    one, alone = search(), search()
    for iteration in range(1, 30):
        answers = []
        thread = threading.Thread(target=lambda i=iteration, to=answers: to.append(one.ask(i)))
        thread.start()
        thread.join()
        assert answers == [alone.ask(iteration)]
        one.tell(ending(iteration, answers[0]))
        alone.tell(ending(iteration, answers[0]))


def test_a_number_whose_child_is_gone_is_a_failed_trial():
    """Optuna numbers trials as they are added."""
    whole = serial(search(), 20)
    one = tell_all(search(), [told for told in whole if told.iteration not in (3, 4, 11)])

    known = one._trials
    assert [number for number in range(20) if known[number].state.name == "FAIL" and not known[number].params] == [
        2,
        3,
        10,
    ]
    assert one.ask(21)

    one.tell(whole[2])
    assert known[2].params == whole[2].params


def test_a_child_is_told_once_and_the_first_counts():
    one = search()
    params = one.ask(1)
    one.tell(succeeded(1, params, 1.0))
    one.tell(succeeded(1, params, 2.0))
    one.tell(Told(1, params, RunState.FAILED, None))

    assert one._trials[0].values == [1.0]


def test_asking_for_a_child_that_has_ended_is_a_mistake():
    one = search()
    one.tell(succeeded(1, one.ask(1), 1.0))

    with pytest.raises(AssertionError, match="child 1"):
        one.ask(1)


def test_the_best_is_neither_pruned_nor_infeasible():
    tolds = [
        succeeded(1, {"x": 0.1}, 5.0),
        Told(2, {"x": 0.2}, RunState.PRUNED, None, ((0, 1.0),)),
        succeeded(3, {"x": 0.3}, 2.0, constraints={"memory": 1.0}),
        succeeded(4, {"x": 0.4}, 3.0),
        succeeded(5, {"x": 0.5}, 3.0),
    ]

    assert study_of(tolds, directions=("min",)).best_trial.number == 3


def test_a_pruned_trial_has_the_value_of_its_last_step():
    one = search()
    one.tell(Told(1, one.ask(1), RunState.PRUNED, None, ((0, 3.0), (2, 1.0), (1, 2.0))))
    one.tell(Told(2, one.ask(2), RunState.PRUNED, None, ((0, 3.0), (1, math.nan))))
    one.tell(Told(3, one.ask(3), RunState.PRUNED, None))

    assert [one._trials[number].values for number in range(3)] == [[1.0], None, None]


def test_one_that_its_handler_pruned_among_two_objectives_has_failed():
    """TPE fails at a pruned trial of several objectives."""
    one = search(directions=("min", "max"))
    for iteration in range(1, 30):
        params = one.ask(iteration)
        pruned = Told(iteration, params, RunState.PRUNED, None, ((0, 1.0),))
        one.tell(pruned if iteration % 3 == 0 else succeeded(iteration, params, 1.0, params["x"]))

    assert one._trials[2].state.name == "FAIL"


@given(st.lists(st.tuples(st.sampled_from(RunState), st.floats(-2, 2), st.floats(-1, 1)), min_size=1), st.booleans())
def test_the_best_is_the_one_that_optuna_takes_for_it(ends, most):
    children = [
        Child(i, f"run{i}", state, {"score": value}, (value,), {"memory": bound})
        for i, (state, value, bound) in enumerate(ends, 1)
    ]
    direction = "max" if most else "min"
    leader = best(children, [parse_selector(f"{direction}.score")])

    study = study_of([report_of(child, {"x": 0.5}) for child in children], directions=(direction,))

    feasible = [c for c in children if c.state is RunState.SUCCEEDED and c.constraints["memory"] <= 0]
    assert (leader is not None) == bool(feasible)
    if leader is not None:
        assert leader.iteration == study.best_trial.number + 1


def test_importance_of_several_objectives_is_that_of_the_front_or_of_the_one_named():
    """Without `target`, Optuna has but one way to reckon it."""
    points = [(i / 20, (7 * i) % 20 / 20) for i in range(20)]
    tolds = [succeeded(i, {"x": x, "y": y}, x, y) for i, (x, y) in enumerate(points, 1)]

    assert sum(importances(tolds, directions=("min", "min")).values()) == pytest.approx(1)
    assert [
        max(found, key=found.get) for found in (importances(of_one(tolds, i), directions=("min",)) for i in (0, 1))
    ] == ["x", "y"]


@pytest.mark.parametrize("version", ["4.9.0", "6.0.0", "50.1"])
def test_another_major_version_is_refused(monkeypatch, version):
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)

    with pytest.raises(MissingExtraError, match=f"needs Optuna 5, and here is {version}: pip install"):
        search()


def test_the_oldest_and_the_newest_of_the_major_version_are_tested():
    """`nox -s minimums` installs what is declared here as the lowest, and `nox -s tests` the newest below the bound."""
    root = Path(__file__).parents[4]
    declared = re.search(r'^search = \[.*"optuna(.*?)"', (root / "pyproject.toml").read_text(), re.MULTILINE)

    assert declared and declared[1] == f">={MAJOR},<{MAJOR + 1}"
    assert "--resolution=lowest-direct" in (root / "noxfile.py").read_text()
    assert "search" in re.search(r'^TESTED_EXTRAS = "(.*)"', (root / "noxfile.py").read_text(), re.MULTILINE)[1].split(
        ","
    )


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0]])
def test_importance_needs_two_values_to_compare(values):
    """Optuna returns zeros, or equal shares."""
    assert importances([succeeded(i, {"x": i / 10}, value) for i, value in enumerate(values, 1)]) == {}


def test_a_study_is_asked_for_no_more_than_its_time_and_place():
    """Nothing of a trial's times is made up from the clock, which differs after a resume."""
    one = search()
    one.ask(1)

    assert one._trials[0].datetime_start.year == 2000
