from __future__ import annotations

import fractions
import functools
import math
import sys
import textwrap
import threading
import timeit
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfn.code import payload
from mlfn.code.bundle import SourceFinder
from mlfn.code.capture import capture
from mlfn.code.sizes import estimated_size
from mlfn.errors import UnpicklableError

KEY = b"k" * 32

# A worker without any of the user's modules: calls the function on nothing and prints what it returns.
WORKER = """
    import sys
    from mlfn.code import payload
    function = payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32, role="function")
    print(repr(function()))
"""


class Notebook:
    """Cells run one after the other in one namespace, whose module nothing can import."""

    def __init__(self) -> None:
        self.space: dict[str, Any] = {"__name__": "__main__"}

    def run(self, source: str) -> None:
        exec(compile(textwrap.dedent(source), "<cell>", "exec", dont_inherit=True), self.space)

    def __getitem__(self, name: str) -> Any:
        return self.space[name]


def in_worker(run_python: Callable[..., bytes], fn: Any) -> str:
    return run_python(WORKER, stdin=capture(fn).payload(KEY)).decode().strip()


# -- how it travels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [textwrap.dedent, math.sqrt, np.mean, fractions.Fraction.from_float])
def test_an_installed_function_travels_by_its_name(fn: Any) -> None:
    captured = capture(fn)
    assert (captured.mode, captured.module, captured.qualname) == ("import", fn.__module__, fn.__qualname__)
    assert captured.own_modules == ()
    data = captured.payload(KEY)
    assert payload.read_header(data).role == "function"
    assert len(data) < 500
    assert payload.unpack(data, key=KEY) == fn


def test_a_declared_function_that_is_installed_unpacks_as_its_raw_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = textwrap.dedent
    declared = types.SimpleNamespace(__mlfn_function__=raw)
    monkeypatch.setattr(textwrap, "dedent", declared)
    captured = capture(declared)  # type: ignore[arg-type]
    assert captured.mode == "import"
    assert payload.unpack(captured.payload(KEY), key=KEY) is raw


SOURCES = [
    "def f():\n    return 42",
    "f = lambda: 42",
    "def g():\n    n = 42\n    def inner():\n        return n\n    return inner\nf = g()",
    "class F:\n    x = 42\n    def __call__(self):\n        return self.x\nf = F()",
    "class F:\n    x = 42\n    def run(self):\n        return self.x\nf = F().run",
    "import functools\ndef g(x):\n    return x\nf = functools.partial(g, 42)",
    "def a(n):\n    return b(n - 1) if n else 42\ndef b(n):\n    return a(n)\ndef f():\n    return a(3)",
    "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\np = P(42)\ndef f():\n    return p.x",
    "import enum\nclass E(enum.Enum):\n    X = 42\ndef f():\n    return E.X.value",
    "import json\ndef f():\n    return json.loads('42')",
    (
        "import functools\ndef deco(fn):\n    @functools.wraps(fn)\n    def w():\n        return fn() + 1\n    return w\n"
        "@deco\ndef f():\n    return 41"
    ),
]


@pytest.mark.parametrize("source", SOURCES)
def test_own_functions_of_any_shape_travel_from_a_notebook_and_from_a_module(
    source: str, run_python: Callable[..., bytes], user_modules: Any
) -> None:
    notebook = Notebook()
    notebook.run(source)
    module = user_modules("cap_shapes", source)
    for fn, own in ((notebook["f"], ()), (module.f, ("cap_shapes",))):
        captured = capture(fn)
        assert (captured.mode, captured.own_modules) == ("value", own)
        assert captured.is_current()
    assert in_worker(run_python, notebook["f"]) == "42"
    assert in_worker(run_python, module.f) == "42"


