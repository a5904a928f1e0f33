"""What came of a sweep as an Optuna study: for figures, importances and the dashboard."""

from __future__ import annotations

import math
import warnings

import optuna
import plotly.graph_objects
import pytest

from mlfn.errors import MissingExtraError, OptionError, StorageError
from mlfn.spec.record import RunState
from mlfn.sweep.optuna import Search, importances, loading, study_of, to_optuna
from mlfn.sweep.optuna.study import close_storage, of_one
from mlfn.sweep.spaces.distributions import as_spaces, uniform
from mlfn.sweep.strategy import Told
from tests.unit.sweep.optuna.searching import SPACES, serial, succeeded


def tolds_of(points, value=lambda params: 1.0):
    return [succeeded(iteration, params, value(params)) for iteration, params in enumerate(points, 1)]


def shown(values, spaces=None):
    study = study_of(tolds_of([{"x": value} for value in values]), spaces)
    return study.trials[0].distributions["x"], [trial.params["x"] for trial in study.trials]


def test_children_become_trials_by_their_numbers():
    tolds = [
        Told(4, {"x": 4}, RunState.PRUNED, None, ((0, 1.0), (1, 2.0))),
        succeeded(1, {"x": 1}, 0.5, series=((0, 0.25),), constraints={"memory": 1.0}),
        Told(2, {"x": 2}, RunState.FAILED, None),
        Told(5, {"x": 5}, RunState.RUNNING, None),
    ]

    trials = study_of(tolds, name="mine").trials

    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", "PRUNED", "RUNNING"]
    assert [trial.params for trial in trials] == [{"x": 1}, {"x": 2}, {}, {"x": 4}, {"x": 5}]
    assert [trial.user_attrs.get("iteration") for trial in trials] == [1, 2, None, 4, 5]
    assert (trials[0].values, trials[3].values) == ([0.5], [2.0])
    assert trials[0].constraints == {"memory": 1.0}
    assert trials[3].intermediate_values == {0: 1.0, 1: 2.0}


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        ([3, 1, 9], optuna.distributions.IntDistribution(1, 9), [3, 1, 9]),
        ([1, 1000], optuna.distributions.IntDistribution(1, 1000, log=True), [1, 1000]),
        ([0.5, 2], optuna.distributions.FloatDistribution(0.5, 2), [0.5, 2]),
        ([1e-4, 1.0], optuna.distributions.FloatDistribution(1e-4, 1, log=True), [1e-4, 1.0]),
        (["b", None, 1], optuna.distributions.CategoricalDistribution(("b", None, 1)), ["b", None, 1]),
        ([True, 1], optuna.distributions.CategoricalDistribution(("True", "1")), ["True", "1"]),
        (
            [[1], {"a": 2}, [1]],
            optuna.distributions.CategoricalDistribution(("[1]", "{'a': 2}")),
            ["[1]", "{'a': 2}", "[1]"],
        ),
        ([math.inf, 1.0], optuna.distributions.CategoricalDistribution((math.inf, 1.0)), [math.inf, 1.0]),
        ([math.nan, 1.0], optuna.distributions.CategoricalDistribution(("nan", "1.0")), ["nan", "1.0"]),
        ([[1], "[1]"], optuna.distributions.CategoricalDistribution(("[1]", "[1] #2")), ["[1]", "[1] #2"]),
    ],
)
def test_without_spaces_a_distribution_comes_from_the_values_seen(values, kind, labels):
    assert shown(values) == (kind, labels)


def test_texts_that_are_alike_are_numbered():
    long = ["x" * 100 + end for end in "ab"]

    assert len(set(shown([{"k": each} for each in long])[1])) == 2


def test_with_spaces_the_distributions_are_theirs():
    search = Search(SPACES, 100, directions=("min",), seed=7)
    tolds = serial(search, 30)

    study = study_of(tolds, search.spaces, ("min",), metrics=["loss"])

    seen = {key: each for trial in study.trials for key, each in trial.distributions.items()}
    assert seen["lr"] == optuna.distributions.FloatDistribution(1e-4, 1, log=True)
    assert seen["units"] == optuna.distributions.IntDistribution(1, 512, log=True)
    assert seen["opt"] == optuna.distributions.CategoricalDistribution(
        ["adam", "sgd", "{'deep': [1, 2], 'kind': 'dict'}"]
    )
    assert seen["width"] == optuna.distributions.CategoricalDistribution([16, 32, 64])
    assert isinstance(seen["noise"], optuna.distributions.FloatDistribution)
    assert [trial.params.get("noise") for trial in study.trials] == [told.params["noise"] for told in tolds]
    assert study.metric_names == ["loss"]


