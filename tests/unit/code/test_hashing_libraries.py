from __future__ import annotations

import datetime
import enum
import functools
import importlib
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
import types
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfn.code.hashing.function import value_digest, walk
from mlfn.code.hashing.library import installed_name

ROOT = Path(__file__).resolve().parents[3]

# The same library twice. The second has its code in private modules, wraps what was plain, knows more parameters
# and fields, and numbers its enum anew: all that an upgrade does.
FIRST = {
    "__init__.py": """
        __version__ = "1.0"
        from fakelib.split import split, cached, Model, Record, Mode, Flags, keep, keep_equal, compose, engine, settings
    """,
    "split.py": """
        import dataclasses, enum, functools, threading, uuid
        def split(x, part=2): return x
        def cached(x): return x
        class Model:
            def __init__(self, c=1.0, *, steps=()):
                self.c, self.steps = c, steps
            def fit(self, x): return self
            def __getstate__(self): return {**self.__dict__, "_lib_version": "1.0"}
        @dataclasses.dataclass
        class Record:
            x: int = 0
        class Mode(enum.Enum):
            FAST = 1
            SLOW = 2
        class Flags(enum.Flag):
            A = 1
            B = 2
            C = 4
        def keep(threshold):
            def kept(x): return x > threshold
            return kept
        def keep_equal(threshold):
            def kept(x): return x >= threshold
            return kept
        def compose(f, g):
            def both(x, f=f): return f(g(x))
            return both
        class Engine:
            def __init__(self): self.state = 1
            def __call__(self): return self.state
        engine = Engine()
        class Settings: pass
        settings = Settings()
    """,
}
SECOND = {
    "__init__.py": FIRST["__init__.py"].replace("1.0", "2.0").replace("fakelib.split", "fakelib._impl.core"),
    "_impl/__init__.py": "",
    "_impl/core.py": """
        import dataclasses, enum, functools, threading, uuid
        class Interval:
            def __init__(self, low): self.low = low
        def validated(**constraints):
            def decorate(fn):
                @functools.wraps(fn)
                def wrapper(*args, **kwargs): return constraints and fn(*args, **kwargs)
                return wrapper
            return decorate
        @validated(part=[Interval(3)])
        def split(x, part=None, extra=1): return [x]
        @functools.lru_cache(maxsize=7)
        def cached(x): return x
        class Model:
            def __init__(self, c=1.0, *, steps=(), penalty="new", solver=None):
                self.c, self.steps, self.penalty, self.solver = c, steps, penalty, solver
                self._lock, self._hooks, self._id = threading.Lock(), {}, uuid.uuid4().hex
            @validated(x=[Interval(1)])
            def fit(self, x): return self
            def __getstate__(self): return {**self.__dict__, "_lib_version": "2.0"}
        @dataclasses.dataclass
        class Record:
            x: int = 0
            tags: list = dataclasses.field(default_factory=list)
            note: str = ""
        class Mode(enum.Enum):
            NEW = 1
            FAST = 2
            SLOW = 3
        class Flags(enum.Flag):
            A = 4
            B = 1
            C = 2
        def keep(threshold):
            def kept(x):
                return kept and x > threshold
            return kept
        def keep_equal(threshold):
            def kept(x): return x >= threshold
            return kept
        def compose(f, g):
            def both(x, f=f): return f(g(x)) + 0
            return both
        class Engine:
            def __init__(self): self.state, self.more = 2, [1]
            def __call__(self): return self.state
        engine = Engine()
        class Settings: pass
        settings = Settings()
    """,
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], types.ModuleType]]:
    """Install version 1 or 2 of a distribution and import it."""
    before = list(sys.path)

    def install(version: str) -> types.ModuleType:
        forget()
        folder = tmp_path / version / "site-packages"
        for name, text in (FIRST if version == "1.0" else SECOND).items():
            path = folder / "fakelib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        metadata = folder / f"fakelib-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: fakelib\nVersion: {version}\n")
        monkeypatch.setattr(sys, "path", [str(folder), *before])
        importlib.invalidate_caches()
        return importlib.import_module("fakelib")

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fakelib"]:
            del sys.modules[name]

    yield install
    forget()


def holding(value: Any) -> Any:
    def f() -> Any:
        return value

    return f


