from __future__ import annotations

import collections
import contextvars
import dataclasses
import datetime
import enum
import functools
import itertools
import linecache
import math
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfn.code.hashing.function import CodeDigest, value_digest, walk
from mlfn.code.ownership import is_own_module
from mlfn.errors import CaptureError

ROOT = Path(__file__).resolve().parents[3]
_numbers = itertools.count()


def digest(fn: Any) -> CodeDigest:
    return walk(fn).digest


def define(source: str, name: str = "f", **namespace: Any) -> Any:
    """Define a function as a notebook cell does: its source is in linecache alone."""
    text = textwrap.dedent(source)
    filename = f"<cell {next(_numbers)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    space = {"__name__": "__main__", **namespace}
    exec(compile(text, filename, "exec", dont_inherit=True), space)
    return space[name]


def hexdigest(source: str, name: str = "f", **namespace: Any) -> str:
    return digest(define(source, name, **namespace)).hexdigest


PLAIN = """
    RATE = 3
    def helper(x, k=2):
        return x * k * RATE
    def f(x, y=1):
        total = helper(x) + y
        return total
"""


# -- what changes nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "replace"),
    [
        ("a comment", ("total = helper(x) + y", "# why\n        total = helper(x) + y  # what")),
        ("blank lines", ("        total =", "\n\n        total =")),
        ("lines above", ("RATE = 3", "import os\n\n\n    RATE = 3")),
        ("parentheses and line breaks", ("helper(x) + y", "(helper(\n            x\n        ) + (y))")),
        ("a docstring", ("def f(x, y=1):", 'def f(x, y=1):\n        """What."""')),
        ("a docstring of a helper", ("def helper(x, k=2):", "def helper(x, k=2):\n        'What.'")),
        ("an unrelated global", ("RATE = 3", "RATE = 3\n    OTHER = 4")),
        ("the same value, written otherwise", ("RATE = 3", "RATE = 1 + 2")),
        ("a decorator that returns the function", ("def f(", "@(lambda g: g)\n    def f(")),
    ],
)
def test_the_digest_is_unchanged_by(name: str, replace: tuple[str, str]) -> None:
    changed = PLAIN.replace(*replace)
    assert changed != PLAIN
    assert hexdigest(changed) == hexdigest(PLAIN)
    assert digest(define(changed)).origin == "source"


@pytest.mark.parametrize(
    ("name", "replace"),
    [
        ("the body", ("+ y", "- y")),
        ("a default", ("y=1", "y=2")),
        ("the type of a default", ("y=1", "y=1.0")),
        ("a helper's default", ("k=2", "k=3")),
        ("a helper's body", ("x * k", "x + k")),
        ("a global of a helper", ("RATE = 3", "RATE = 4")),
        ("a parameter's kind", ("(x, y=1)", "(x, *, y=1)")),
        ("an annotation", ("(x, y=1)", "(x: int, y=1)")),
        ("async", ("def f", "async def f")),
        ("a decorator that wraps", ("def f(", "@(lambda g: lambda *a: g(*a))\n    def f(")),
    ],
)
def test_the_digest_is_changed_by(name: str, replace: tuple[str, str]) -> None:
    changed = PLAIN.replace(*replace)
    assert changed != PLAIN
    assert hexdigest(changed) != hexdigest(PLAIN)


def test_the_default_of_a_context_variable_counts() -> None:
    source = "level = contextvars.ContextVar('level', default={})\ndef f(): return level.get()"
    assert len({hexdigest(source.format(value), contextvars=contextvars) for value in (1, 2)}) == 2
    assert hexdigest(source.format(1), contextvars=contextvars) == hexdigest(source.format(1), contextvars=contextvars)


def test_the_parts_name_what_went_in() -> None:
    assert digest(define(PLAIN)).parts == ("f", "f -> y", "helper", "helper -> k", "helper -> RATE")


