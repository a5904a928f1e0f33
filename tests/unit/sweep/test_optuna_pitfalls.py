"""Where Optuna surprises whoever embeds it, and that a search does not hand this on."""

from __future__ import annotations

import io
import logging
import math
import threading
import warnings

import optuna
import pytest

from mlfn.errors import ParameterError
from mlfn.spec.record import RunState
from mlfn.sweep.optuna import Search, importances, study_of
from mlfn.sweep.space import randint, uniform
from mlfn.sweep.strategy import Told
from tests.unit.sweep.searching import ending, serial, succeeded, tell_all


def search(spaces=None, **more):
    return Search(spaces or {"x": uniform(0, 1)}, 100, **{"directions": ("min",), "seed": 7, **more})


def test_the_end_of_a_grid_raises_nothing_and_repeats_no_cell():
    """GridSampler raises in `tell` of the last cell, and then suggests cells again; ours is a strategy of its own."""
    given = optuna.samplers.GridSampler({"a": [0, 1], "b": [0, 1]}, seed=0)
    one = search({"a": randint(0, 1), "b": randint(0, 1)}, sampler=given)
    cells = []
    while (params := one.ask(len(cells) + 1)) is not None:
        cells.append(tuple(params.values()))
        one.tell(succeeded(len(cells), params, 1.0))

    assert sorted(cells) == [(0, 0), (0, 1), (1, 0), (1, 1)]


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
    known = one._cache().trials
    assert [options[known[number].params["x"]] is value for number, value in enumerate(seen)] == [True] * 100


class Opaque:
    """An option without == that is another object once it was stored."""

    def __init__(self, size):
        self.size = size


def test_options_are_known_again_after_they_were_stored():
    one = search({"x": [Opaque(1), Opaque(2), lambda: 1]})

    one.tell(succeeded(1, {"x": Opaque(2)}, 1.0))

    assert one._cache().trials[0].params == {"x": 1}


def test_an_option_that_is_gone_is_named_instead_of_a_dynamic_value_space():
    with pytest.raises(ParameterError, match="x='c' is not of choice"):
        search({"x": ["a", "b"]}).tell(succeeded(1, {"x": "c"}, 1.0))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_is_a_failed_trial(value):
    """`tell` takes inf for a completed trial."""
    one = search()
    one.tell(succeeded(1, one.ask(1), value))

    assert one._cache().trials[0].state.name == "FAIL"


def test_a_success_without_a_value_is_a_failed_trial():
    one = search()
    one.tell(Told(1, one.ask(1), RunState.SUCCEEDED, None))

    assert one._cache().trials[0].state.name == "FAIL"


def test_a_plain_seed_differs_after_a_resume_and_ours_does_not():
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

    whole = serial(search(), 30)
    assert tell_all(search(), whole[:20]).ask(21) == whole[20].params


@pytest.mark.parametrize("sampler", ["cmaes", "tpe", "nsga2"])
def test_a_trial_holds_nothing_that_must_be_unpickled(sampler):
    """CmaEsSampler leaves a pickle of its state on trials."""
    one = search({"x": uniform(0, 1), "y": uniform(0, 1)}, sampler=sampler)
    serial(one, 60)

    assert {key for number in range(60) for key in one._cache().trials[number].system_attrs} <= {"constraints:memory"}
    assert one._cache().trials.study()._storage.get_study_system_attrs(0) == {}


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

    known = one._cache().trials
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

    assert one._cache().trials[0].values == [1.0]


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

    assert [one._cache().trials[number].values for number in range(3)] == [[1.0], None, None]


def test_one_that_its_handler_pruned_among_two_objectives_has_failed():
    """TPE fails at a pruned trial of several objectives."""
    one = search(directions=("min", "max"))
    for iteration in range(1, 30):
        params = one.ask(iteration)
        pruned = Told(iteration, params, RunState.PRUNED, None, ((0, 1.0),))
        one.tell(pruned if iteration % 3 == 0 else succeeded(iteration, params, 1.0, params["x"]))

    assert one._cache().trials[2].state.name == "FAIL"


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0]])
def test_importance_needs_two_values_to_compare(values):
    """Optuna returns zeros, or equal shares."""
    assert importances([succeeded(i, {"x": i / 10}, value) for i, value in enumerate(values, 1)]) == {}


def test_a_study_is_asked_for_no_more_than_its_time_and_place():
    """Nothing of a trial's times is made up from the clock, which differs after a resume."""
    one = search()
    one.ask(1)

    assert one._cache().trials[0].datetime_start.year == 2000