def test_optunas_figures_take_it():
    search = Search(SPACES, 100, directions=("min",), seed=7)
    study = study_of(serial(search, 30), search.spaces, ("min",))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, about what is experimental
        for plot in (
            "optimization_history",
            "parallel_coordinate",
            "param_importances",
            "slice",
            "intermediate_values",
        ):
            assert isinstance(getattr(optuna.visualization, f"plot_{plot}")(study), plotly.graph_objects.Figure)


# -- what matters
def test_what_matters_comes_first_and_all_add_up():
    points = [{"lr": lr / 10, "depth": depth} for lr in range(10) for depth in range(4)]

    found = importances(tolds_of(points, lambda params: -abs(params["lr"] - 0.5)))

    assert list(found) == ["lr", "depth"]
    assert found["lr"] > 0.9
    assert math.isclose(sum(found.values()), 1.0)


def test_of_two_objectives_each_has_importances_of_its_own():
    points = [{"a": a, "b": b} for a in range(6) for b in range(6)]
    tolds = [succeeded(i, params, float(params["a"]), float(params["b"])) for i, params in enumerate(points, 1)]

    assert next(iter(importances(of_one(tolds, 0), directions=("min",)))) == "a"
    assert next(iter(importances(of_one(tolds, 1), directions=("max",)))) == "b"
    assert set(importances(tolds, directions=("min", "max"))) == {"a", "b"}


def test_children_of_no_parameters_have_no_importances():
    assert importances([succeeded(1, {}, 1.0), succeeded(2, {}, 2.0)]) == {}


def test_conditional_parameters_have_importances_too():
    search = Search(SPACES, 100, directions=("min",), seed=7)

    found = importances(serial(search, 60), search.spaces, ("min",))

    assert {"momentum", "opt", "depth"} <= set(found)


# -- export
def test_a_sweep_is_copied_into_a_storage(tmp_path):
    search = Search(SPACES, 100, directions=("min",), seed=7)
    tolds = serial(search, 12)
    url = f"sqlite:///{tmp_path}/study.db"

    name = to_optuna(tolds, search.spaces, ("min",), url, name="digits", metrics=["loss"])

    there = optuna.load_study(study_name=name, storage=url)
    here = study_of(tolds, search.spaces, ("min",))
    assert [(t.state, t.values, t.intermediate_values) for t in there.trials] == [
        (t.state, t.values, t.intermediate_values) for t in here.trials
    ]
    assert [trial.params for trial in there.trials] == [trial.params for trial in here.trials]
    assert there.trials[1].constraints == here.trials[1].constraints
    assert there.metric_names == ["loss"]
    close_storage(there._storage)
    with pytest.raises(OptionError, match="name='digits': the storage has a study of that name"):
        to_optuna(tolds, search.spaces, ("min",), url, name="digits")


def test_a_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path):
    with pytest.raises(StorageError, match="cannot write the study 'sweep'") as caught:
        to_optuna([], {}, ("min",), f"sqlite:///{tmp_path}/no/such/folder/secret.db")
    assert "secret" not in str(caught.value)


def test_a_storage_whose_driver_is_missing_says_so():
    with pytest.raises(MissingExtraError, match="MySQLdb"):
        to_optuna([], {}, ("min",), "mysql://user:secret@nowhere/db")


def test_all_of_these_say_what_to_install(monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    for call in (
        lambda: study_of([]),
        lambda: importances([]),
        lambda: to_optuna([], as_spaces({"x": uniform(0, 1)}), ("max",), "sqlite://"),
    ):
        with pytest.raises(MissingExtraError, match=r"needs optuna: pip install 'mlfn\[search\]'"):
            call()