# -- how far it reaches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "def outer():\n    n = VALUE\n    return lambda x: x + n\nf = outer()",
        "def outer():\n    n = VALUE\n    def inner(x):\n        return [n for _ in range(x)]\n    return inner\nf = outer()",
        "def f(x):\n    return (lambda: (lambda: VALUE))()()",
        "def f(x):\n    class A:\n        y = VALUE\n    return A",
        "def f(x):\n    return [VALUE for _ in x]",
        "import functools\nf = functools.partial(int, VALUE)",
        "import functools\nf = functools.partial(int, base=VALUE)",
        "import functools\nf = functools.partial(lambda x: VALUE, 1)",
        "class F:\n    def __call__(self, x):\n        return VALUE\nf = F()",
        "class F:\n    def __init__(self):\n        self.x = VALUE\n    def __call__(self, x):\n        return 1\nf = F()",
        "class F:\n    x = VALUE\n    def run(self):\n        return self.x\nf = F().run",
        "class F:\n    @classmethod\n    def run(cls):\n        return VALUE\nf = F.run",
        "class F:\n    @staticmethod\n    def run():\n        return VALUE\nf = F.run",
        "class A:\n    def g(self):\n        return VALUE\nclass B(A):\n    pass\ndef f():\n    return B()",
        "class A:\n    @property\n    def g(self):\n        return VALUE\ndef f():\n    return A()",
        "class A:\n    __slots__ = ('x',)\n    def __init__(self):\n        self.x = VALUE\nA_ = A()\ndef f():\n    return A_",
        "class M(type):\n    z = VALUE\nclass A(metaclass=M):\n    pass\ndef f():\n    return A",
        "import functools\n@functools.lru_cache\ndef g():\n    return VALUE\ndef f():\n    return g()",
        (
            "import functools\n@functools.singledispatch\ndef g(x):\n    return 1\n@g.register\ndef _(x: int):\n"
            "    return VALUE\ndef f():\n    return g(1)"
        ),
        (
            "import functools\nclass A:\n    @functools.cached_property\n    def g(self):\n        return VALUE\n"
            "def f():\n    return A()"
        ),
        "import contextlib\n@contextlib.contextmanager\ndef g():\n    yield VALUE\ndef f():\n    return g()",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = VALUE\ndef f():\n    return A()",
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n    def m(self):\n        return VALUE\n"
            "def f(a: A):\n    return a.x"
        ),
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\na = A(VALUE)\ndef f():\n    return a",
        "import enum\nclass A(enum.Enum):\n    X = VALUE\ndef f():\n    return A.X",
        "from typing import NamedTuple\nclass A(NamedTuple):\n    x: int = VALUE\ndef f():\n    return A()",
        "def a(n):\n    return b(n - 1) if n else VALUE\ndef b(n):\n    return a(n)\ndef f():\n    return a(3)",
        "def f(n):\n    return f(n - 1) if n else VALUE",
        "TABLE = {'a': [1, {2: (VALUE,)}]}\ndef f():\n    return TABLE['a']",
        "async def g():\n    return VALUE\nasync def f():\n    return await g()",
        "def f(*, k={'a': VALUE}):\n    return k",
        (
            "def outer():\n    n = VALUE\n    def deco(fn):\n        def wrapper(*a):\n            return fn(*a) + n\n"
            "        wrapper.__wrapped__ = fn\n        return wrapper\n    return deco\n@outer()\ndef f(x):\n    return x"
        ),
        "def deco(fn):\n    def wrapper(*a):\n        return fn(*a)\n    return wrapper\n@deco\ndef f(x):\n    return VALUE",
        (
            "class Function:\n    def __init__(self, raw):\n        self.__mlfn_function__ = raw\n"
            "@Function\ndef f(x):\n    return f, VALUE"
        ),
    ],
)
def test_a_value_is_found_wherever_it_is_reached(source: str) -> None:
    first, again, other = (source.replace("VALUE", value) for value in ("11", "11", "12"))
    assert digest(define(first)) == digest(define(again))
    assert hexdigest(first) != hexdigest(other)
    assert digest(define(first)).origin == "source"