def test_own_modules_any_number_of_modules_away_travel_too(run_python: Callable[..., bytes], user_modules: Any) -> None:
    user_modules("cap_pkg.__init__", "import threading\nlock = threading.Lock()\n")
    user_modules("cap_pkg.deep", "from . import lock\nK = 40\ndef deep(x):\n    return x + K\n")
    user_modules("cap_pkg.mid", "from . import deep\ndef mid(x):\n    return deep.deep(x)\n")
    user_modules("cap_unused", "")
    job = user_modules("cap_top", "import cap_pkg.mid, cap_unused\ndef f():\n    return cap_pkg.mid.mid(2)\n")
    assert capture(job.f).own_modules == ("cap_pkg", "cap_pkg.deep", "cap_pkg.mid", "cap_top")
    assert in_worker(run_python, job.f) == "42"


def test_never_the_whole_notebook() -> None:
    notebook = Notebook()
    notebook.run("import threading\nlock = threading.Lock()\nbig = bytes(10**6)\nK = 1\ndef f():\n    return K")
    assert len(capture(notebook["f"]).payload(KEY)) < 2000


def test_modules_imported_within_the_function_travel_as_text(
    run_python: Callable[..., bytes], user_modules: Any
) -> None:
    user_modules("cap_lazy.__init__", "from .inner import K\n", load=False)
    user_modules("cap_lazy.inner", "import cap_far\nK = cap_far.K\n", load=False)
    user_modules("cap_far", "import json\nK = 42\n", load=False)
    job = user_modules("cap_user", "def f():\n    import cap_lazy.inner as i\n    return i.K\n")
    captured = capture(job.f)
    assert sorted(captured.sources) == ["cap_far", "cap_lazy", "cap_lazy.inner"]
    assert "cap_lazy" not in sys.modules
    assert in_worker(run_python, job.f) == "42"


def test_importable_files_are_not_replaced_by_their_text(user_modules: Any) -> None:
    user_modules("cap_here", "K = 42\n", load=False)
    job = user_modules("cap_user2", "def f():\n    import cap_here\n    return cap_here.K\n")
    assert payload.unpack(capture(job.f).payload(KEY), key=KEY)() == 42
    assert SourceFinder not in sys.meta_path


def test_a_worker_that_is_used_again_imports_the_text_of_the_newer_function(
    run_python: Callable[..., bytes], user_modules: Any, tmp_path: Path
) -> None:
    user_modules("cap_again", "K = 1\n", load=False)
    job = user_modules("cap_user3", "def f():\n    import cap_again\n    return cap_again.K\n")
    first = capture(job.f).payload(KEY)
    (tmp_path / "project" / "cap_again.py").write_text("K = 22\n")
    second = capture(job.f).payload(KEY)
    script = """
        import sys
        from mlfn.code import payload
        data = sys.stdin.buffer.read()
        size = int(data[:8])
        for sent in (data[8:8 + size], data[8 + size:]):
            print(payload.unpack(sent, key=b"k" * 32)())
    """
    assert run_python(script, stdin=b"%8d" % len(first) + first + second).split() == [b"1", b"22"]


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_type_hints_can_be_resolved_in_the_worker(
    future: str, run_python: Callable[..., bytes], user_modules: Any
) -> None:
    user_modules("cap_schema", "from dataclasses import dataclass\n@dataclass\nclass Item:\n    x: int\n")
    job = user_modules(
        "cap_hints",
        future + "import json\nimport cap_schema\nfrom typing import Any\n"
        "def f(a: cap_schema.Item, b: 'json.JSONDecoder | None' = None) -> Any:\n    return 1\n",
    )
    script = """
        import sys, typing
        from mlfn.code import payload
        f = payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32)
        print(typing.get_type_hints(f)["a"].__name__, sorted(typing.get_type_hints(f)))
    """
    captured = capture(job.f)
    assert "cap_schema" in captured.own_modules
    assert run_python(script, stdin=captured.payload(KEY)).decode().strip() == "Item ['a', 'b', 'return']"


def test_the_payload_is_packed_once_per_key() -> None:
    captured = capture(lambda: 1)
    assert captured.payload(KEY) is captured.payload(KEY)
    assert captured.payload(b"other") != captured.payload(KEY)


