"""Classes and wrappers of the user's own code, made again in a process without it."""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import pytest

from mlfn.code import payload
from mlfn.code.capture import capture
from mlfn.code.own_modules import own_modules_of

KEY = b"k" * 32

# Calls the function of a payload and answers with what it returns.
WORKER = """
    import sys
    from mlfn.code import payload
    function = payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32)
    sys.stdout.buffer.write(payload.pack(function(), key=b"k" * 32, role="result", qualname="f"))
"""


@pytest.fixture
def ask(run_python: Callable[..., bytes]) -> Callable[..., Any]:
    """Return what the function `f` of a script returns where a worker calls it."""

    def in_worker(script: str | types.ModuleType) -> Any:
        module = main(script) if isinstance(script, str) else script
        sent = capture(module.f).payload(KEY)
        return payload.unpack(run_python(WORKER, stdin=sent), key=KEY)

    return in_worker


def main(script: str) -> types.ModuleType:
    """Return a module whose code travels by value, as a script's does."""
    module = types.ModuleType("__main__")
    exec(compile(textwrap.dedent(script), "<script>", "exec", dont_inherit=True), vars(module))
    return module


# -- classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "expression", "expected"),
    [
        ("class C(typing.NamedTuple):\n    x: int\n    y: int = 2", "C(1).y + C(1)._replace(x=5).x", 7),
        ("class C(typing.TypedDict):\n    x: int", "(C(x=1), C.__required_keys__)", ({"x": 1}, frozenset({"x"}))),
        ("C = collections.namedtuple('C', 'x')", "C(1).x", 1),
        ("class C(typing.Generic[T]): pass", "(C[int](), C.__parameters__)[1][0].__name__", "T"),
        ("class C(typing.Protocol):\n    def go(self): ...", "hasattr(C, '_is_protocol')", True),
        ("class C(tuple):\n    __slots__ = ()", "C((1, 2))[1]", 2),
        ("class C:\n    __slots__ = ('__x',)\n    def __init__(self): self.__x = 3", "C()._C__x", 3),
        (
            "class C:\n    __slots__ = {'x': 'a doc'}",
            "(C.__slots__, hasattr(C(), '__dict__'))",
            ({"x": "a doc"}, False),
        ),
        ("class C:\n    class D:\n        pass", "C.D.__qualname__", "C.D"),
        (
            "class C(abc.ABC):\n    @abc.abstractmethod\n    def go(self): ...\nC.register(int)",
            "isinstance(1, C)",
            True,
        ),
        ("class C(Exception):\n    code = 3", "C('no').args, C.code", (("no",), 3)),
        ("class B: v = 1\nclass C(B): v = 1", "setattr(B, 'v', 2) or C.v", 1),
        ("class A: v = 1\nclass B(A): pass\nclass D: v = 2\nclass C(B, D): v = D.v", "C.v", 2),
        ("@dataclasses.dataclass(frozen=True, slots=True)\nclass C:\n    x: int = 4", "C().x", 4),
    ],
)
def test_a_class_of_a_script_is_made_again(ask: Any, definition: str, expression: str, expected: Any) -> None:
    head = "import abc, collections, dataclasses, typing\nT = typing.TypeVar('T')\n"

    assert ask(f"{head}{definition}\ndef f(): return {expression}") == expected