def test_a_declared_function_is_its_raw_function() -> None:
    raw = define("def f(x):\n    return x")

    class Declared:
        @property
        def __mlfn_function__(self) -> Any:
            return raw

    assert digest(Declared()) == digest(raw)  # type: ignore[arg-type]


def test_wrapped_is_not_followed() -> None:
    source = "def g():\n    return 1\ndef f():\n    return 2\n"
    plain, marked = define(source), define(source + "f.__wrapped__ = g\n")
    assert digest(plain) == digest(marked)


def test_only_the_attribute_read_from_an_own_module_counts(user_modules: Any) -> None:
    user_modules("hash_lib", "def clean(x):\n    return x.strip()\ndef other(x):\n    return x\nK = 1\n")
    job = user_modules("hash_job", "import hash_lib\ndef f(x):\n    return hash_lib.clean(x)\n")
    first = digest(job.f)
    assert "hash_lib:clean" in first.parts
    sys.modules["hash_lib"].other = lambda x: 2  # type: ignore[attr-defined]
    assert digest(job.f) == first
    sys.modules["hash_lib"].clean = sys.modules["hash_lib"].other  # type: ignore[attr-defined]
    assert digest(job.f) != first


def test_a_helper_two_modules_away_counts_and_so_does_a_package(user_modules: Any) -> None:
    user_modules("hash_pkg.__init__", "")
    user_modules("hash_pkg.deep", "K = 1\ndef deep(x):\n    return x * K\n")
    user_modules("hash_pkg.mid", "from . import deep\ndef mid(x):\n    return deep.deep(x)\n")
    job = user_modules("hash_top", "import hash_pkg.mid\ndef f(x):\n    return hash_pkg.mid.mid(x)\n")
    first = digest(job.f)
    assert first.origin == "source"
    sys.modules["hash_pkg.deep"].K = 2  # type: ignore[attr-defined]
    assert digest(job.f) != first


def test_a_module_used_as_a_value_counts_whole(user_modules: Any) -> None:
    lib = user_modules("hash_whole", "def a():\n    return 1\ndef b():\n    return 2\n")
    job = user_modules("hash_dyn", "import hash_whole\ndef f(n):\n    return getattr(hash_whole, n)()\n")
    first = digest(job.f)
    lib.b = lambda: 3
    assert digest(job.f) != first


def test_an_import_within_a_function_counts_whether_or_not_it_was_done(user_modules: Any, tmp_path: Path) -> None:
    user_modules("hash_far", "K = 1\n", load=False)
    user_modules("hash_lazy", "import hash_far\ndef go():\n    return hash_far.K\n", load=False)
    job = user_modules("hash_user", "def f():\n    from hash_lazy import go\n    return go()\n")
    first = digest(job.f)
    assert "hash_lazy" not in sys.modules
    assert job.f() == 1
    assert digest(job.f) == first
    (tmp_path / "project" / "hash_far.py").write_text("K = 2\n")
    assert digest(job.f) != first
    (tmp_path / "project" / "hash_far.py").write_text("# why\nK = 1\n")
    assert digest(job.f) == first


def test_installed_code_counts_by_name_alone() -> None:
    assert hexdigest("import math\ndef f():\n    return math.pi", math=math) != hexdigest("def f():\n    return 3")
    parts = digest(define("import json, pandas\ndef f():\n    return json.dumps(pandas)")).parts
    assert parts == ("f",)


def test_an_installed_function_asked_about_is_read_as_code() -> None:
    assert digest(textwrap.dedent).parts[0] == "textwrap:dedent"
    assert digest(textwrap.dedent) != digest(textwrap.indent)
    assert digest(len).hexdigest != digest(sorted).hexdigest


# -- which source --------------------------------------------------------------------------------------------


