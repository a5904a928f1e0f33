"""A search asks Optuna: what it takes, what it answers, and that a resumed one answers the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import optuna
import pytest

from mlfn.errors import MissingExtraError, OptionError, ParameterError
from mlfn.spec.record import RunState
from mlfn.sweep.optuna import Search, loading, samplers
from mlfn.sweep.spaces.distributions import choice, loguniform, normal, ordinal, quniform, randint, uniform
from mlfn.sweep.strategy import Told
from tests.unit.sweep.optuna.searching import SPACES, THING, ending, same, score, serial, succeeded, tell_all, types

NAMES = ["tpe", "cmaes", "nsga2", "qmc", "random"]  # torch, which gp needs, is not among what tests install


def search(sampler="tpe", *, spaces=SPACES, n=1000, directions=("min",), seed=7, **more):
    return Search(spaces, n, sampler=sampler, directions=directions, seed=seed, **more)


# -- what it answers
@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_the_type_and_range_of_its_space(name):
    for told in serial(search(name), 40):
        params = told.params
        kinds = {"lr": float, "depth": int, "units": int, "width": int, "drop": float, "noise": float, "fixed": str}
        assert {key: kind for key, kind in types(params).items() if key in kinds} == kinds
        assert 1e-4 <= params["lr"] <= 1
        assert 1 <= params["depth"] <= 9
        assert 1 <= params["units"] <= 512
        assert params["width"] in (16, 32, 64)
        assert params["drop"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
        assert params["opt"] in ("adam", "sgd") or params["opt"] is THING


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_with_a_condition_is_there_only_where_it_holds(name):
    tolds = serial(search(name), 40)

    assert {
        ("momentum" in told.params, "nesterov" in told.params) for told in tolds if told.params["opt"] == "sgd"
    } == {(True, True)}
    assert not any(
        "momentum" in told.params or "nesterov" in told.params for told in tolds if told.params["opt"] != "sgd"
    )


def test_the_keys_keep_the_order_of_the_spaces():
    params = search().ask(1)

    assert list(params) == [key for key in SPACES if key in params]


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_it_learns(name):
    first, last = 0.0, 0.0
    for seed in range(6):  # how far one seed comes differs with the library's version
        values = [score(told.params) for told in serial(search(name, seed=seed), 120)]
        first, last = first + sum(values[:30]) / 180, last + sum(values[-30:]) / 180

    assert last < first - 0.5


def test_a_conditional_parameter_is_learned_too():
    one = search(spaces={"opt": ["a", "b"], "x": uniform(0, 1).when(opt="b")})
    for iteration in range(1, 81):
        params = one.ask(iteration)
        one.tell(succeeded(iteration, params, abs(params.get("x", 2) - 0.3)))

    late = [one.ask(iteration) for iteration in range(81, 101)]

    assert sum("x" in params for params in late) > 15
    assert sum(abs(params.get("x", 2) - 0.3) < 0.15 for params in late) > 10


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_after_n_children(name):
    one = search(name, n=3)

    assert [one.ask(iteration) is None for iteration in (1, 2, 3, 4, 500)] == [False, False, False, True, True]


def test_seeds_differ():
    assert search(seed=1).ask(1) != search(seed=2).ask(1)


def test_a_child_that_runs_keeps_its_parameters_when_asked_again():
    one = search()
    params = one.ask(1)

    assert one.ask(1) == params
    assert one.ask(2) != params


def test_two_children_in_flight_are_not_the_same_point():
    one = search(spaces={"a": randint(0, 7), "b": randint(0, 7)}, parallel=8)
    for iteration in range(1, 21):
        params = one.ask(iteration)
        one.tell(succeeded(iteration, params, params["a"] + params["b"]))

    flight = [tuple(one.ask(iteration).items()) for iteration in range(21, 29)]

    assert len(set(flight)) == 8


# -- resumed
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_search_answers_the_same_at_every_cut(name):
    whole = serial(search(name), 130)

    for cut in [*range(40), *range(40, 130, 7), *range(98, 108)]:
        again = tell_all(search(name), whole[:cut])
        following = [again.ask(whole[cut].iteration)]
        if cut + 1 < len(whole):
            again.tell(whole[cut])
            following.append(again.ask(whole[cut + 1].iteration))
        assert same(following, [told.params for told in whole[cut : cut + 2]]), f"after {cut}"


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_a_resumed_search_of_two_objectives_answers_the_same(name):
    def make():
        return search(name, directions=("min", "max"))

    whole = serial(make(), 120, objectives=2)

    for cut in (1, 9, 25, 62, 63, 64, 90, 119):
        assert same([tell_all(make(), whole[:cut]).ask(cut + 1)], [whole[cut].params]), f"after {cut}"


@pytest.mark.parametrize("name", NAMES)
def test_children_in_flight_count_as_before_after_a_resume(name):
    first = search(name, parallel=4)
    flight = {iteration: first.ask(iteration) for iteration in range(1, 5)}
    ended: dict[int, Told] = {}
    for iteration in range(5, 90):
        # Not in order: the one that ends is now the oldest, now the newest of the four.
        done = max(flight) if iteration % 3 else min(flight)
        ended[done] = ending(done, flight.pop(done))
        first.tell(ended[done])
        flight[iteration] = first.ask(iteration)
        if iteration % 9 == 0 or iteration > 84:
            known = {**ended, **{i: Told(i, params, RunState.RUNNING, None) for i, params in flight.items()}}
            known.pop(iteration)
            again = tell_all(search(name, parallel=4), [known[i] for i in sorted(known)])
            assert same([again.ask(iteration)], [flight[iteration]]), f"at {iteration}"


@pytest.mark.parametrize("pruner", ["median", "percentile", "hyperband", "asha", "patient", "threshold", "wilcoxon"])
def test_a_resumed_search_prunes_the_same(pruner):
    def make():
        return search("random", pruner=pruner)

    def run(one, iteration, params):
        value, points = score(params), []
        for step in range(12):
            points.append((step, value + abs(step - 3) / 4))
            if why := one.report(iteration, *points[-1]):
                return why, Told(iteration, params, RunState.PRUNED, None, tuple(points))
        return None, Told(iteration, params, RunState.SUCCEEDED, (points[-1][1],), tuple(points))

    whole = make()
    verdicts, tolds = [], []
    for iteration in range(1, 41):
        why, told = run(whole, iteration, whole.ask(iteration))
        whole.tell(told)
        verdicts.append(why)
        tolds.append(told)

    for cut in (1, 5, 11, 23, 39):
        again = tell_all(make(), tolds[:cut])
        assert run(again, cut + 1, again.ask(cut + 1)) == (verdicts[cut], tolds[cut]), f"after {cut}"
    assert any(verdicts) is (pruner != "threshold")


def test_making_a_sampler_anew_and_reseeding_it_are_the_same():
    classes = [optuna.samplers.TPESampler, optuna.samplers.RandomSampler, optuna.samplers.NSGAIISampler]
    for make in classes:
        study = optuna.create_study(sampler=make(seed=1))
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 9), n_trials=60)
        used = study.sampler
        samplers.reseed(used, 99)
        chosen = []
        for study.sampler in (used, make(seed=99)):
            trial = study.ask()
            chosen.append((trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 9)))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if make is not optuna.samplers.NSGAIISampler:  # which counts its own trials besides
            assert chosen[0] == chosen[1]
        assert used._rng.rng.randint(2**30) == make(seed=99)._rng.rng.randint(2**30) or chosen[0] == chosen[1]


def test_a_sampler_that_remembers_more_is_made_anew_each_time(monkeypatch):
    """As GPSampler is, which keeps the kernels it fitted; torch is too large for these tests."""
    made = []

    def gp(**options):
        made.append(options)
        return optuna.samplers.TPESampler(n_startup_trials=options["n_startup_trials"])

    monkeypatch.setattr(optuna.samplers, "GPSampler", gp)
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: name)
    whole = serial(search("gp", parallel=8), 30)

    assert made[1:] == [{"n_startup_trials": 16, "warn_independent_sampling": False}] * 30
    assert tell_all(search("gp", parallel=8), whole[:25]).ask(26) == whole[25].params


def test_it_goes_through_json_with_objects_by_the_codec():
    kept = []

    def encode(value):
        kept.append(value)
        return len(kept) - 1

    sampler, pruner = optuna.samplers.RandomSampler(seed=3), optuna.pruners.NopPruner()
    one = search(sampler, pruner=pruner, first=[{"opt": THING, "lr": 0.5}], parallel=3)

    again = Search.from_json(json.loads(json.dumps(one.to_json(encode))), kept.__getitem__)

    assert (again.size, again.seed, again.parallel, again.directions) == (1000, 7, 3, ("min",))
    assert again.spaces == one.spaces
    assert again.sampler is sampler
    assert again.pruner is pruner
    assert again.first == ({"opt": THING, "lr": 0.5},)


# -- what the user gives
def test_given_points_come_first_and_what_they_leave_out_is_chosen():
    one = search(first=[{"lr": 0.123456789012345, "opt": "sgd", "momentum": 1}, {"opt": THING}])

    points = [one.ask(iteration) for iteration in (1, 2, 3)]

    assert points[0]["lr"] == 0.123456789012345
    assert (points[0]["opt"], points[0]["momentum"], type(points[0]["momentum"])) == ("sgd", 1.0, float)
    assert "depth" in points[0]
    assert points[1]["opt"] is THING
    assert "momentum" not in points[1]
    assert 1 <= points[2]["depth"] <= 9


@pytest.mark.parametrize(
    ("point", "why"),
    [
        ({"lr": 2.0}, "lr=2.0 is not of loguniform"),
        ({"depth": 2.5}, "depth=2.5 is not of randint"),
        ({"depth": True}, "depth=True"),
        ({"drop": 0.15}, "drop=0.15"),
        ({"opt": "lion"}, "opt='lion'"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"nesterov": 1.0}, "nesterov=1.0"),
        ({"dept": 3}, "did you mean 'depth'"),
        ({"opt": "adam", "momentum": 0.5}, "only when opt='sgd'"),
    ],
)
def test_a_given_point_that_does_not_fit_is_refused(point, why):
    with pytest.raises(ParameterError, match=why.replace("(", r"\(")):
        search(first=[point])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sampler": "tpr"}, "did you mean 'tpe'"),
        ({"sampler": 3}, "one of optuna.samplers"),
        ({"sampler": optuna.samplers.TPESampler}, r"a class: write sampler=TPESampler\(\)"),
        ({"pruner": optuna.pruners.MedianPruner}, r"a class: write pruner=MedianPruner\(\)"),
        ({"pruner": "medium"}, "did you mean 'median'"),
        ({"pruner": 3}, "one of optuna.pruners"),
        ({"pruner": "median", "directions": ("min", "max")}, "compares one objective, and here are 2"),
        ({"sampler": "cmaes", "directions": ("min", "max")}, "one objective, and here are 2"),
        ({"sampler": "cmaes", "spaces": {"opt": ["a", "b"]}}, "needs a number to move"),
        ({"n": 1, "first": [{}, {}]}, "has 2 points"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_at_once(options, why):
    with pytest.raises(OptionError, match=why):
        search(**options)


def test_what_was_told_of_a_changed_space_is_refused():
    with pytest.raises(ParameterError, match="Another space is another search"):
        search(spaces={"opt": ["a", "b"]}).tell(succeeded(1, {"opt": "c"}, 1.0))
    with pytest.raises(ParameterError, match="'op' is not searched here: did you mean 'opt'"):
        search(spaces={"opt": ["a", "b"]}).tell(succeeded(1, {"op": "a"}, 1.0))


def test_a_sampler_of_the_users_is_asked_as_it_is():
    given = optuna.samplers.TPESampler(seed=1, n_startup_trials=4)
    tolds = serial(search(given, pruner=optuna.pruners.MedianPruner()), 30)

    assert len({told.params["lr"] for told in tolds}) == 30
    assert {told.params["opt"] == "sgd" for told in tolds} == {"momentum" in told.params for told in tolds}


@pytest.mark.parametrize(
    "make",
    [
        lambda: optuna.samplers.NSGAIISampler(seed=1, population_size=8),
        lambda: optuna.samplers.CmaEsSampler(seed=1, warn_independent_sampling=False),
        lambda: optuna.samplers.BruteForceSampler(seed=1),
        lambda: optuna.samplers.GridSampler({"a": [0, 1], "b": [0, 2]}, seed=1),
        lambda: optuna.samplers.PartialFixedSampler({"a": 1}, optuna.samplers.RandomSampler(seed=1)),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_that_keep_notes_work_as_objects(make):
    one = search(make(), spaces={"a": randint(0, 3), "b": randint(0, 3)})
    for iteration in range(1, 4):
        params = one.ask(iteration)
        assert all(value in range(4) for value in params.values())
        one.tell(succeeded(iteration, params, float(params["a"])))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_sampler_that_has_nothing_left_ends_the_search():
    one = search(optuna.samplers.BruteForceSampler(seed=1), spaces={"a": randint(0, 1), "b": ["x", "y"]})
    points = set()
    for iteration in range(1, 5):
        params = one.ask(iteration)
        points.add(tuple(params.items()))
        one.tell(succeeded(iteration, params, 1.0))

    assert len(points) == 4
    assert one.ask(5) is None


def test_constraints_steer_it():
    def run(limit):
        one = search(spaces={"x": uniform(0, 10)})
        for iteration in range(1, 61):
            params = one.ask(iteration)
            one.tell(succeeded(iteration, params, params["x"], constraints={"least": limit - params["x"]}))
        return [one.ask(iteration)["x"] for iteration in range(61, 71)]

    assert sum(x < 4 for x in run(0)) > 7
    assert sum(x > 4 for x in run(5)) > 7


def test_a_constraint_that_is_no_number_holds_nobody_back():
    one = search(spaces={"x": uniform(0, 10)})
    one.tell(succeeded(1, one.ask(1), 1.0, constraints={"memory": float("nan")}))

    assert one.ask(2)


def test_threads_may_ask_tell_and_report_at_once():
    one = search(pruner="median", n=64)
    numbers, lock, asked = iter(range(1, 65)), threading.Lock(), []

    def work():
        while True:
            with lock:
                iteration = next(numbers, None)
                params = one.ask(iteration) if iteration else None
            if params is None:
                return
            one.report(iteration, 0, 1.0)
            one.tell(ending(iteration, params))
            asked.append(iteration)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == list(range(1, 65))


# -- odd spaces
def test_a_list_too_long_for_categories_is_searched_by_place():
    one = search(spaces={"row": range(10**9), "name": choice([f"n{i}" for i in range(3000)])})
    for iteration in range(1, 16):
        params = one.ask(iteration)
        one.tell(succeeded(iteration, params, params["row"]))

    params = one.ask(16)
    assert type(params["row"]) is int
    assert params["name"].startswith("n")


def test_a_space_of_one_value_is_no_trouble():
    spaces = {"a": uniform(3, 3), "b": randint(2, 2), "c": ["x"], "d": quniform(1, 1.5, 1), "e": ordinal([None])}
    for name in ("tpe", "nsga2", "qmc", "random"):
        one = search(name, spaces=spaces)
        for iteration in range(1, 15):
            assert one.ask(iteration) == {"a": 3.0, "b": 2, "c": "x", "d": 1.0, "e": None}
            one.tell(succeeded(iteration, one.ask(iteration), 1.0))


def test_cmaes_moves_a_single_number():
    one = search("cmaes", spaces={"x": loguniform(1e-3, 1e3), "opt": ["a", "b"]})
    for iteration in range(1, 60):
        params = one.ask(iteration)
        one.tell(succeeded(iteration, params, abs(params["x"] - 1)))

    assert all(0.3 < one.ask(iteration)["x"] < 3 for iteration in range(60, 65))


def test_a_normal_leans_to_where_it_is_better():
    one = search(spaces={"x": normal(0, 1)})
    for iteration in range(1, 60):
        params = one.ask(iteration)
        one.tell(succeeded(iteration, params, abs(params["x"] - 2)))

    assert sum(0.5 < one.ask(iteration)["x"] < 3 for iteration in range(60, 70)) > 6


# -- without what it needs
def test_without_optuna_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"^search needs optuna: pip install 'mlfn\[search\]'$"):
        search()


def test_another_major_version_is_named(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "4.9.0")

    with pytest.raises(MissingExtraError, match=r"needs Optuna 5, and here is 4\.9\.0: pip install 'mlfn\[search\]'"):
        search()


@pytest.mark.parametrize(
    ("options", "missing", "sentence"),
    [
        ({"sampler": "gp"}, {"torch"}, r"^sampler='gp' needs torch: pip install 'mlfn\[gp\]'$"),
        ({"sampler": "gp"}, {"scipy", "torch"}, r"needs scipy and torch: pip install 'mlfn\[gp\]'$"),
        ({"sampler": "cmaes"}, {"cmaes"}, r"^sampler='cmaes' needs cmaes: pip install 'mlfn\[search\]'$"),
        ({"pruner": "wilcoxon"}, {"scipy"}, r"^pruner='wilcoxon' needs scipy: pip install scipy$"),
    ],
)
def test_what_a_sampler_or_pruner_lacks_is_one_sentence(monkeypatch, options, missing, sentence):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None if name in missing else name)

    with pytest.raises(MissingExtraError, match=sentence):
        search(**options)


def test_describing_a_search_does_not_import_optuna():
    code = """
import sys
from mlfn.sweep.optuna import Search
from mlfn.sweep.spaces.distributions import uniform
one = Search({"x": uniform(0, 1)}, 10, directions=["max"], pruner="median", first=[{"x": 0.5}])
assert "optuna" not in sys.modules and "numpy" not in sys.modules
one.ask(1)
"""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=clean)

    assert (done.returncode, done.stderr) == (0, "")