HOOKS = {
    "a required keyword": """
        class Base:
            def __init_subclass__(cls, *, kind, **more):
                super().__init_subclass__(**more)
                cls.kind = kind
        class C(Base, kind=3):
            pass
    """,
    "class attributes": """
        class Base:
            def __init_subclass__(cls, **more):
                cls.kind = cls.half + 2
        class C(Base):
            half = 1
    """,
    "a metaclass that checks": """
        class Meta(type):
            def __new__(meta, name, bases, body, kind=None):
                if bases and "run" not in body:
                    raise TypeError("run is missing")
                return super().__new__(meta, name, bases, body)
            def __init__(cls, name, bases, body, kind):
                cls.kind = kind
            def __setattr__(cls, name, value):
                if name != "kind":
                    raise AttributeError("classes do not change")
                super().__setattr__(name, value)
        class Base(metaclass=Meta, kind=0):
            pass
        class C(Base, kind=3):
            def run(self):
                return 1
    """,
    "a descriptor": """
        class Named:
            def __set_name__(self, owner, name):
                if hasattr(self, "name"):
                    raise TypeError("named twice")
                self.name = name
        class C:
            kind = 3
            field = Named()
    """,
    "a generic base": """
        import typing
        T = typing.TypeVar("T")
        class Base(typing.Generic[T]):
            def __init_subclass__(cls, *, kind, **more):
                super().__init_subclass__(**more)
                cls.kind = kind
        class C(Base[int], kind=3):
            pass
    """,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_class_is_made_again_without_what_ran_at_its_definition(ask: Any, hook: str) -> None:
    assert ask(textwrap.dedent(HOOKS[hook]) + "\ndef f(): return C.kind, C.__name__, type(C()) is C") == (3, "C", True)


def test_hooks_run_in_a_worker_for_the_classes_that_are_defined_there(ask: Any) -> None:
    script = (
        textwrap.dedent(HOOKS["a required keyword"]) + "\ndef f():\n    class D(Base, kind=4): pass\n    return D.kind"
    )

    assert ask(script) == 4


REGISTRY = """
    class Shape:
        kinds = {}
        def __init_subclass__(cls):
            Shape.kinds[cls.__name__] = cls
    class Circle(Shape):
        radius = 1
    def f():
        return Circle()
"""


def test_a_result_leaves_the_callers_registry_of_subclasses_alone(ask: Any) -> None:
    module = main(REGISTRY)

    found = ask(module)

    assert type(found) is module.Circle and module.Shape.kinds == {"Circle": module.Circle}
    assert module.Circle.radius == 1


def test_a_class_of_another_version_leaves_the_callers_registry_alone(ask: Any) -> None:
    module, other = main(REGISTRY), main(REGISTRY)
    own_modules_of(module.f)
    other.Circle.radius = 2
    other.Shape, other.Circle.__bases__ = module.Shape, (module.Shape,)
    module.Shape.kinds["Circle"] = module.Circle

    assert ask(other).radius == 2
    assert module.Shape.kinds == {"Circle": module.Circle}


def test_the_fields_of_a_dataclass_keep_what_says_that_they_have_no_default(ask: Any) -> None:
    script = """
        import dataclasses
        @dataclasses.dataclass
        class C:
            x: int
            y: list = dataclasses.field(default_factory=list)
        def f():
            @dataclasses.dataclass
            class D(C):
                z: int = 3
            x, y = dataclasses.fields(C)
            return x.default is y.default is dataclasses.MISSING, D(1)
    """
    missing, made = ask(script)

    assert missing and (made.x, made.y, made.z) == (1, [], 3)


def test_a_parametrized_model_is_one_class(ask: Any) -> None:
    module = main("""
        import typing, pydantic
        T = typing.TypeVar("T")
        class Box(pydantic.BaseModel, typing.Generic[T]):
            item: T
        IntBox = Box[int]
        def f(): return IntBox is Box[int], IntBox(item=3)
    """)

    same, box = ask(module)

    assert same and type(box) is module.IntBox and box.item == 3


def test_what_stood_around_a_model_does_not_travel_with_it(ask: Any) -> None:
    module = main("""
        import pydantic, threading
        lock = threading.Lock()
        def define():
            beside = lock
            class Point(pydantic.BaseModel):
                x: int
            return Point
        Point = define()
        def f(): return Point(x=3).x
    """)

    assert ask(module) == 3


def test_a_generic_alias_in_an_annotation_travels(ask: Any) -> None:
    assert ask("def f(n: list[int] | None = None) -> tuple[str, float]: return 'model', 0.5") == ("model", 0.5)


ERRORS = """
    class MyErr(Exception):
        limit = 1
    class Other(MyErr):
        pass
    def fail(): raise Other("no")
"""


def test_a_class_by_value_is_the_one_that_the_function_imports(ask: Any, user_modules: Any) -> None:
    errors = user_modules("cls_errors", ERRORS)
    errors.MyErr.limit = 2
    job = user_modules(
        "cls_job",
        """
        import cls_errors
        from cls_errors import MyErr
        def f():
            import cls_errors as imported
            try:
                imported.fail()
            except MyErr as error:
                return imported.MyErr is MyErr, isinstance(error, cls_errors.Other), MyErr.limit
        """,
    )
    assert ask(job) == (True, True, 2)


def test_a_class_whose_module_cannot_be_imported_in_the_worker_travels_by_value(ask: Any, user_modules: Any) -> None:
    user_modules(
        "cls_once", "import sys\nif not hasattr(sys, 'cls_once'): raise SystemExit('once')\nclass K: x = 1", load=False
    )
    sys.cls_once = True
    job = user_modules(
        "cls_user", "from cls_once import K\ndef f(again=False):\n    if again: import cls_once\n    return K.x"
    )
    del sys.cls_once

    assert ask(job) == 1


# -- enums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "expression", "expected"),
    [
        (
            "class E(enum.Enum):\n    EARTH = (5.9, 6.3)\n    def __init__(self, mass, radius): self.mass = mass",
            "E.EARTH.mass, E.EARTH.value, E((5.9, 6.3)) is E.EARTH",
            (5.9, (5.9, 6.3), True),
        ),
        (
            (
                "class E(enum.Enum):\n    A = ('a', 'one')\n    def __new__(cls, value, label):\n"
                "        self = object.__new__(cls)\n        self._value_, self.label = value, label\n        return self"
            ),
            "E('a').label, [m.name for m in E]",
            ("one", ["A"]),
        ),
        (
            (
                "class E(int, enum.Enum):\n    A = (1, 'one')\n    def __new__(cls, value, label):\n"
                "        self = int.__new__(cls, value + 10)\n        self._value_, self.label = value, label\n        return self"
            ),
            "E(1).label, E.A + 1, E.A.value",
            ("one", 12, 1),
        ),
        (
            (
                "class Auto(enum.Enum):\n    def __new__(cls):\n        self = object.__new__(cls)\n"
                "        self._value_ = len(cls.__members__) + 1\n        return self\nclass E(Auto):\n    A = ()\n    B = ()"
            ),
            "[(m.name, m.value) for m in E]",
            [("A", 1), ("B", 2)],
        ),
        ("class E(enum.Enum):\n    A = 1\n    ALIAS = 1", "E['ALIAS'] is E.A, E.ALIAS is E.A, len(E)", (True, True, 1)),
        (
            "class E(enum.IntFlag):\n    R = 4\n    RWX = 7",
            "E.RWX.value, E.RWX & E.R is E.R, (E.R | 1).value",
            (7, True, 5),
        ),
        ("class E(enum.IntFlag):\n    RWX = 7\n    RW = 6", "E.RWX.value, E['RW'].value, E(7) is E.RWX", (7, 6, True)),
        (
            "class E(enum.Flag):\n    A = enum.auto()\n    B = enum.auto()",
            "(E.A | E.B).value, (~E.A) is E.B",
            (3, True),
        ),
        ("class E(str, enum.Enum):\n    A = 'a'", "E.A.upper(), E('a') is E.A", ("A", True)),
        (
            "class E(datetime.date, enum.Enum):\n    A = 2024, 5, 1",
            "E.A.year, E.A.value == datetime.date(2024, 5, 1)",
            (2024, True),
        ),
        ("class E(tuple, enum.Enum):\n    A = 1, 2", "E.A[1], tuple(E.A.value)", (2, (1, 2))),
        (
            (
                "class Data:\n    def double(self): return 2 * self.x\nclass E(Data, enum.Enum):\n    A = 3\n"
                "    def __init__(self, x): self.x = x"
            ),
            "E.A.double()",
            6,
        ),
        ("@dataclasses.dataclass\nclass D:\n    x: int\nclass E(D, enum.Enum):\n    A = 3", "E.A.x", 3),
        (
            (
                "class E(enum.Enum):\n    A = 'a'\n    @classmethod\n    def _missing_(cls, value): return cls.A\n"
                "    @property\n    def loud(self): return self.value.upper()"
            ),
            "E('zzz').loud",
            "A",
        ),
        (
            "class Lower(enum.Enum):\n    @staticmethod\n    def _generate_next_value_(name, *rest): return name.lower()",
            "Lower('E', 'AB CD').CD.value",
            "cd",
        ),
        ("class E(enum.Enum):\n    A = []", "E([]) is E.A", True),
    ],
)
def test_an_enum_of_a_script_is_made_again(ask: Any, definition: str, expression: str, expected: Any) -> None:
    assert ask(f"import dataclasses, datetime, enum\n{definition}\ndef f(): return {expression}") == expected