def test_without_source_the_code_object_counts_and_the_digest_says_so() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("K = 1\ndef f(x):\n    return x + K\ndef g(x):\n    return x - K", space)
    first = digest(space["f"])
    assert first.origin == "bytecode"
    assert first.hexdigest != digest(space["g"]).hexdigest
    space["K"] = 2
    assert digest(space["f"]).hexdigest != first.hexdigest


def test_bytecode_follows_attributes_and_imports_too(user_modules: Any) -> None:
    lib = user_modules("hash_bare", "def a():\n    return 1\n")
    space: dict[str, Any] = {"__name__": "__main__", "hash_bare": lib}
    exec("def f():\n    return hash_bare.a()\ndef g():\n    import hash_bare as h\n    return h.a()", space)
    assert "hash_bare:a" in digest(space["f"]).parts
    assert "hash_bare" in digest(space["g"]).parts


def test_a_file_edited_since_its_import_is_not_taken_for_the_code_that_runs(user_modules: Any, tmp_path: Path) -> None:
    job = user_modules("hash_edited", "def f(x):\n    return x + 1\n")
    path = tmp_path / "project" / "hash_edited.py"
    path.write_text("def f(x):\n    return x + 2  # edited\n")
    os.utime(path, (1, 1))
    assert digest(job.f).origin == "bytecode"


def test_lines_that_moved_since_the_import_do_no_harm(user_modules: Any, tmp_path: Path) -> None:
    text = "def f(x):\n    return x + 1\n"
    job = user_modules("hash_moved", text)
    path = tmp_path / "project" / "hash_moved.py"
    path.write_text("# a comment\n\n" + text)
    os.utime(path, (1, 1))
    assert digest(job.f).hexdigest == hexdigest(text)


def test_lambdas_on_one_line_are_told_apart() -> None:
    pair = define("f = (lambda x: x + 1), (lambda x: x + 2), lambda: (lambda: 3), (lambda x: x + 1)")
    first, second, nested, same = (digest(fn) for fn in pair)
    assert len({first.hexdigest, second.hexdigest, nested.hexdigest, digest(pair[2]()).hexdigest}) == 4
    assert same.hexdigest == first.hexdigest
    if hasattr(types.CodeType, "co_positions"):  # from Python 3.11: before, such lambdas have no certain source
        assert {d.origin for d in (first, second, nested)} == {"source"}


def with_an_assert(x: int) -> int:
    assert x, "pytest compiles this into something else"
    return x


def test_functions_that_pytest_rewrote_have_a_source() -> None:
    assert digest(with_an_assert).origin == "source"


def test_an_attribute_that_a_module_makes_when_asked_counts(user_modules: Any) -> None:
    user_modules(
        "hash_made",
        "K = 1\ndef __getattr__(name):\n    if name == 'made':\n        return K\n    raise AttributeError(name)\n",
    )
    job = user_modules("hash_asks", "import hash_made\ndef f():\n    return hash_made.made\n")
    first = digest(job.f)
    sys.modules["hash_made"].K = 2  # type: ignore[attr-defined]
    assert digest(job.f) != first


def test_a_cell_defined_again_has_its_own_source() -> None:
    assert hexdigest("def f():\n    return 1") != hexdigest("def f():\n    return 2")


def test_future_imports_do_not_hide_the_source() -> None:
    assert digest(define("from __future__ import annotations\ndef f(x: int) -> str:\n    return x")).origin == "source"


def test_an_annotations_own_class_counts_quoted_or_not() -> None:
    source = "class A:\n    x = VALUE\ndef f(a: ANNOTATION):\n    return a"
    for annotation in ("A", "'A'", "list[A]", "'list[A] | None'"):
        text = source.replace("ANNOTATION", annotation)
        assert hexdigest(text.replace("VALUE", "1")) != hexdigest(text.replace("VALUE", "2"))


# -- values --------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Plain:
    def __init__(self, x: Any) -> None:
        self.x = x


class Caching:
    @functools.cached_property
    def big(self) -> int:
        return 3


