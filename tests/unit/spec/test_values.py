"""Sizes, durations, retries and what else stands in a declaration."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import mlfn
from mlfn.errors import OptionError
from mlfn.spec.options import merge_options
from mlfn.spec.record import TRANSITIONS, Reason, RemoteFailure, RunState
from mlfn.spec.values import REASONS, UNSET, parse_bytes, parse_cpu, parse_seconds


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_bytes, 1, 1),
        (parse_bytes, "500M", 500_000_000),
        (parse_bytes, "1.5Gi", 3 * 2**29),
        (parse_bytes, " 4 Gi ", 2**32),
        (parse_cpu, 2, 2.0),
        (parse_cpu, 0.5, 0.5),
        (parse_cpu, "500m", 0.5),
        (parse_cpu, "2", 2.0),
        (parse_seconds, 90, 90.0),
        (parse_seconds, "90s", 90.0),
        (parse_seconds, "15m", 900.0),
        (parse_seconds, "1.5h", 5400.0),
        (parse_seconds, "1d", 86400.0),
    ],
)
def test_a_quantity_is_read(parse: Callable[[Any], float], text: Any, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("parse", [parse_bytes, parse_cpu, parse_seconds])
@pytest.mark.parametrize("wrong", ["", "x", "-1", -1, 0, True, None, "1 2", "4GB", [], float("nan"), float("inf"), "0"])
def test_what_is_no_quantity_is_refused(parse: Callable[[Any], float], wrong: Any) -> None:
    with pytest.raises(OptionError, match="is no"):
        parse(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"times": -1},
        {"times": 1.5},
        {"times": True},
        {"times": "3"},
        {"delay": -1},
        {"backoff": float("nan")},
        {"max_delay": float("inf")},
        {"delay": "1s"},
        {"on": [3]},
        {"on": [int]},
        {"on": 3},
        {"on": ["foo"]},
        {"on": "oom."},
        {"on": "print"},
        {"on": "my module.Error"},
        {"mem": "x1"},
        {"mem": "x0.5"},
        {"mem": "x101"},
        {"mem": "2x"},
        {"mem": 0},
        {"mem": True},
        {"mem": "x2", "on": [ValueError]},
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"Retry\("):
        mlfn.Retry(**wrong)


def test_retry_delays_grow_to_their_limit() -> None:
    retry = mlfn.Retry(5, delay=1, backoff=2, max_delay=5, on=ValueError)

    assert [retry.wait(n) for n in (1, 2, 3, 4, 5000)] == [1, 2, 4, 5, 5]
    assert retry.on == ("builtins.ValueError",)
    assert mlfn.Retry(on="oom").on == ("oom",)


@pytest.mark.parametrize(
    ("given", "kept", "asked"),
    [("x2", "x2", [200, 400]), ("x 1.50", "x1.5", [150, 225]), ("300", 300, [300, 300]), (None, None, [100, 100])],
)
def test_a_retry_asks_for_more_memory(given: str | None, kept: str | int | None, asked: list[int]) -> None:
    retry = mlfn.Retry(on=["oom"], mem=given)

    first = retry.more_memory(100)

    assert retry.mem == kept
    assert [first, retry.more_memory(first)] == asked


def test_a_retry_with_a_size_needs_no_limit_before() -> None:
    assert mlfn.Retry(mem="1Ki").more_memory(None) == 1024


@pytest.mark.parametrize(
    "name", ["timeout", "ValueError", "requests.exceptions.Timeout", "__main__.f.<locals>.MyError"]
)
def test_a_retry_takes_names_of_failures(name: str) -> None:
    assert mlfn.Retry(on=[name]).on == (name,)


@pytest.mark.parametrize(("wrong", "near"), [("oomm", "oom"), ("ValueErorr", "ValueError"), ("time_out", "timeout")])
def test_an_unknown_failure_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(OptionError, match=rf"Retry\(on='{wrong}'\): did you mean '{near}'\?.*a reason: error, oom"):
        mlfn.Retry(on=[wrong])


def test_the_reasons_are_those_of_a_record() -> None:
    assert [str(reason) for reason in Reason] == list(REASONS)


def test_a_stored_retry_is_taken_whatever_it_names() -> None:
    assert mlfn.Retry.of_plan({"times": 2, "delay": 0.5, "on": ["foo"]}).on == ("foo",)
    assert mlfn.Retry.of_plan({"times": 2}) == mlfn.Retry(2)


def test_node_and_job_refuse_by_name() -> None:
    with pytest.raises(OptionError, match=r"Node\(spot='alow'\): did you mean 'allow'"):
        mlfn.Node(spot="alow")
    with pytest.raises(OptionError, match="Node has no option 'selectr'"):
        mlfn.Node(selectr={})  # type: ignore[call-arg]
    with pytest.raises(OptionError, match=r"Job\(fresh='yes'\): True or False"):
        mlfn.Job(fresh="yes")  # type: ignore[arg-type]


def test_unset_is_one_and_stays_one() -> None:
    assert repr(UNSET) == "mlfn.UNSET"
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert copy.deepcopy(UNSET) is UNSET


def test_merging_leaves_both_sides_alone() -> None:
    base, changes = {"env": {"A": "1"}, "cpu": 1}, {"env": {"A": UNSET, "B": "2"}, "cpu": UNSET, "mem": 2}

    assert merge_options(base, changes) == {"env": {"B": "2"}, "mem": 2}
    assert base == {"env": {"A": "1"}, "cpu": 1}
    assert changes["env"] == {"A": UNSET, "B": "2"}


def test_terminal_states_are_left_by_nothing() -> None:
    assert {state for state in RunState if state.is_terminal} == {s for s, after in TRANSITIONS.items() if not after}
    assert f"{RunState.FAILED}" == "failed" == RunState.FAILED


@pytest.mark.parametrize(
    "failure",
    [
        RemoteFailure("builtins.ValueError", ""),
        RemoteFailure("builtins.SystemExit", "0", exit_code=0),
        RemoteFailure("a.B", "text", "trace", ("a.B", "builtins.Exception"), "cGlja2xl", 3, 9),
    ],
)
def test_a_failure_round_trips_even_without_a_text(failure: RemoteFailure) -> None:
    assert RemoteFailure.from_json(failure.to_json()) == failure