def test_a_member_of_an_enum_comes_back_as_the_callers_own(ask: Any) -> None:
    module = main(
        "import enum\nclass E(enum.Enum):\n    A = 1\n    def __init__(self, value): self.made = value\ndef f(): return E.A"
    )

    assert ask(module) is module.E.A


# -- wrappers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "expression", "expected"),
    [
        ("@functools.lru_cache\ndef slow(x): return x + 1", "slow(1), slow.cache_info().misses", (2, 1)),
        ("@functools.cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)", "fib(30)", 832040),
        (
            "@functools.lru_cache(maxsize=3, typed=True)\ndef slow(x): return x",
            "slow.cache_parameters()",
            {"maxsize": 3, "typed": True},
        ),
        ("@functools.cache\ndef slow(x): return x\nslow.calls = 7", "slow.calls, slow.__name__", (7, "slow")),
        ("class C:\n    @functools.cache\n    def go(self, x): return x + 1", "C().go(1)", 2),
        ("class C:\n    @functools.cached_property\n    def x(self): return 3", "C().x", 3),
        ("size = functools.cache(len)", "size('abc')", 3),
        (
            "Id = typing.NewType('Id', int)",
            "Id(3), Id.__name__, Id.__supertype__, Id.__module__",
            (3, "Id", int, "__main__"),
        ),
        ("P = typing.ParamSpec('P')\ndef call(g: typing.Callable[P, int]): return P.__name__", "call(len)", "P"),
        (
            (
                "@functools.singledispatch\ndef show(x): return 'any'\n@show.register\ndef _(x: int): return 'int'\n"
                "class K: pass\n@show.register(K)\ndef _(x): return show(1)"
            ),
            "show('a'), show(1), show(K())",
            ("any", "int", "int"),
        ),
        (
            (
                "class C:\n    @functools.singledispatchmethod\n    def show(self, x): return 'any'\n"
                "    @show.register\n    def _(self, x: int): return 'int'"
            ),
            "C().show('a'), C().show(1)",
            ("any", "int"),
        ),
    ],
)
def test_a_wrapper_of_a_scripts_function_is_made_again(
    ask: Any, definition: str, expression: str, expected: Any
) -> None:
    assert ask(f"import functools, typing\n{definition}\ndef f(): return {expression}") == expected