VALUES: list[Any] = [
    None,
    True,
    1,
    1.0,
    0,
    0.0,
    -0.0,
    math.nan,
    math.inf,
    1j,
    "1",
    b"1",
    "",
    b"",
    10**5000,
    (),
    [],
    {},
    set(),
    frozenset(),
    (1,),
    [1],
    {1},
    frozenset({1}),
    {1: 2},
    {2: 1},
    [[1], 2],
    [1, [2]],
    [1, 2],
    collections.OrderedDict(a=1, b=2),
    collections.OrderedDict(b=2, a=1),
    collections.deque([1]),
    collections.defaultdict(list, a=[1]),
    bytearray(b"1"),
    range(3),
    Color.RED,
    Color.BLUE,
    pathlib.PurePosixPath("/a/b"),
    datetime.date(2024, 1, 1),
    datetime.datetime(2024, 1, 1),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(0))),
    datetime.time(1),
    datetime.timedelta(1),
    Point(1),
    Point(2),
    Point(1, [2]),
    Plain(1),
    Plain(2),
    int,
    list[int],
    list[str],
    len,
    math,
    Ellipsis,
    "\ud800",
    np.arange(3),
    np.arange(3.0),
    np.arange(4).reshape(2, 2),
    np.arange(4),
    np.array([1, "a", None], dtype=object),
    np.float64(1.0),
    np.int8(1),
    np.dtype("f4"),
    pd.DataFrame({"a": [1, 2]}),
    pd.DataFrame({"b": [1, 2]}),
    pd.DataFrame({"a": [1, 2]}, index=[1, 2]),
    pd.DataFrame({"a": ["x", None]}),
    pd.Series([1, 2]),
    pd.Series([1.0, 2.0]),
    pd.Series(["a", "b"], dtype="category"),
    pd.Timestamp("2024-01-01"),
    pd.Index([1, 2]),
]


def test_different_values_have_different_digests() -> None:
    digests = [value_digest(value) for value in VALUES]
    assert len(set(digests)) == len(VALUES)


def test_equal_values_have_equal_digests() -> None:
    import copy

    for value in VALUES:
        again = value if isinstance(value, types.ModuleType) else copy.deepcopy(value)
        assert value_digest(again) == value_digest(value), value


def test_the_order_of_dicts_and_sets_does_not_count() -> None:
    assert value_digest({"a": 1, "b": 2}) == value_digest({"b": 2, "a": 1})
    words = [str(i) for i in range(100)]
    backwards = words[::-1]
    assert value_digest(set(words)) == value_digest(set(backwards))


def test_an_object_that_cannot_be_taken_apart_is_known_by_its_class() -> None:
    assert value_digest(threading.Lock()) == value_digest(threading.Lock())
    assert value_digest(Plain(threading.Lock())) == value_digest(Plain(threading.Lock()))
    assert value_digest(iter([1])) != value_digest(threading.Lock())


def test_a_cached_property_that_was_read_does_not_count() -> None:
    value, other = Caching(), Caching()
    assert value.big == 3
    assert value_digest(value) == value_digest(other)


def test_cycles_in_values_end() -> None:
    def ring(n: int) -> list[Any]:
        items: list[Any] = [n]
        items.append({"self": items})
        return items

    assert value_digest(ring(1)) == value_digest(ring(1))
    assert value_digest(ring(1)) != value_digest(ring(2))


def test_values_nested_beyond_reason_are_refused_in_words() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    fn = define("def f():\n    return DEEP", DEEP=deep)
    with pytest.raises(CaptureError, match="nested too deeply"):
        digest(fn)
    # Taken apart by hand: the interpreter's own deallocation of such a list is not what is tested here.
    while deep:
        deep = deep.pop()


# -- other processes -----------------------------------------------------------------------------------------

