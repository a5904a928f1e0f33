"""``python benchmarks/search.py [SAMPLER...]``: a search's ask + tell, over Optuna's own in memory, by turns in one process."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from timing import emit

HISTORY = (10, 300, 1000)  # children that have ended
PAIRS = 60


def searching() -> None:
    """Print the rows of the table, which are those of TPE."""
    emit(**{f"search_ratio_{count}": _measured("tpe", count)[0] for count in HISTORY})


def _measured(sampler: str, count: int) -> tuple[float, float, float]:
    """Return (the median ratio of a pair, ours in ms, theirs in ms), of CPU time."""
    ours, theirs = _ours(sampler, count), _theirs(sampler, count)
    pairs = [(_cpu(ours), _cpu(theirs)) for _ in range(PAIRS)]
    mine, other = zip(*pairs, strict=True)
    return statistics.median(a / b for a, b in pairs), statistics.median(mine) * 1e3, statistics.median(other) * 1e3


def _cpu(action: Callable[[], None]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def _score(params: dict[str, Any]) -> float:
    return float((params["a"] - 0.3) ** 2 + abs(params["b"]) + params["n"] / 64)


def _ours(sampler: str, count: int) -> Callable[[], None]:
    """Return one turn of a search that has been told of `count` children."""
    from mlfn.spec.record import RunState
    from mlfn.sweep.optuna import Search
    from mlfn.sweep.spaces.distributions import loguniform, randint, uniform
    from mlfn.sweep.strategy import Told

    spaces = {
        "a": uniform(0, 1),
        "b": uniform(-5, 5),
        "lr": loguniform(1e-5, 1),
        "n": randint(1, 64),
        "opt": ["adam", "sgd", "rms"],
    }
    search = Search(spaces, 10**6, directions=["min"], sampler=sampler, seed=1)
    draw = random.Random(0)
    for iteration in range(1, count + 1):
        params = {key: space.at(draw.random()) for key, space in search.spaces.items()}
        search.tell(Told(iteration, params, RunState.SUCCEEDED, (_score(params),)))
    iterations = iter(range(count + 1, 10**6))

    def turn() -> None:
        iteration = next(iterations)
        params = search.ask(iteration)
        assert params is not None
        search.tell(Told(iteration, params, RunState.SUCCEEDED, (_score(params),)))

    return turn


def _theirs(sampler: str, count: int) -> Callable[[], None]:
    """Return one turn of a study that has `count` trials, with the one sampler that Optuna's users keep."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spaces = {
        "a": optuna.distributions.FloatDistribution(0, 1),
        "b": optuna.distributions.FloatDistribution(-5, 5),
        "lr": optuna.distributions.FloatDistribution(1e-5, 1, log=True),
        "n": optuna.distributions.IntDistribution(1, 64),
        "opt": optuna.distributions.CategoricalDistribution(["adam", "sgd", "rms"]),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def turn() -> None:
        trial = study.ask(spaces)
        study.tell(trial.number, _score(trial.params))

    for _ in range(count):
        turn()
    makers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=1),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=1, warn_independent_sampling=False),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=1),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=1, scramble=True, warn_independent_sampling=False),
        "random": lambda: optuna.samplers.RandomSampler(seed=1),
    }
    study.sampler = makers[sampler]()
    return turn


def main() -> None:
    """Print a table of all samplers, or of those named."""
    print("| sampler | ended | mlfn | Optuna | ratio |\n|---|---|---|---|---|")
    for sampler in sys.argv[1:] or ("tpe", "cmaes", "nsga2", "qmc", "random"):
        for count in HISTORY:
            ratio, ours, theirs = _measured(sampler, count)
            print(f"| {sampler} | {count:,} | {ours:.3f} ms | {theirs:.3f} ms | {ratio:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
