"""A long series is read in part, and the same part from every database."""

from __future__ import annotations

import math

import pytest

from mlfn.store import open_store


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_store_url")
    opened = open_store(url, tmp_path)
    yield opened
    opened.session.close()


def write(store, values, name="loss"):
    with store.session.writing() as engine:
        for step, value in enumerate(values):
            engine.execute(
                "INSERT INTO metrics (run, attempt, name, step, value, time) VALUES (?, ?, ?, ?, ?, ?)",
                ("r", 1, name, step, value, 1000.0 + step),
            )


def test_a_short_series_is_read_whole(store):
    write(store, [3.0, None, 1.0])

    count, values = store.thinned_series("r", 1, "loss", most=3)

    assert count == 3
    assert values[0] == 3.0 and math.isnan(values[1]) and values[2] == 1.0


def test_a_long_series_is_thinned_evenly_and_keeps_its_last_point(store):
    write(store, [float(number) for number in range(101)])
    write(store, [-1.0] * 7, name="other")

    count, values = store.thinned_series("r", 1, "loss", most=10)

    assert count == 101
    assert values == [float(number) for number in range(1, 101, 11)]
    assert values[-1] == 100.0


def test_no_series_is_none(store):
    assert store.thinned_series("r", 1, "loss", most=10) == (0, [])