def test_what_cannot_travel_is_named_by_its_path_when_packed() -> None:
    notebook = Notebook()
    notebook.run("class C: pass\nimport threading\nconfig = C()\nconfig.logger = C()\n")
    notebook.run("config.logger.lock = threading.Lock()\ndef train():\n    return config\n")
    captured = capture(notebook["train"])
    with pytest.raises(UnpicklableError, match=r"^train -> config\.logger -> lock cannot travel"):
        captured.payload(KEY)


def test_what_cannot_travel_is_named_through_annotations_and_own_modules(user_modules: Any) -> None:
    user_modules(
        "cap_locked",
        "import threading\nlock = threading.Lock()\nother = threading.Lock()\nclass Never: pass\n",
    )
    job = user_modules(
        "cap_locking", "import cap_locked\ndef f(x: cap_locked.Never = None):\n    return cap_locked.lock\n"
    )
    with pytest.raises(UnpicklableError, match=r"^f -> cap_locked -> lock cannot travel"):
        capture(job.f).payload(KEY)


def test_large_values_are_named_with_their_size() -> None:
    notebook = Notebook()
    notebook.run(
        "import numpy as np\nrows = np.zeros(2**18)\nsmall = [1]\nclass C: pass\nbox = C()\nbox.t = bytes(2**21)"
    )
    notebook.run("def f(x=rows, *, k='a' * 2**21):\n    return rows, small, box")
    named = dict(capture(notebook["f"]).large)
    assert set(named) == {"f -> x", "f -> k", "f -> rows", "f -> box"}
    assert named["f -> rows"] == 2**21
    assert all(2**21 <= size < 2**21 + 4096 for size in named.values())


def test_the_size_of_a_long_list_is_estimated_from_a_sample() -> None:
    rows = [bytes(100) for _ in range(100_000)]
    assert 0.9 < estimated_size(rows) / (100_000 * (133 + 8)) < 1.1
    ring: list[Any] = []
    ring.extend([ring] * 1000)
    assert estimated_size(ring) < 20_000


def test_a_cell_of_a_real_notebook_travels_with_the_helpers_of_other_cells(
    run_python: Callable[..., bytes],
) -> None:
    script = """
        import sys
        from IPython.core.interactiveshell import InteractiveShell
        from mlfn.code.capture import capture
        shell = InteractiveShell.instance()
        shell.run_cell("def helper(x):\\n    if x > 100: get_ipython()\\n    return x * 2")
        shell.run_cell("unrelated = open('/dev/null')\\ndef train():\\n    # why\\n    return helper(21)")
        captured = capture(shell.user_ns["train"])
        assert captured.digest.origin == "source" and captured.is_current()
        data = captured.payload(b"k" * 32)
        shell.run_cell("def helper(x):\\n    return x * 3")
        assert not captured.is_current()
        sys.stdout.buffer.write(data)
    """
    assert run_python(WORKER, stdin=run_python(script)).strip() == b"42"


# -- is it still so? -----------------------------------------------------------------------------------------

CELLS = """
    import functools
    RATE = 1
    TABLE = {"a": [1]}
    class Config:
        limit = 1
        names = []
        def method(self):
            return 1
    class Narrow(Config):
        pass
    config, narrow = Config(), Narrow()
    def helper(x):
        return x * RATE
    def make():
        n = 1
        box = []
        def inner():
            return n, box
        def change(value):
            nonlocal n
            n = value
        return inner, change, box
    inner, change, box = make()
    @functools.lru_cache
    def cached():
        return 1
    @functools.singledispatch
    def single(x):
        return 1
    def f(x=None, *, opts={"a": 1}):
        return single(x), helper(x), TABLE, config.limit, narrow.limit, inner(), cached(), later()
"""