USES: dict[str, Callable[[Any], Any]] = {
    "a function that became a wrapper": lambda lib: lib.split,
    "a function that is now cached": lambda lib: lib.cached,
    "a partial": lambda lib: functools.partial(lib.split, part=3),
    "a class that moved": lambda lib: lib.Model,
    "an instance": lambda lib: lib.Model(c=2),
    "an instance within an instance": lambda lib: lib.Model(steps=(lib.Model(c=3),)),
    "a method": lambda lib: lib.Model.fit,
    "a bound method": lambda lib: lib.Model(c=2).fit,
    "a dataclass": lambda lib: lib.Record(x=3),
    "a member of an enum": lambda lib: lib.Mode.SLOW,
    "a combination of flags": lambda lib: lib.Flags.A | lib.Flags.B,
    "what a factory returns": lambda lib: lib.keep(3),
    "what a factory composes": lambda lib: lib.compose(len, str),
    "a callable object of its own": lambda lib: lib.engine,
    "the module": lambda lib: lib,
    "an own subclass": lambda lib: type("Mine", (lib.Model,), {"__module__": __name__}),
}


@pytest.mark.parametrize("use", USES)
def test_a_function_keeps_its_digest_when_a_library_that_it_uses_is_upgraded(library: Any, use: str) -> None:
    hashes = [walk(holding(USES[use](library(version)))).digest.hexdigest for version in ("1.0", "2.0")]
    assert hashes[0] == hashes[1]


DIFFERENCES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "another function": (lambda lib: lib.split, lambda lib: lib.cached),
    "another argument bound": (
        lambda lib: functools.partial(lib.split, part=3),
        lambda lib: functools.partial(lib.split, part=4),
    ),
    "another parameter": (lambda lib: lib.Model(c=2), lambda lib: lib.Model(c=3)),
    "a parameter set or not": (lambda lib: lib.Model(c=2), lambda lib: lib.Model()),
    "an attribute added": (lambda lib: lib.Model(), lambda lib: added(lib.Model(), "_weights", [1])),
    "a method bound to another": (lambda lib: lib.Model(c=2).fit, lambda lib: lib.Model(c=3).fit),
    "another field": (lambda lib: lib.Record(x=3), lambda lib: lib.Record(x=4)),
    "another member": (lambda lib: lib.Mode.SLOW, lambda lib: lib.Mode.FAST),
    "another combination": (lambda lib: lib.Flags.A | lib.Flags.B, lambda lib: lib.Flags.A | lib.Flags.C),
    "another value closed over": (lambda lib: lib.keep(3), lambda lib: lib.keep(4)),
    "what another factory made": (lambda lib: lib.keep(3), lambda lib: lib.keep_equal(3)),
    "functions composed the other way": (lambda lib: lib.compose(len, str), lambda lib: lib.compose(str, len)),
    "something set on its settings": (lambda lib: lib.settings, lambda lib: added(lib.settings, "x", 1)),
}


def added(value: Any, name: str, item: Any) -> Any:
    setattr(value, name, item)
    return value


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_what_the_user_set_on_a_librarys_object_counts(library: Any, version: str, difference: str) -> None:
    lib = library(version)
    one, two = DIFFERENCES[difference]
    # In turn: the second may change what the first is.
    assert walk(holding(one(lib))).digest.hexdigest != walk(holding(two(lib))).digest.hexdigest


def test_a_callable_is_named_by_the_outermost_package_that_has_it(library: Any) -> None:
    assert {installed_name(library(version).split) for version in ("1.0", "2.0")} == {"fakelib:split"}
    assert installed_name(library("1.0").Model()) is None


def test_an_own_function_put_into_a_library_stays_own(library: Any) -> None:
    lib = library("1.0")
    lib.split = functools.wraps(lib.split)(lambda x: 1)
    one = value_digest(lib.split)
    lib.split = functools.wraps(lib.split)(lambda x: 2)
    assert value_digest(lib.split) != one


# -- values whose form differs between processes, machines and versions --------------------------------------

