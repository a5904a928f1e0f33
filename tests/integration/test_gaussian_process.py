"""The sampler that needs torch, with a real torch."""

from __future__ import annotations

import mlfn
from mlfn.sweep.optuna import Search
from mlfn.sweep.spaces.distributions import choice, randint, uniform
from mlfn.testing.strategies import StrategyContract

SPACES = {
    "x": uniform(0, 1),
    "opt": choice(["adam", "sgd"]),
    "momentum": uniform(0, 1).when(opt="sgd"),
    "depth": randint(1, 6),
}


class TestSearchByGaussianProcess(StrategyContract):
    many = 12  # the first ten are drawn, as Optuna has it

    def make(self):
        return Search(SPACES, 30, directions=("max",), sampler="gp", pruner="median", seed=7)


@mlfn.function
@mlfn.handler(outputs=["height"])
def hill(x: float, y: float) -> float:
    return 1 - (x - 0.3) ** 2 - (y - 0.7) ** 2


def test_it_climbs_a_hill_the_same_way_twice():
    sweeps = []
    for place in ("inline", "local"):
        described = hill.on(place).search(n=18, sampler="gp", seed=1, x=uniform(0, 1), y=uniform(0, 1))
        sweeps.append(described.with_options(select="max.height", parallel=2, deterministic=True).submit())

    for sweep in sweeps:
        assert sweep.wait(120)
    one, other = sweeps
    assert [child.params for child in one.children] == [child.params for child in other.children]
    assert one.best.iteration > 10
    assert one.best.result() > 0.999
