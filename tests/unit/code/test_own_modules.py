from __future__ import annotations

import functools
import pickle
import sys
import textwrap
import timeit
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlfn.code import payload
from mlfn.code.capture import capture
from mlfn.code.own_modules import own_modules_of

KEY = b"k" * 32

ITEMS = """
    from dataclasses import dataclass
    @dataclass
    class Item:
        x: int
        def double(self):
            return self.x * 2
    class Counter:
        count = 0
    def f(item):
        assert type(item) is Item, (type(item), Item)
        return item
    def count(counter):
        Counter.count += 1
        return counter.count
"""

# Calls the function on each of the arguments.
WORKER = """
    import pickle, sys
    from mlfn.code import payload
    key = b"k" * 32
    function, *arguments = pickle.load(sys.stdin.buffer)
    function = payload.unpack(function, key=key)
    results = [function(payload.unpack(argument, key=key)) for argument in arguments]
    sys.stdout.buffer.write(payload.pack(results, key=key, role="result", qualname="f", by_reference=NAMES))
"""

# Another caller, which packs an instance of the same class.
CALLER = """
    import sys
    sys.path.insert(0, FOLDER)
    import bel_items
    from mlfn.code import payload
    from mlfn.code.own_modules import own_modules_of
    value = bel_items.Item(5)
    names = own_modules_of(value)
    sys.stdout.buffer.write(payload.pack(value, key=b"k" * 32, role="inputs", qualname="f", by_value=names))
"""


def packed(value: Any) -> bytes:
    return payload.pack(value, key=KEY, role="inputs", qualname="f", by_value=own_modules_of(value))


def call(run_python: Callable[..., bytes], function: Any, *arguments: bytes) -> Any:
    captured = capture(function)
    sent = pickle.dumps([captured.payload(KEY), *arguments])
    return payload.unpack(run_python(WORKER.replace("NAMES", repr(captured.own_modules)), stdin=sent), key=KEY)


def cell(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)
    return space


def test_the_own_modules_of_an_argument(user_modules: Any) -> None:
    user_modules("bel_base", "class Base: pass\ndef helper(): return 1\n")
    module = user_modules(
        "bel_arg",
        "import bel_base\nclass A(bel_base.Base):\n    __slots__ = ('x',)\ndef f():\n    return bel_base.helper()\n",
    )
    both = ("bel_arg", "bel_base")
    assert own_modules_of({"a": [module.A()]}) == both
    assert own_modules_of(module.A) == both
    assert own_modules_of((functools.partial(module.f),)) == both
    holder = module.A()
    holder.x = {module.A}
    assert own_modules_of(holder) == both
    assert own_modules_of([1, "a", np.zeros(3), len, int]) == ()