def test_one_type_is_one_in_a_payload(ask: Any) -> None:
    script = """
        import typing_extensions as t
        Ts, Id = t.TypeVarTuple("Ts"), t.NewType("Id", int)
        def g(): return Ts, Id
        def f(): return g() == (Ts, Id), Ts.__name__
    """
    assert ask(script) == (True, "Ts")


# -- what functions share ------------------------------------------------------------------------------------


def test_closures_share_their_variables(ask: Any) -> None:
    script = """
        def counter():
            n = 0
            def add():
                nonlocal n
                n += 1
            def read(): return n
            return add, read
        add, read = counter()
        def f():
            add()
            return read()
    """
    assert ask(script) == 1


def test_a_closure_that_refers_to_itself_travels(ask: Any) -> None:
    script = """
        def made():
            def even(n): return n == 0 or odd(n - 1)
            def odd(n): return n != 0 and even(n - 1)
            def unset(): return later
            if False: later = 1
            return even, unset
        even, unset = made()
        def f():
            try:
                unset()
            except NameError:
                return even(4)
    """
    assert ask(script) is True


@pytest.mark.parametrize(("options", "expected"), [("", "lacks a value"), (", default=[1]", [1])])
def test_a_context_variable_travels_without_its_value(ask: Any, options: str, expected: Any) -> None:
    script = f"""
        import contextvars
        level = contextvars.ContextVar("level"{options})
        token = level.set(7)
        def read(): return level.get()
        def f():
            try:
                return read()
            except LookupError:
                return "lacks a value"
    """
    assert ask(script) == expected


def test_a_librarys_context_variable_is_its_own(ask: Any) -> None:
    script = """
        import decimal, mlfn.worker.hosted
        from mlfn.worker.hosted import _output
        def f():
            import mlfn.worker.hosted
            return _output is mlfn.worker.hosted._output, decimal.getcontext().prec
    """
    assert ask(script)[0] is True