PROCESS = """
import enum, functools, json, random, re, sys, threading
from random import choice, randint, random as draw
from numpy.random import rand
import numpy as np
from mlfn.code.hashing.function import value_digest
class Node:
    def __init__(self, name): self.name, self.peers = name, set()
a, b, c = Node("a"), Node("b"), Node("c")
a.peers |= {b, c}; b.peers |= {a, c}; c.peers |= {a}
draw(), rand(int(sys.argv[1]))
values = [choice, randint, draw, rand, np.random.default_rng, {a, b, c}, a, {frozenset("ab"), frozenset("cde")}]
print(json.dumps([value_digest(value).hex() for value in values]))
"""


def test_global_random_generators_and_objects_in_sets_have_one_digest_in_every_process(tmp_path: Path) -> None:
    answers = set()
    for seed in ("1", "2", "3"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        # What is allocated before moves all addresses.
        result = subprocess.run(
            [sys.executable, "-c", PROCESS, seed], env=env, cwd=tmp_path, capture_output=True, check=True, text=True
        )
        answers.add(result.stdout)
    assert len(answers) == 1
    assert len(set(json.loads(answers.pop()))) == 8


def test_a_generator_of_the_users_own_counts_by_its_state() -> None:
    for make in (random.Random, np.random.default_rng, np.random.RandomState, np.random.PCG64):
        assert value_digest(make(1)) == value_digest(make(1)) != value_digest(make(2))


def test_a_time_counts_with_its_zone_and_not_with_that_zones_offset() -> None:
    moment = datetime.datetime(2030, 7, 1)
    zones = [
        None,
        datetime.timezone.utc,
        datetime.timezone(datetime.timedelta(hours=2)),
        *map(zoneinfo.ZoneInfo, NAMES),
    ]
    assert len({value_digest(moment.replace(tzinfo=zone)) for zone in zones}) == len(zones)
    assert value_digest(zoneinfo.ZoneInfo(NAMES[0])) == value_digest(zoneinfo.ZoneInfo.no_cache(NAMES[0]))


NAMES = ("Europe/Berlin", "Europe/Paris")


class Own(enum.Flag):
    A = 1
    B = 2
    BOTH = 3


def test_flags_count_by_what_they_combine() -> None:
    combinations = [Own(0), Own.A, Own.B, Own.BOTH]
    assert len({value_digest(flag) for flag in combinations}) == 4
    assert value_digest(Own.A | Own.B) == value_digest(Own.BOTH)
    assert (
        value_digest(re.IGNORECASE | re.MULTILINE)
        == value_digest(re.MULTILINE | re.IGNORECASE)
        != value_digest(re.IGNORECASE)
    )
    assert value_digest(re.compile("a", re.IGNORECASE)) != value_digest(re.compile("a"))


def test_state_kept_in_two_parts_counts_in_full() -> None:
    class Both:
        __slots__ = ("__dict__", "x")

        def __init__(self, x: int, y: int) -> None:
            self.x, self.y = x, y

    class Told:
        def __init__(self, *parts: int) -> None:
            self.parts = parts

        def __getstate__(self) -> Any:
            return tuple({"a": part} for part in self.parts)

    assert value_digest(Both(1, 2)) != value_digest(Both(1, 3))
    assert value_digest(Both(1, 2)) != value_digest(Both(3, 2))
    assert value_digest(Told(1, 2)) != value_digest(Told(3, 2))


# -- frames and arrays ---------------------------------------------------------------------------------------


def test_a_frame_counts_by_its_contents_whatever_text_type_and_unit_pandas_chose() -> None:
    words = ["x", None, "y"]
    assert value_digest(pd.Series(words, dtype=object)) == value_digest(pd.Series(words))
    days = np.array(["2020-01-01", "NaT"], dtype="datetime64[s]")
    units = [days.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")]
    assert len({value_digest(pd.Series(times)) for times in units}) == 1
    assert len({value_digest(pd.DatetimeIndex(times)) for times in units}) == 1
    late = pd.Series(units[3] + np.timedelta64(1, "ns"))
    aware = pd.Series(units[0]).dt.tz_localize("UTC")
    assert len({value_digest(times) for times in (pd.Series(units[0]), late, aware)}) == 3


def test_what_a_frame_holds_beside_its_values_counts() -> None:
    category = pd.CategoricalDtype(["a", "b"])
    ordered = pd.CategoricalDtype(["a", "b"], ordered=True)
    more = pd.CategoricalDtype(["a", "b", "c"])
    assert len({value_digest(pd.Series(["a", "b"], dtype=dtype)) for dtype in (category, ordered, more, object)}) == 4
    masks = [[0, 0], [0, 1], [1, 0]]
    assert len({value_digest(np.ma.MaskedArray([1, 2], mask=mask)) for mask in masks}) == 3
    assert value_digest(pd.Series([pd.NA, "x"], dtype=object)) != value_digest(pd.Series([None, "x"], dtype=object))


# -- classes that libraries write for their authors ----------------------------------------------------------


def test_a_pydantic_class_counts_by_what_its_author_says() -> None:
    def make(default: int = 1, **said: Any) -> type:
        return pydantic.create_model("M", __module__=__name__, x=(int, pydantic.Field(default, **said)))

    variants = [make(), make(2), make(gt=0), make(alias="y"), make(frozen=True)]
    assert len({value_digest(cls) for cls in variants}) == len(variants)
    assert value_digest(make()) == value_digest(make())


def test_an_attrs_class_counts_by_its_fields_and_options() -> None:
    def make(field: Any, **options: Any) -> type:
        cls = types.new_class("A", exec_body=lambda space: space.update(__module__=__name__, x=field))
        return attrs.define(cls, these={"x": field}, **options)

    variants = [
        make(attrs.field()),
        make(attrs.field(default=1)),
        make(attrs.field(factory=list)),
        make(attrs.field(converter=int)),
        make(attrs.field(alias="y")),
        make(attrs.field(), frozen=True),
        make(attrs.field(), eq=False),
    ]
    assert len({value_digest(cls) for cls in variants}) == len(variants)
    assert value_digest(make(attrs.field())) == value_digest(make(attrs.field()))


class Helpers:
    @functools.cached_property
    def one(self) -> int:
        """A docstring, which is no part of it."""
        return 1

    again = functools.partialmethod(max, 1)


def test_what_functools_puts_into_a_class_counts_by_what_it_calls() -> None:
    twice = functools.partialmethod(max, 2)
    assert value_digest(Helpers.__dict__["again"]) != value_digest(twice)
    other = functools.cached_property(lambda self: 2)
    assert value_digest(Helpers.__dict__["one"]) != value_digest(other)
    documented = functools.cached_property(Helpers.__dict__["one"].func)
    documented.__doc__ = "Other words."
    assert value_digest(documented) == value_digest(Helpers.__dict__["one"])


# -- properties ----------------------------------------------------------------------------------------------


class Node:
    def __init__(self, name: int) -> None:
        self.name = name
        self.peers: Any = set()


@settings(max_examples=100, deadline=None)
@given(edges=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))), order=st.permutations(range(5)))
def test_a_graph_has_one_digest_wherever_its_nodes_are_in_memory(edges: set[Any], order: list[int]) -> None:
    def build(numbers: Any) -> set[Node]:
        kept = {number: Node(number) for number in numbers}
        for one, two in sorted(edges, key=lambda edge: [list(numbers).index(end) for end in edge]):
            kept[one].peers.add(kept[two])
        return set(kept.values())

    assert value_digest(build(range(5))) == value_digest(build(order))


simple = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2) | st.just(()) | st.just(1.0)


@settings(max_examples=100, deadline=None)
@given(one=st.tuples(simple, simple), two=st.tuples(simple, simple))
def test_closures_made_by_a_library_share_a_digest_only_when_they_keep_the_same(one: Any, two: Any) -> None:
    same = repr(one) == repr(two)
    for make in (functools.partial, logged):
        made = [make(print, *values) for values in (one, two)]
        assert (value_digest(made[0]) == value_digest(made[1])) is same


def logged(fn: Any, *values: Any) -> Any:
    return functools.singledispatch(lambda x: (fn, values))


def test_a_lock_of_the_users_own_class_is_known_by_its_class() -> None:
    value = Node(1)
    value.peers = threading.Lock()
    assert value_digest(value) != value_digest(Node(1))


def test_a_proxy_without_what_it_stands_for_is_hashed_all_the_same() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("nothing is bound here")

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("nothing is bound here")

    assert installed_name(Proxy()) is None
    assert value_digest(holding(Proxy)) == value_digest(holding(Proxy))