@pytest.mark.parametrize(
    "change",
    [
        "RATE = 2",
        "RATE = 1.0",
        "def helper(x):\n    return x",
        "helper.__defaults__ = (1,)",
        "helper.__code__ = (lambda x: x).__code__",
        "TABLE['a'].append(2)",
        "TABLE['b'] = 1",
        "TABLE = {}",
        "config.limit = 2",
        "Config.limit = 2",
        "Config.names.append(1)",
        "Narrow.limit = 2",
        "narrow.limit = 2",
        "Config.method = lambda self: 2",
        "change(2)",
        "box.append(1)",
        "f.__kwdefaults__['opts']['a'] = 2",
        "f.__defaults__ = (1,)",
        "def cached():\n    return 2",
        "def later():\n    return 1",
        "del RATE",
        "single.register(int, lambda x: 2)",
    ],
)
def test_a_change_of_anything_it_reaches_is_noticed(change: str) -> None:
    notebook = Notebook()
    notebook.run(CELLS)
    captured = capture(notebook["f"])
    assert captured.is_current()
    notebook.run(change)
    assert not captured.is_current()


@pytest.mark.parametrize(
    "change",
    [
        "pass",
        "OTHER = 1",
        "RATE = 1",
        "def unrelated():\n    return 1",
        "helper(3)",
        "cached()",
        "inner()",
        "change(1)",
    ],
)
def test_anything_else_is_not(change: str) -> None:
    notebook = Notebook()
    notebook.run(CELLS)
    captured = capture(notebook["f"])
    notebook.run(change)
    assert captured.is_current()


def test_calling_it_leaves_the_capture_current() -> None:
    notebook = Notebook()
    notebook.run(CELLS + "    def later():\n        return 1\n")
    captured = capture(notebook["f"])
    notebook["f"](2)
    assert captured.is_current()
    assert capture(notebook["f"]).digest == captured.digest


@pytest.mark.parametrize(
    ("source", "change"),
    [
        (
            "class F:\n    def __init__(self):\n        self.x = 1\n    def __call__(self):\n        return 1\nf = F()",
            "f.x = 2",
        ),
        ("import functools\nitems = [1]\nf = functools.partial(len, items)", "items.append(2)"),
        ("class F:\n    x = 1\n    def run(self):\n        return 1\no = F()\nf = o.run", "o.x = 2"),
    ],
)
def test_the_state_of_a_callable_that_is_no_function_is_watched(source: str, change: str) -> None:
    notebook = Notebook()
    notebook.run(source)
    captured = capture(notebook["f"])
    assert captured.is_current()
    notebook.run(change)
    assert not captured.is_current()


def test_a_change_in_another_module_is_noticed(user_modules: Any, tmp_path: Path) -> None:
    lib = user_modules("cap_lib", "def clean(x):\n    return x\nOTHER = 1\n")
    user_modules("cap_text", "K = 1\n", load=False)
    job = user_modules("cap_job", "import cap_lib\ndef f():\n    import cap_text\n    return cap_lib.clean(1)\n")
    captured = capture(job.f)
    lib.OTHER = 2
    job.f()
    assert captured.is_current()
    lib.clean = lambda x: 2
    assert not captured.is_current()
    again = capture(job.f)
    assert again.is_current()
    (tmp_path / "project" / "cap_text.py").write_text("K = 1234\n")
    assert not again.is_current()


def test_asking_a_plain_function_is_cheap() -> None:
    notebook = Notebook()
    notebook.run("A = 1\nB = 'b'\ndef h(x):\n    return x + A\ndef f(x=1):\n    return h(x), B, len('a')")
    captured = capture(notebook["f"])
    seconds = min(timeit.repeat(captured.is_current, number=1000, repeat=5)) / 1000
    plain = min(timeit.repeat(lambda: textwrap.dedent(" a\n b"), number=1000, repeat=5)) / 1000
    assert seconds < 20 * plain


def test_captures_made_in_threads_agree() -> None:
    notebook = Notebook()
    notebook.run(CELLS)
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(capture(notebook["f"]).digest.hexdigest)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(digests)) == 1


def test_a_partial_bears_the_name_of_its_function() -> None:
    notebook = Notebook()
    notebook.run("def g(x):\n    return x")
    assert capture(functools.partial(notebook["g"], 1)).qualname == "g"
