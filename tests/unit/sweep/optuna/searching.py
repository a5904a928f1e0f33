"""Drives a search as the driver of sweeps does; what its tests share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlfn.spec.record import RunState
from mlfn.sweep.optuna import Search
from mlfn.sweep.spaces.distributions import choice, lograndint, loguniform, normal, ordinal, quniform, randint, uniform
from mlfn.sweep.strategy import Told

THING = {"kind": "dict", "deep": [1, 2]}
SPACES: dict[str, Any] = {
    "momentum": uniform(0, 1).when(opt="sgd"),
    "lr": loguniform(1e-4, 1),
    "opt": choice(["adam", "sgd", THING]),
    "depth": randint(1, 9),
    "units": lograndint(1, 512),
    "width": ordinal([16, 32, 64]),
    "drop": quniform(0, 0.5, 0.1),
    "noise": normal(0, 1),
    "nesterov": choice([True, 1, None]).when(opt="sgd"),
    "fixed": choice(["only"]),
}


def score(params: Mapping[str, Any]) -> float:
    """Something to learn, of every parameter that is there."""
    loss = abs(math.log10(params.get("lr", 0.1)) + 2) + abs(params.get("depth", 5) - 6) + abs(params.get("noise", 0))
    return loss + (0 if params.get("opt") == "sgd" else 1) + params.get("momentum", 0.5)


def ending(iteration: int, params: Mapping[str, Any], *, objectives: int = 1, every: int = 5) -> Told:
    """End most children well, some otherwise."""
    value = score(params)
    series = tuple((step, value + 3 / (step + 1)) for step in range(9))
    if iteration % every == 0:
        return Told(iteration, params, RunState.FAILED, None)
    if iteration % every == 1:
        return Told(iteration, params, RunState.PRUNED, None, series[:4])
    values = (value, *(params["depth"] for _ in range(objectives - 1)))
    return Told(iteration, params, RunState.SUCCEEDED, values, series, {"memory": params.get("depth", 0) - 8.0})


def serial(search: Search, count: int, *, objectives: int = 1) -> list[Told]:
    """Ask, tell, ask, tell."""
    tolds = []
    for iteration in range(1, count + 1):
        params = search.ask(iteration)
        assert params is not None
        tolds.append(ending(iteration, params, objectives=objectives))
        search.tell(tolds[-1])
    return tolds


def tell_all(search: Search, tolds: Iterable[Told]) -> Search:
    for told in tolds:
        search.tell(told)
    return search


def succeeded(iteration: int, params: Mapping[str, Any], *values: float, **more: Any) -> Told:
    return Told(iteration, params, RunState.SUCCEEDED, values, **more)


def types(params: Mapping[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in params.items()}


def same(one: Sequence[Mapping[str, Any] | None], other: Sequence[Mapping[str, Any] | None]) -> bool:
    return list(one) == list(other) and all(types(a or {}) == types(b or {}) for a, b in zip(one, other, strict=True))