JOB = '''
    """A user's own script."""
    import functools
    from dataclasses import dataclass, field
    import enum
    from far import deep, Base

    WORDS = {"a", "b", "c", "d", "e"}
    TABLE = {w: {1: [w]} for w in sorted(WORDS)}

    class Mode(enum.Enum):
        ON = "on"
        OFF = "off"

    @dataclass(frozen=True)
    class Options(Base):
        name: str = "x"
        tags: frozenset = frozenset({"p", "q", "r"})
        more: list = field(default_factory=list)

        def label(self):
            return f"{self.name!r:>{10}}" + self.kind

    OPTIONS = Options()

    @functools.lru_cache(maxsize=3)
    def cached(x):
        return x in {"u", "v", "w"}

    def make(n):
        def inner(x, *, k=n):
            return deep.run(x) + n + k if cached(x) else [i for i in WORDS if i != x]
        return inner

    f = make(3)

    def g(x: Options = OPTIONS, mode: "Mode | None" = Mode.ON) -> list:
        match x:
            case Options(name="x"):
                return TABLE, f(x), lambda y: y + 1, mode
        with open(x) as h:
            return h
'''
FAR = {
    "far/__init__.py": "class Base:\n    kind = 'base'\n    def who(self):\n        return super().__repr__()\n",
    "far/deep.py": "from . import Base\nLIMIT = 1.5\ndef run(x):\n    return (x, LIMIT, Base)\n",
}
ASK = """
import sys
sys.path[:0] = [{folder!r}, {root!r}]
import job
from mlfn.code.hashing.function import walk
for fn in (job.g, job.f, job.Options, job.OPTIONS.label):
    d = walk(fn).digest
    print(d.hexdigest, d.origin)
"""


def write_project(folder: Path) -> Path:
    for name, text in {"job.py": textwrap.dedent(JOB), **FAR}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def ask(folder: Path, *, seed: str, cwd: Path, python: str = sys.executable, script: str = ASK) -> list[str]:
    environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    text = script.format(folder=str(folder), root=str(ROOT))
    done = subprocess.run(
        [python, "-c", text], capture_output=True, text=True, env=environ, cwd=cwd, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_the_digest_is_the_same_in_any_process_folder_cwd_and_hash_seed(tmp_path: Path) -> None:
    first = write_project(tmp_path / "one")
    second = tmp_path / "elsewhere" / "two"
    shutil.copytree(first, second)
    answers = [ask(folder, seed=seed, cwd=cwd) for folder, seed, cwd in [
        (first, "0", tmp_path), (first, "1", first), (second, "2", tmp_path), (second, "3", second),
    ]]  # fmt: skip
    assert all(answer == answers[0] for answer in answers)
    assert all(line.endswith("source") for line in answers[0] if line)


def test_a_script_run_and_imported_has_one_digest(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "one")
    as_main = ASK.replace("import job\n", "import types\nimport runpy\nspace = runpy.run_path({folder!r} + '/job.py', "
                          "run_name='__main__')\njob = types.SimpleNamespace(**space)\n")  # fmt: skip
    assert ask(folder, seed="0", cwd=tmp_path)[0] == ask(folder, seed="1", cwd=tmp_path, script=as_main)[0]


def other_pythons() -> list[str]:
    found = [path for minor in (10, 11, 12, 13, 14) if (path := shutil.which(f"python3.{minor}"))]
    # A version manager leaves names that start nothing.
    return [
        path for path in found if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    ]


def test_ordinary_functions_have_one_digest_on_all_python_minors(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "one")
    here = ask(folder, seed="0", cwd=tmp_path)
    others = other_pythons()
    assert others, "no python3.N on the path: see CONTRIBUTING for those that the tests need"
    for python in others:
        assert ask(folder, seed="1", cwd=tmp_path, python=str(python)) == here, python


# -- properties ----------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "total"])
atoms = st.integers(-9, 9).map(str) | st.floats(0, 9, allow_nan=False).map(repr) | st.text("xy'", max_size=3).map(repr)
expressions = st.recursive(
    names | atoms,
    lambda e: (
        st.tuples(e, st.sampled_from(["+", "*", "==", "and"]), e).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | e.map(lambda x: f"[{x} for a in b]")
        | e.map(lambda x: f"(lambda c: {x})")
        | st.tuples(e, e).map(lambda t: f"{{{t[0]}: {t[1]}}}")
    ),
    max_leaves=6,
)
statements = st.lists(st.tuples(names, expressions), min_size=1, max_size=4)
gaps = st.lists(st.sampled_from(["", "    # a comment", "        # another", "   "]), max_size=3)


@settings(max_examples=150, deadline=None)
@given(body=statements, default=atoms, fillers=st.lists(gaps, min_size=4, max_size=4))
def test_layout_never_counts_in_generated_functions(
    body: list[tuple[str, str]], default: str, fillers: list[list[str]]
) -> None:
    lines = [f"    {name} = {value}" for name, value in body]
    plain = "\n".join([f"def f(a, b={default}):", *lines, "    return total"])
    spread = [f"def f(\n    a,\n    b=({default}),\n):", "    '''Doc.'''"]
    for line, filler in zip(lines, fillers):
        spread += [*filler, line.replace(" = ", "   =  ", 1) + "  # note"]
    airy = "\n".join(["# above", "", *spread, "", "    return total"])
    total = {"total": 1}
    assert hexdigest(plain, **total) == hexdigest(airy, **total)
    assert digest(define(plain, **total)).origin == "source"


@settings(max_examples=150, deadline=None)
@given(one=statements, two=statements)
def test_generated_functions_share_a_digest_only_when_they_say_the_same(
    one: list[tuple[str, str]], two: list[tuple[str, str]]
) -> None:
    import ast

    texts = ["\n".join(["def f(a, b):", *(f"    {n} = {v}" for n, v in body)]) for body in (one, two)]
    same = ast.dump(ast.parse(texts[0])) == ast.dump(ast.parse(texts[1]))
    assert (hexdigest(texts[0]) == hexdigest(texts[1])) is same


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda v: st.lists(v) | st.tuples(v, v) | st.dictionaries(st.text() | st.integers(), v),
    max_leaves=10,
)


