from __future__ import annotations

import textwrap
import types
from collections.abc import Callable
from typing import Any

import pytest

from mlfn.code import payload
from mlfn.code.capture import capture
from mlfn.code.own_modules import own_modules_of

KEY = b"k" * 32
# Loads a function and its parameter as the one plan of this process, and answers what the function returns.
WORKER = """
    import io, sys
    from mlfn.code import envelope, payload
    size, own = {size}, {own!r}
    data = sys.stdin.buffer.read()
    function, value = data[:size], data[size:]
    def pin(part):
        return envelope.pin_of(io.BytesIO(part), b"k" * 32)
    function = payload.unpack_function(function, pin=pin(function), own=None if {only_main} else own)
    given = payload.unpack_pinned(value, pin=pin(value), role="value")
    sys.stdout.buffer.write(payload.pack(function(*given), key=b"k" * 32, role="result", qualname="f", by_reference=own))
"""
Ask = Callable[..., Any]


@pytest.fixture
def ask(run_python: Callable[..., bytes]) -> Ask:
    """Return what a function returns in a process that has none of the user's files."""

    def in_worker(function: Any, *given: Any, only_main: bool = False) -> Any:
        captured = capture(function)
        sent = captured.payload(KEY)
        value = payload.pack(given, key=KEY, role="value", qualname="given", by_value=own_modules_of(given))
        worker = WORKER.format(size=len(sent), own=captured.own_modules, only_main=only_main)
        return payload.unpack(run_python(worker, stdin=sent + value), key=KEY)

    return in_worker


def main(script: str) -> types.ModuleType:
    """Return a module whose code travels by value, as a script's does."""
    module = types.ModuleType("__main__")
    exec(compile(textwrap.dedent(script), "<script>", "exec", dont_inherit=True), vars(module))
    return module