def test_an_own_module_is_an_argument_and_an_installed_one_is_not_searched(
    user_modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = user_modules("own_items", ITEMS)
    monkeypatch.setattr(textwrap, "odd", type("Odd", (), {"__module__": 3}), raising=False)

    assert own_modules_of([own]) == ("own_items",)
    assert own_modules_of(textwrap) == own_modules_of(textwrap.odd) == ()  # type: ignore[attr-defined]


def test_scanning_data_is_cheap_and_ends() -> None:
    ring: list[Any] = [{"a": 1}] * 10
    ring.append(ring)
    assert own_modules_of(ring) == ()
    large = [list(range(10)) for _ in range(100_000)]
    some = large[:5000]
    ratio = timeit.timeit(lambda: own_modules_of(large), number=1) / timeit.timeit(
        lambda: own_modules_of(some), number=1
    )
    assert ratio < 20


def test_a_class_packed_by_two_processes_is_one_class_in_the_worker(
    run_python: Callable[..., bytes], user_modules: Any, tmp_path: Any
) -> None:
    module = user_modules("bel_items", ITEMS)
    elsewhere = run_python(CALLER.replace("FOLDER", repr(str(tmp_path / "project"))))
    ours, theirs = call(run_python, module.f, packed(module.Item(4)), elsewhere)
    assert (ours, theirs) == (module.Item(4), module.Item(5))
    assert type(ours) is type(theirs) is module.Item


def test_a_class_of_a_cell_that_ran_again_comes_back_as_the_latest(run_python: Callable[..., bytes]) -> None:
    source = "class P:\n    def __init__(self, x):\n        self.x = x\ndef f(p):\n    return p\n"
    spaces = [cell(source), cell(source)]
    sent = [packed(space["P"](i)) for i, space in enumerate(spaces)]
    results = call(run_python, spaces[1]["f"], *sent)
    assert [type(result) is spaces[1]["P"] for result in results] == [True, True]


def test_classes_that_say_the_same_in_two_modules_stay_two(run_python: Callable[..., bytes], user_modules: Any) -> None:
    text = "class Bad(Exception): pass\n"
    one, two = user_modules("bel_one", text), user_modules("bel_two", text)
    job = user_modules("bel_both", "import bel_one, bel_two\ndef f(x):\n    return bel_one.Bad(), bel_two.Bad()\n")
    ((first, second),) = call(run_python, job.f, packed(1))
    assert (type(first), type(second)) == (one.Bad, two.Bad)


def test_an_argument_does_not_reset_the_class_that_is_there(
    run_python: Callable[..., bytes], user_modules: Any
) -> None:
    module = user_modules("bel_items", ITEMS)
    counter = packed(module.Counter())
    assert call(run_python, module.count, counter, counter, counter) == [1, 2, 3]


def test_a_result_leaves_the_callers_class_and_capture_as_they_are(run_python: Callable[..., bytes]) -> None:
    space = cell("class P:\n    def m(self): return 1\ndef f(p):\n    return P()\n")
    before, captured = space["P"].m, capture(space["f"])
    (result,) = call(run_python, space["f"], packed(1))
    assert type(result) is space["P"]
    assert space["P"].m is before
    assert captured.is_current()


SCRIPT = """
    import dataclasses, enum
    class Bad(Exception):
        pass
    class Color(enum.Enum):
        RED = 1
    class Part:
        kinds = {}
        def __init_subclass__(cls):
            Part.kinds[cls.__name__] = cls
    @dataclasses.dataclass
    class Config:
        x: int
        color: Color = Color.RED
        class Small(Part):
            pass
        def grown(self):
            return helper(self.x)
    def make():
        return [Config(1), Color.RED, Bad("no"), Config.Small()]
"""
HELPER = "\n    def helper(x):\n        return x + 1\n"
# Yesterday's process, in which the whole script ran.
YESTERDAY = """
    import sys, types
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(SCRIPT, "<script>", "exec", dont_inherit=True), vars(sys.modules["__main__"]))
    from mlfn.code import payload
    from mlfn.code.own_modules import own_modules_of
    value = sys.modules["__main__"].make()
    own_modules_of(value)
    sys.stdout.buffer.write(payload.pack(value, key=b"k" * 32, role="value", qualname="x"))
"""


@pytest.mark.parametrize("helper", ["", HELPER, HELPER.replace("1", "2")], ids=["not yet", "the same", "changed"])
def test_a_value_of_yesterday_is_of_the_scripts_own_classes(
    run_python: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, helper: str
) -> None:
    sent = run_python(YESTERDAY.replace("SCRIPT", repr(textwrap.dedent(SCRIPT + HELPER))))
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec(compile(textwrap.dedent(SCRIPT + helper), "<script>", "exec", dont_inherit=True), vars(script))
    grown = script.Config.grown

    config, color, bad, small = payload.unpack(sent, key=KEY)

    assert config == script.Config(1) and color is script.Color.RED and type(bad) is script.Bad
    assert type(small) is script.Config.Small and script.Part.kinds == {"Small": script.Config.Small}
    assert script.Config.grown is grown


def test_a_value_of_a_class_that_was_rewritten_keeps_its_old_one(
    run_python: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = run_python(YESTERDAY.replace("SCRIPT", repr(textwrap.dedent(SCRIPT + HELPER))))
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec(textwrap.dedent(SCRIPT + HELPER).replace("x: int", "y: int"), vars(script))

    config = payload.unpack(sent, key=KEY)[0]

    assert type(config) is not script.Config and config.x == 1
