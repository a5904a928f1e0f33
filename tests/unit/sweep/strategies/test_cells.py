"""Grid, zip and random: every cell by its number, and nothing listed beforehand."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
import timeit
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.errors import OptionError, ParameterError
from mlfn.sweep.spaces.distributions import (
    Space,
    choice,
    lograndint,
    loguniform,
    normal,
    ordinal,
    quniform,
    randint,
    uniform,
)
from mlfn.sweep.strategies.grid import Grid
from mlfn.sweep.strategies.random import Random
from mlfn.sweep.strategies.zip import Zip

HUGE = {"a": range(1000), "b": list(range(1000)), "c": range(1000)}
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers())
keys = st.sampled_from(["depth", "lr", "opt", "model.width", "x"])
lists = st.lists(values, min_size=1, max_size=4)
grids = st.dictionaries(keys, lists, min_size=1, max_size=4)
slices = st.builds(slice, *(st.none() | st.integers(-40, 40),) * 2, st.none() | st.integers(-5, 5).filter(bool))


@st.composite
def zips(draw):
    length = draw(st.integers(1, 5))
    return draw(st.dictionaries(keys, st.lists(values, min_size=length, max_size=length), min_size=1, max_size=4))


def exact(value):
    """Return what equals only a value of the very type, down into lists and mappings."""
    if isinstance(value, dict):
        return [(key, exact(item)) for key, item in value.items()]
    return type(value), [exact(item) for item in value] if isinstance(value, list) else value


def product(grid):
    """Return every combination, the first key varying fastest."""
    names = list(grid)
    rows = itertools.product(*(grid[name] for name in reversed(names)))
    return [dict(zip(names, reversed(row), strict=True)) for row in rows]


def itself(value):
    return value


# -- every member is the eager product
@given(grids)
def test_a_grid_equals_the_eager_product(grid):
    cells = Grid(grid)

    assert exact_all(cells) == exact_all(product(grid))
    assert len(cells) == cells.size == len(product(grid))
    assert [cells.ask(i) for i in range(1, cells.size + 1)] == product(grid)


@given(zips())
def test_a_zip_goes_in_step(lists):
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]

    assert exact_all(Zip(lists)) == exact_all(rows)


def exact_all(cells):
    return [exact(cell) for cell in cells]


MEMBERS = [
    Grid({"a": range(5), "b": [None, True, 1, 1.0]}),
    Zip({"a": range(20), "b": list("abcdefghijklmnopqrst")}),
    Random({"a": uniform(0, 1), "b": ["x", "y"]}, n=20, seed=3),
    Random({"a": uniform(0, 1), "b": randint(1, 9)}, n=20, seed=3, method="latin"),
    Random({"a": uniform(0, 1), "b": randint(1, 9)}, n=20, seed=3, method="qmc"),
]


@pytest.mark.parametrize("cells", MEMBERS, ids=repr)
@given(one=slices, other=slices)
def test_slices_are_views_that_keep_their_numbers(cells, one, other):
    rows = list(zip(range(1, 21), cells, strict=True))

    view = cells[one][other]

    assert list(zip(view.iterations, view, strict=True)) == rows[one][other]
    assert view.size == len(view) == len(rows[one][other]) and bool(view) is bool(rows[one][other])
    assert all(view.ask(number) == row for number, row in rows[one][other])


@pytest.mark.parametrize("cells", MEMBERS, ids=repr)
@given(one=slices)
def test_a_view_comes_back_from_json(cells, one):
    view = cells[one]

    again = type(cells).from_json(json.loads(json.dumps(view.to_json(itself))), itself)

    assert list(again) == list(view) and list(again.iterations) == list(view.iterations) and repr(again) == repr(view)


@given(st.integers(-20, 19))
def test_an_index_may_count_from_the_end(index):
    for cells in MEMBERS:
        assert cells[index] == list(cells)[index]


def test_index_beyond_the_end_error_names_bounds():
    with pytest.raises(IndexError, match="Cell 6 of 6: indexes go from -6 to 5"):
        Grid({"a": [1, 2, 3], "b": [1, 2]})[6]
    with pytest.raises(IndexError, match="Cell -3 of 2"):
        Grid({"a": [1, 2, 3]})[1:][-3]


def test_cells_are_a_sequence():
    cells = Grid({"a": [1, 2], "b": [3, 4]})

    assert isinstance(cells, Sequence) and {"a": 2, "b": 3} in cells and cells.index({"a": 2, "b": 3}) == 1
    assert list(reversed(cells)) == list(cells)[::-1]


def test_slice_refuses_numbers_left_out_and_then_ends():
    view = Grid({"a": range(6)})[1:4:2]

    assert [view.ask(2), view.ask(4), view.ask(5), view.ask(99)] == [{"a": 1}, {"a": 3}, None, None]
    with pytest.raises(ParameterError, match="Child 3 is not in this slice"):
        view.ask(3)


# -- size
def test_grid_of_a_billion_cells_needs_little_memory():
    fastest = min(timeit.repeat(lambda: Grid(HUGE), number=1, repeat=20))
    tracemalloc.start()
    cells = Grid(HUGE)
    last, view = cells[-1], cells[5 : 10**8 : 7]
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert fastest < 1e-3 and held < 100_000
    assert len(cells) == 10**9 and last == {"a": 999, "b": 999, "c": 999} and view[1] == {"a": 12, "b": 0, "c": 0}


def test_grid_too_large_for_len_has_size():
    cells = Grid({name: range(10**6) for name in "abcd"})

    assert cells.size == 10**24 and cells and cells[-1]["d"] == 999_999 and cells[10**23 :].size == 9 * 10**23
    assert cells[10**23 :].iterations[0] == 10**23 + 1
    with pytest.raises(OverflowError, match=r"1000000000000000000000000 cells .* use .size"):
        len(cells)
    assert cells.size > sys.maxsize


def test_billion_random_cells_are_drawn_on_demand():
    for method in ("random", "latin", "qmc"):
        cells = Random({"a": uniform(0, 1), "b": normal(0, 1)}, n=10**9, seed=1, method=method)

        assert cells[-1] == cells.ask(10**9) and 0 <= cells[10**8]["a"] <= 1


# -- values
class Lazy(Sequence):
    """A sequence that would not like to be listed."""

    def __len__(self):
        return 10**12

    def __getitem__(self, index):
        return index * 2


def test_lazy_sequence_is_kept_and_list_copied():
    depths = [4, 8]
    cells = Grid({"depth": depths, "lazy": Lazy()})
    depths.append(16)

    assert cells.size == 2 * 10**12 and cells[-1] == {"depth": 8, "lazy": 2 * 10**12 - 2}


def test_values_are_the_very_objects():
    class Thing:
        pass

    items = [True, 1, 1.0, None, "1", [1, [2]], {"a": 1}, (), np.float32(1), Thing(), Thing]

    got = [cell["x"] for cell in Grid({"x": items})]

    assert all(one is other for one, other in zip(got, items, strict=True))


@pytest.mark.parametrize(
    ("given_", "items"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.linspace(0, 1, 3), [0.0, 0.5, 1.0]),
        (np.array([True, False]), [True, False]),
        (pd.Series([1, 2], index=[7, 8]), [1, 2]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.Series(pd.to_datetime(["2024-01-01"])), [pd.Timestamp("2024-01-01")]),
        (np.array(["2024-01-01"], dtype="datetime64[ns]"), [np.datetime64("2024-01-01", "ns")]),
    ],
)
def test_an_array_or_column_gives_pythons_numbers(given_, items):
    assert exact_all([list(v.values()) for v in Grid({"x": given_})]) == exact_all([[item] for item in items])


def test_rows_of_a_matrix_are_values():
    assert [cell["x"].tolist() for cell in Grid({"x": np.eye(2)})] == [[1, 0], [0, 1]]


def test_duplicates_are_cells():
    assert list(Grid({"x": [1, 1]})) == [{"x": 1}, {"x": 1}]


@pytest.mark.parametrize("make", [Grid, Zip, lambda lists: Random(lists, n=3)])
@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"opt": "adam"}, "opt='adam' is one text where a list is meant: write opt=['adam']."),
        ({"opt": b"adam"}, "opt=b'adam' is one text"),
        ({"depth": []}, "depth=[] is empty"),
        ({"depth": range(0)}, "depth=range(0, 0) is empty"),
        ({"depth": np.array([])}, "is empty"),
        ({"depth": {4, 8}}, "is a set, which has no order to number cells by: write depth=sorted(...)"),
        ({"depth": (i for i in [1])}, "can be read only once, and cells are looked up: write depth=list(...)"),
        ({"depth": {"a": 1}}, "depth={'a': 1} is a mapping where a list is meant"),
        ({"depth": 3}, "depth=3 (int) is no list: write depth=[3], or pass it to submit()"),
        ({"depth": None}, "depth=None (NoneType) is no list"),
        ({}, "Nothing is swept: name a parameter and its values, as in depth=[4, 8]."),
        ([1, 2], "[1, 2] (list) names nothing to sweep"),
        ({"": [1]}, "'' names no parameter"),
        ({"a..b": [1]}, "'a..b' names no parameter"),
        ({3: [1]}, "3 names no parameter"),
        ({"model": [1], "model.depth": [2]}, "'model.depth' is a part of 'model', which is swept as well"),
    ],
)
def test_value_other_than_list_is_refused_by_key(make, lists, said):
    with pytest.raises(ParameterError) as caught:
        make(lists)

    assert said in str(caught.value)


def test_a_distribution_in_a_grid_is_refused():
    with pytest.raises(
        ParameterError, match=r"lr=uniform\(0.0, 1.0\) is a distribution where a list is meant: .*random"
    ):
        Grid({"lr": uniform(0, 1)})


def test_lists_of_unequal_lengths_are_refused_naming_each():
    with pytest.raises(ParameterError, match=r"equally long: a has 2, b has 3, c has 2\. .* grid"):
        Zip({"a": [1, 2], "b": range(3), "c": [1, 2]})


# -- random
# Independent of the module: what `points` documents, written out for all cells at once.
def numbers(use, seed, key, *more):
    text = "\n".join([use, str(seed), *map(str, more), key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def eager_random(seed, n, keys):
    return {key: [(numbers("cell", seed, key, i) >> 11) / 2**53 for i in range(n)] for key in keys}


def eager_latin(seed, n, keys):
    """Send a list of all positions through the three turns, and those beyond n through again."""
    rows = math.ceil(math.sqrt(n))
    columns = math.ceil(n / rows)
    found = {}
    for key in keys:
        places = list(range(n))
        waiting = range(n)
        while waiting:
            for i in waiting:
                row, column = divmod(places[i], columns)
                for turn in range(3):
                    row = (row + numbers("row", seed, key, turn, column)) % rows
                    column = (column + numbers("column", seed, key, turn, row)) % columns
                places[i] = row * columns + column
            waiting = [i for i in waiting if places[i] >= n]
        assert sorted(places) == list(range(n))
        jitter = [(numbers("within", seed, key, i) >> 11) / 2**53 for i in range(n)]
        found[key] = [min((place + share) / n, 1 - 2**-53) for place, share in zip(places, jitter, strict=True)]
    return found


def eager_qmc(seed, n, keys):
    """Permute the digits, place by place, of all numbers that have as many, and turn them round."""
    found = {}
    for key, base in zip(keys, [2, 3, 5, 7, 11, 13], strict=False):
        places = math.ceil(53 / math.log2(base))
        wheels = [
            sorted(range(base), key=lambda d, p=place: numbers("digit", seed, key, p, d)) for place in range(places)
        ]
        found[key] = []
        for i in range(n):
            share = sum(Fraction(wheel[i // base**p % base], base ** (p + 1)) for p, wheel in enumerate(wheels))
            found[key].append(min(float(share), 1 - 2**-53))
    return found


EAGER = {"random": eager_random, "latin": eager_latin, "qmc": eager_qmc}
distributions = st.one_of(
    st.builds(lambda low, width: uniform(low, low + width), st.floats(-1e6, 1e6), st.floats(0, 1e6)),
    st.builds(lambda low, ratio: loguniform(low, low * ratio), st.floats(1e-6, 1e3), st.floats(1, 1e6)),
    st.builds(lambda low, width: randint(low, low + width), st.integers(), st.integers(0, 10**20)),
    st.builds(lambda low, width: lograndint(low, low + width), st.integers(1, 1000), st.integers(0, 10**9)),
    st.builds(lambda steps, q: quniform(0, steps * q, q), st.integers(0, 100), st.sampled_from([0.1, 0.25, 3])),
    st.builds(normal, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)),
    st.builds(choice, lists),
    st.builds(ordinal, lists),
)


@st.composite
def spaces(draw):
    """Return spaces of which some depend on another: on one that comes before them, or after."""
    given_ = draw(st.dictionaries(keys, distributions | lists, min_size=1, max_size=5))
    names = list(given_)
    options = {name: draw(lists) for name in draw(st.sets(st.sampled_from(names), max_size=2))}
    plain = {**given_, **options}
    for name in names:
        parents = draw(st.sets(st.sampled_from(sorted(options)))) if options and name not in options else ()
        for parent in sorted(parents):
            space = plain[name] if isinstance(plain[name], Space) else choice(plain[name])
            held = draw(st.lists(st.sampled_from(options[parent]), min_size=1, max_size=2))
            plain[name] = space.when({parent: held})
    return plain


def drawn(plain, method, seed, n):
    """Return every cell, in order: all numbers of all keys first, then the values, then without what has no reason."""
    shares = EAGER[method](seed, n, list(plain))
    rows = []
    for i in range(n):
        row = {k: (s if isinstance(s, Space) else choice(s)).at(shares[k][i]) for k, s in plain.items()}
        conditions = {key: getattr(space, "conditions", ()) for key, space in plain.items()}
        rows.append({k: v for k, v in row.items() if all(one_of(row[c.key], c.values) for c in conditions[k])})
    return rows


def one_of(value, wanted):
    return any(value is one or (value == one and isinstance(value, bool) == isinstance(one, bool)) for one in wanted)


@pytest.mark.parametrize("method", sorted(EAGER))
@given(plain=spaces(), seed=st.integers(-9, 2**70), n=st.integers(1, 40), one=slices, other=slices, order=st.randoms())
def test_random_cell_is_independent_of_access_order(method, plain, seed, n, one, other, order):
    rows = exact_all(drawn(plain, method, seed, n))
    cells = Random(plain, n=n, seed=seed, method=method)
    indexes = list(range(-n, n))
    order.shuffle(indexes)

    assert [exact(cells[index]) for index in indexes] == [rows[index] for index in indexes]
    assert exact_all(cells) == rows
    view = cells[one][other]
    assert exact_all(view) == rows[one][other]
    assert [exact(view.ask(number)) for number in view.iterations] == rows[one][other]


SPACES = {"lr": loguniform(1e-4, 1), "depth": randint(2, 32), "opt": ["adam", "sgd"]}


@pytest.mark.parametrize("method", ["random", "latin", "qmc"])
def test_cells_are_known_by_heart(method):
    # Made once; another machine or Python version must give the same.
    known = {
        "random": {"lr": 0.165589939623, "depth": 6, "opt": "adam"},
        "latin": {"lr": 0.000734561423599, "depth": 30, "opt": "sgd"},
        "qmc": {"lr": 0.00282875150453, "depth": 18, "opt": "adam"},
    }

    assert Random(SPACES, n=100, seed=7, method=method)[41] == known[method]


@pytest.mark.parametrize("method", ["random", "latin", "qmc"])
def test_adding_a_key_leaves_the_others_values(method):
    fewer = Random(SPACES, n=10, seed=7, method=method)
    more = Random({**SPACES, "more": uniform(0, 1)}, n=10, seed=7, method=method)

    assert [{key: cell[key] for key in SPACES} for cell in more] == list(fewer)


def test_drawing_more_cells_leaves_the_first_ones():
    for method in ("random", "qmc"):
        assert list(Random(SPACES, n=50, seed=7, method=method)[:10]) == list(
            Random(SPACES, n=10, seed=7, method=method)
        )


@pytest.mark.parametrize("method", ["random", "latin", "qmc"])
def test_another_seed_draws_other_cells(method):
    assert list(Random(SPACES, n=10, seed=7, method=method)) != list(Random(SPACES, n=10, seed=8, method=method))


def test_missing_seed_is_drawn_kept_and_shown():
    one, other = Random(SPACES, n=5), Random(SPACES, n=5)

    assert one.seed != other.seed and f"seed={one.seed}" in repr(one)
    assert list(Random(SPACES, n=5, seed=one.seed)) == list(one) == list(one)


@given(st.integers(1, 300), st.integers())
def test_latin_takes_one_value_of_every_share(n, seed):
    cells = Random({"a": uniform(0, n), "b": uniform(0, n)}, n=n, seed=seed, method="latin")

    for key in ("a", "b"):
        assert sorted(min(int(cell[key]), n - 1) for cell in cells) == pytest.approx(list(range(n)), abs=1)
        assert len({int(cell[key] * (1 - 1e-9)) for cell in cells}) >= n - 1


def test_latin_puts_keys_in_orders_of_their_own():
    cells = Random({"a": uniform(0, 1), "b": uniform(0, 1)}, n=200, seed=1, method="latin")

    assert abs(np.corrcoef([cell["a"] for cell in cells], [cell["b"] for cell in cells])[0, 1]) < 0.2


def worst_gap(method, n=128):
    """Return the widest gap between neighbours on one axis, times n; 1 is even."""
    cells = Random({"a": uniform(0, 1), "b": uniform(0, 1)}, n=n, seed=3, method=method)
    return max(max(np.diff(sorted([0, 1, *(cell[key] for cell in cells)]))) * n for key in "ab")


def test_qmc_spreads_more_evenly_than_random():
    assert worst_gap("qmc") < 3 < worst_gap("random")


def test_qmc_fills_two_dimensions_evenly():
    cells = Random({"a": uniform(0, 1), "b": uniform(0, 1)}, n=144, seed=5, method="qmc")

    boxes = np.histogram2d([c["a"] for c in cells], [c["b"] for c in cells], bins=(4, 3), range=[(0, 1), (0, 1)])[0]

    assert boxes.min() == boxes.max() == 12  # 2^2 by 3: each box has its share of every 12 cells in a row


def test_qmc_of_many_keys_covers_every_part():
    cells = Random({f"k{i}": uniform(0, 1) for i in range(40)}, n=64, seed=5, method="qmc")

    assert all(0.2 < np.mean([cell[f"k{i}"] for cell in cells]) < 0.8 for i in range(40))


def test_cell_lacks_parameters_whose_condition_fails():
    cells = Random({"momentum": uniform(0, 1).when(opt="sgd"), "opt": ["adam", "sgd"]}, n=40, seed=1)

    assert {("momentum" in cell, cell["opt"]) for cell in cells} == {(True, "sgd"), (False, "adam")}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n=0 is no number of children: give 1 or more"),
        ({"n": -3}, "n=-3 is no number of children"),
        ({"n": 2.5}, "n=2.5 is no number of children"),
        ({"n": True}, "n=True is no number of children"),
        ({"n": "50"}, "n='50' is no number of children"),
        ({"n": 3, "seed": "7"}, "seed='7' must be a whole number, as in seed=7"),
        ({"n": 3, "method": "qcm"}, "method='qcm' is unknown: did you mean 'qmc'? Allowed: latin, qmc, random."),
        ({"n": 3, "method": None}, "method=None is unknown"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(OptionError) as caught:
        Random(SPACES, **options)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (Grid({"depth": [4, 8], "lr": range(3)}), "Grid(depth=[4, 8], lr=range(0, 3))"),
        (Grid({"model.depth": [4, 8]})[1:], "Grid({'model.depth': [4, 8]})[children 2..2]"),
        (Zip({"a": range(9)})[::2], "Zip(a=range(0, 9))[children 1..9 step 2]"),
        (Zip({"a": range(9)})[9:], "Zip(a=range(0, 9))[children none]"),
        (Random({"a": uniform(0, 1)}, n=3, seed=7), "Random(n=3, seed=7, a=uniform(0.0, 1.0))"),
        (
            Random({"a": choice([1])}, n=np.int64(3), seed=7, method="qmc"),
            "Random(n=3, seed=7, method='qmc', a=choice([1]))",
        ),
        (Grid({"a": list(range(1000))}), "Grid(a=[0, 1, 2, 3, 4, 5, ...])"),
    ],
)
def test_cells_show_how_they_were_made(cells, shown):
    assert repr(cells) == shown