def tagged(value: Any) -> Any:
    """A value with its types spelled out: 1, 1.0 and True are equal, and 0.0 and -0.0 are."""
    if isinstance(value, dict):
        return "dict", sorted(((repr((type(k), k)), tagged(v)) for k, v in value.items()), key=repr)
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [tagged(v) for v in value]
    return type(value).__name__, repr(value)


@settings(max_examples=200, deadline=None)
@given(plain_values, plain_values)
def test_plain_values_share_a_digest_only_when_equal_in_value_and_type(one: Any, two: Any) -> None:
    assert (value_digest(one) == value_digest(two)) is (tagged(one) == tagged(two))


# -- whose module --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["os", "json.decoder", "builtins", "sys", "numpy", "pandas.core", "mlfn", "mlfn.code.payload"]
)
def test_installed_modules_are_not_own(name: str) -> None:
    assert not is_own_module(name)


def test_own_modules_are_own(user_modules: Any) -> None:
    module = user_modules("hash_mine", "")
    assert is_own_module(module)
    assert is_own_module("hash_mine")
    assert is_own_module("__main__")
    assert is_own_module(__name__)
    assert is_own_module(types.ModuleType("made_up"))
    assert is_own_module("nowhere_to_be_found")


def test_asking_about_a_module_does_not_import_it(user_modules: Any) -> None:
    user_modules("hash_quiet.__init__", "raise RuntimeError", load=False)
    user_modules("hash_quiet.sub", "raise RuntimeError", load=False)
    assert is_own_module("hash_quiet.sub")
    assert "hash_quiet" not in sys.modules


def test_asking_in_threads_gives_one_answer() -> None:
    fn: Callable[..., Any] = define(PLAIN)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(digest(fn))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
