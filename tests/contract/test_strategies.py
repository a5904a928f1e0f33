"""Our own strategies keep the contract that a driver relies on."""

from __future__ import annotations

from typing import Any

from mlfn.sweep.optuna import Search
from mlfn.sweep.spaces.distributions import choice, loguniform, normal, ordinal, randint, uniform
from mlfn.sweep.strategies.grid import Grid
from mlfn.sweep.strategies.random import Random
from mlfn.sweep.strategies.rows import Rows
from mlfn.sweep.strategies.zip import Zip
from mlfn.testing.strategies import StrategyContract

THING = object()
SPACES: dict[str, Any] = {
    "lr": loguniform(1e-4, 1),
    "opt": choice(["adam", "sgd", THING]),
    "momentum": uniform(0, 1).when(opt="sgd"),
    "depth": randint(1, 9),
    "width": ordinal([16, 32]),
    "noise": normal(0, 1),
    "flag": [True, 1, None],
}

ROWS: list[tuple[Any, dict[str, Any]]] = [
    *((True, {}), (1, {"lr": 0.1}), (None, {}), (THING, {"model.width": THING}), (1.0, {}), (0, {"lr": 1}), ("", {}))
]


class TestGrid(StrategyContract):
    def make(self):
        return Grid({"depth": [4, 8, 16], "flag": [True, 1, None, THING], "lr": range(10**9)})


class TestSmallGrid(StrategyContract):
    def make(self):
        return Grid({"depth": [4, 8], "lr": [0.1, 0.2, 0.3]})


class TestSliceOfAGrid(StrategyContract):
    def make(self):
        return Grid({"depth": [4, 8], "lr": range(10)})[3:17:2]

    def iterations(self, strategy):
        return list(strategy.iterations)


class TestZip(StrategyContract):
    def make(self):
        return Zip({"depth": [4, 8, 16, 1.0, True, None, THING], "lr": range(7)})


class TestRows(StrategyContract):
    def make(self):
        return Rows([{"depth": n, "flag": flag, **more} for n, (flag, more) in enumerate(ROWS)])


class TestSliceOfRows(StrategyContract):
    def make(self):
        return Rows([{"depth": n} for n in range(20)])[3:17:2]

    def iterations(self, strategy):
        return list(strategy.iterations)


class TestRandom(StrategyContract):
    def make(self):
        return Random(SPACES, n=30, seed=7)


class TestLatinHypercube(StrategyContract):
    def make(self):
        return Random(SPACES, n=30, seed=7, method="latin")


class TestHaltonSequence(StrategyContract):
    def make(self):
        return Random(SPACES, n=30, seed=7, method="qmc")


class TestSearch(StrategyContract):
    def make(self):
        return Search(SPACES, 30, directions=("max",), pruner="median", seed=7, first=[{"depth": 3}])


class TestSearchByEvolution(StrategyContract):
    many = 24

    def make(self):
        return Search(SPACES, 30, directions=("min",), sampler="cmaes", pruner="asha", seed=7)


class TestSearchOfTwoObjectives(StrategyContract):
    objectives = 2

    def make(self):
        return Search(SPACES, 200, directions=("max", "min"), sampler="nsga2", seed=7)


class TestSearchOfPoints(StrategyContract):
    def make(self):
        return Search(SPACES, 30, directions=("max",), sampler="qmc", pruner="hyperband", seed=7)