HELPERS = """
    import dataclasses
    level = 0
    @dataclasses.dataclass
    class Config:
        rate: int
        class Inner: pass
    class Problem(Exception): pass
    def square(x): return x * x
    def set_level(n):
        global level
        level = n
    def get_level(): return level
    def fail(): raise Problem("p")
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return pickle.loads(pickle.dumps(Config(1))) == Config(1)", True),
        ("return pickle.loads(pickle.dumps(square)) is square", True),
        ("return type(pickle.loads(pickle.dumps(Config.Inner()))) is Config.Inner", True),
        ("helpers.level = 7; return helpers.get_level()", 7),
        ("set_level(8); return helpers.level, helpers.get_level()", (8, 8)),
        ("import helpers as h; return h.square is square, h.Config is Config", (True, True)),
        ("import helpers as h; return h is helpers, str(helpers.level)", (True, "0")),
        ("import helpers as h; h.set_level(3); from helpers import level; return level, helpers.level", (3, 3)),
        (
            "return inspect.getmodule(square).__name__, sys.modules[square.__module__].square is square",
            ("helpers", True),
        ),
    ],
)
def test_a_module_is_one_with_its_code(ask: Ask, user_modules: Any, body: str, expected: Any) -> None:
    user_modules("helpers", HELPERS)
    head = "import inspect, pickle, sys, helpers\nfrom helpers import Config, square, set_level\n"
    module = user_modules("calling", f"{head}def f():\n    __import__('helpers')\n    {body}\n")
    assert ask(module.f) == expected


@pytest.mark.parametrize("made", ["square", "Config(1)", "helpers.Problem()"])
def test_what_an_engine_gets_is_no_name_of_a_module_that_it_lacks(ask: Ask, user_modules: Any, made: str) -> None:
    user_modules("helpers", HELPERS)
    body = f"try: pickle.dumps([{made}])\n    except Exception: return 'whole'\n    return 'by its name'"
    module = user_modules(
        "calling", f"import pickle, helpers\nfrom helpers import Config, square\ndef f():\n    {body}\n"
    )

    assert ask(module.f) == "by its name"
    assert ask(module.f, only_main=True) == "whole"  # by cloudpickle, to which engines turn then


def test_a_name_of_main_is_set_for_all(ask: Ask) -> None:
    module = main(
        """
        count = 0
        def add():
            global count
            count += 1
        def f():
            import __main__
            add()
            __main__.count += 1
            return count, __main__.__name__, __main__.f is f
        """
    )
    assert ask(module.f) == (2, "__main__", True)


def test_the_handler_is_found_by_pickle(ask: Ask) -> None:
    module = main(
        "import pickle, sys\ndef f():\n    return pickle.loads(pickle.dumps(sys.modules['__main__'].f)).__name__\n"
    )
    assert ask(module.f) == "f"


def test_what_a_parameter_brings_is_found(ask: Ask, user_modules: Any) -> None:
    unseen = user_modules("unseen", "class Outer:\n    class Inner: pass\ndef twice(x): return 2 * x\n")
    module = main(
        "import pickle\ndef f(value, function):\n"
        "    found = pickle.loads(pickle.dumps([value, function]))\n"
        "    return type(found[0]) is type(value), found[1] is function, type(value).__qualname__\n"
    )
    given = main("class Outer:\n    class Inner: pass\ndef twice(x): return 2 * x\n")
    assert ask(module.f, given.Outer.Inner(), given.twice) == (True, True, "Outer.Inner")
    assert ask(module.f, unseen.Outer.Inner(), len) == (True, True, "Outer.Inner")


def test_a_function_used_and_passed_is_one(ask: Ask) -> None:
    module = main("def square(x): return x * x\ndef f(function):\n    return function is square\n")
    assert ask(module.f, module.square) is True


def test_another_function_of_that_name_stays_another(ask: Ask) -> None:
    module = main("def square(x): return x * x\ndef f(function):\n    return function(3), square(3)\n")
    other = main("def square(x): return -x\n")
    assert ask(module.f, other.square) == (-3, 9)


def test_an_older_function_keeps_its_globals(ask: Ask) -> None:
    module = main("rate = 1\ndef f(function):\n    return function(), rate\n")
    other = main("rate = 2\ndef read(): return rate\n")
    assert ask(module.f, other.read) == (2, 1)


def test_two_namespaces_of_one_name_stay_two(ask: Ask) -> None:
    module = main(
        "rate = 1\nother = {'__name__': '__main__'}\nexec('rate = 2\\ndef read(): return rate', other)\nread = other['read']\n"
    )
    exec("def f():\n    return rate, read()\n", vars(module))
    assert ask(module.f) == (1, 2)


def test_a_class_that_a_library_made_changes_no_library(ask: Ask) -> None:
    module = main(
        "import json\ndef f(made):\n    import textwrap\n    return hasattr(textwrap, 'Made'), textwrap.dedent(' a')\n"
    )
    made = type("Made", (), {"__module__": "textwrap"})
    assert ask(module.f, made) == (False, "a")


def test_a_package_without_files_is_imported(ask: Ask, user_modules: Any) -> None:
    user_modules("pkg.__init__", "")
    user_modules("pkg.part", "def cube(x): return x ** 3\n")
    module = main(
        "import pickle\nfrom pkg.part import cube\ndef f():\n    return pickle.loads(pickle.dumps(cube)) is cube\n"
    )
    assert ask(module.f) is True


HINTED = """
    from __future__ import annotations
    import dataclasses, threading, typing
    @dataclasses.dataclass
    class Deep:
        x: Id
    @dataclasses.dataclass
    class Inner:
        deep: list[Deep]
    class Config:
        inner: Inner
    Id = typing.NewType("Id", int)
    def f():
        return [sorted(typing.get_type_hints(typing.get_type_hints(Config)["inner"])), Config.__name__]
"""


def test_what_annotations_name_as_text_is_there(ask: Ask) -> None:
    assert ask(main(HINTED).f) == [["deep"], "Config"]


def test_a_hint_that_cannot_travel_stays_behind(ask: Ask) -> None:
    module = main(HINTED + "    def f():\n        return Config.__name__\n    Deep.lock = threading.Lock()\n")
    assert ask(module.f) == "Config"


def test_a_module_that_only_a_hint_needs_travels(ask: Ask, user_modules: Any) -> None:
    user_modules("hinting", "class Base:\n    value = 3\n")
    module = main(
        "from __future__ import annotations\nimport typing, hinting\nclass Kind(hinting.Base): pass\nclass Config:\n    kind: Kind\n"
        "def f():\n    return typing.get_type_hints(Config)['kind'].value\n"
    )
    assert ask(module.f) == 3
