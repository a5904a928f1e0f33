from __future__ import annotations

import dataclasses
import functools
import hmac
import importlib
import io
import json
import pickle
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlfn
from mlfn.code import envelope, payload
from mlfn.errors import PayloadError, SignatureError, SkewError, UnpicklableError

KEY = b"k" * 32

# Reads a payload of (function, args), calls it, and answers with a payload of its result or exception.
WORKER = """
    import sys
    from mlfn.code import payload
    names = {names!r}
    function, args = payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32)
    try:
        outcome = function(*args)
    except Exception as error:
        outcome = error
    assert not any(name in sys.modules for name in names), "the worker must not have the user's modules"
    answer = payload.pack(outcome, key=b"k" * 32, role="result", qualname="f", by_reference=names)
    sys.stdout.buffer.write(answer)
"""

fired: list[str] = []


def fire() -> str:
    fired.append("unpickled")
    return "unpickled"


class Canary:
    def __init__(self, weight: bytes = b"") -> None:
        self.weight = weight

    def __reduce__(self) -> tuple[Any, ...]:
        return fire, (), {"weight": self.weight}, None, None, print


def pack(obj: object, **more: Any) -> bytes:
    return payload.pack(obj, key=KEY, role="function", qualname="train", **more)


def main_module() -> types.ModuleType:
    """A module whose code cloudpickle takes by value because nothing can import it, as it does with __main__."""
    module = types.ModuleType("__main__")
    exec(
        "class Broken(Exception):\n    pass\n"
        "def fail(text):\n    raise Broken(text)\n"
        "class Point:\n    def __init__(self, x):\n        self.x = x\n"
        "def move(point):\n    return Point(point.x + 1)\n",
        vars(module),
    )
    return module


def round_trip(run_python: Callable[..., bytes], function: Any, args: tuple[Any, ...], names: list[str]) -> Any:
    sent = pack((function, args), by_value=names)
    answer = run_python(WORKER.format(names=names), stdin=sent)
    return payload.unpack(answer, key=KEY, role="result")


def test_a_function_comes_back_and_runs() -> None:
    assert payload.unpack(pack(lambda x, y=2: x + y), key=KEY)(3) == 5


def test_the_header_is_readable_without_the_key_and_without_unpickling() -> None:
    fired.clear()
    header = payload.read_header(pack(Canary()))
    assert (header.role, header.qualname) == ("function", "train")
    assert header.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert header.cloudpickle == cloudpickle.__version__
    assert fired == []


def test_any_flipped_bit_is_refused_before_the_body_is_read() -> None:
    data = pack(Canary(bytes(range(256)) * 14))
    assert 4000 > len(data) > 3500
    fired.clear()
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(PayloadError):
                payload.unpack(bytes(damaged), key=KEY)
    assert fired == []


@given(cut=st.integers(min_value=0, max_value=10_000), tail=st.binary(max_size=64))
def test_a_payload_cut_off_or_prolonged_is_refused(cut: int, tail: bytes) -> None:
    data = pack(Canary())
    changed = data[: min(cut, len(data) - 1)] + tail
    fired.clear()
    if changed != data:
        with pytest.raises(PayloadError):
            payload.unpack(changed, key=KEY)
        assert fired == []


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        payload.read_header(data)
    with pytest.raises(PayloadError):
        payload.read_header(envelope.MAGIC + data)


def test_another_key_is_refused_before_the_body_is_read() -> None:
    data = pack(Canary())
    fired.clear()
    with pytest.raises(SignatureError, match="another key"):
        payload.unpack(data, key=b"x" * 32)
    assert fired == []


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(PayloadError, match="key is empty"):
        payload.pack(1, key=b"", role="function", qualname="f")


def test_another_role_is_refused() -> None:
    with pytest.raises(PayloadError, match="'function'; a 'result' was expected"):
        payload.unpack(pack(1), key=KEY, role="result")


def test_another_python_minor_is_refused_naming_both_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    here = envelope._python_minor()
    monkeypatch.setattr(envelope, "_python_minor", lambda: "3.99")
    data = pack(Canary())
    monkeypatch.undo()
    fired.clear()
    with pytest.raises(SkewError, match=rf"(?s)Python 3\.99.*Python {here}.*python:3\.99-slim"):
        payload.unpack(data, key=KEY)
    assert fired == []


def test_a_value_of_another_python_minor_says_with_which_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = envelope._python_minor()
    monkeypatch.setattr(envelope, "_python_minor", lambda: "3.99")
    data = payload.pack({1}, key=KEY, role="value", qualname="model")
    monkeypatch.undo()

    with pytest.raises(SkewError) as caught:
        payload.unpack(data, key=KEY, role="value")

    assert f"Read it with Python 3.99, or run what made it again with Python {here}." in str(caught.value)
    assert "submit" not in str(caught.value) and "'model'" in str(caught.value)


def of_format_1(data: bytes) -> bytes:
    """Return a payload as mlfn 0.2 and earlier wrote it: no execution in its header, and the body under the signature."""
    head, body = envelope.split(data)
    header = {name: value for name, value in dataclasses.asdict(head.header).items() if name != "execution"}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    signed = b"\x93MLFN\r\n\x01" + len(text).to_bytes(4, "big") + text
    return signed + hmac.digest(KEY, signed + bytes(body), "sha256") + bytes(body)


def of_execution(obj: object, execution: str) -> bytes:
    return payload.pack(obj, key=envelope.derive(KEY, execution), role="value", qualname="model", execution=execution)


def test_a_payload_of_format_1_is_read() -> None:
    data = of_format_1(pack({"a": 1}))

    assert payload.unpack(data, key=KEY) == {"a": 1}
    pin = envelope.pin_of(io.BytesIO(data), KEY)
    assert payload.unpack_pinned(data, pin=pin, role="function") == {"a": 1}


def test_a_changed_payload_of_format_1_is_refused() -> None:
    data = bytearray(of_format_1(pack(Canary())))
    data[-1] ^= 1
    fired.clear()

    with pytest.raises(SignatureError):
        payload.unpack(bytes(data), key=KEY)
    with pytest.raises(SignatureError):
        envelope.pin_of(io.BytesIO(data), KEY)
    assert fired == []


def test_each_execution_has_a_key_of_its_own() -> None:
    keys = {KEY, envelope.derive(KEY, "one"), envelope.derive(KEY, "two"), envelope.derive(b"x" * 32, "one")}

    assert len(keys) == 4 and {len(key) for key in keys} == {32}
    assert envelope.derive(KEY, "one") == envelope.derive(KEY, "one")


def test_an_executions_payload_is_read_where_expected() -> None:
    data = of_execution({1}, "one")

    assert payload.unpack(data, key=KEY, signers=lambda: ("two", "one")) == {1}


@pytest.mark.parametrize("expected", [(), ("two",)])
def test_an_unexpected_executions_payload_is_refused(expected: tuple[str, ...]) -> None:
    data = of_execution(Canary(), "one")
    fired.clear()

    with pytest.raises(SignatureError, match="'model' was signed by execution 'one'"):
        payload.unpack(data, key=KEY, signers=lambda: expected)
    assert fired == []


@pytest.mark.parametrize("named", ["", "two"])
def test_an_execution_cannot_sign_for_another(named: str) -> None:
    data = payload.pack(Canary(), key=envelope.derive(KEY, "one"), role="value", qualname="model", execution=named)
    fired.clear()

    with pytest.raises(SignatureError, match="changed or signed with another key"):
        payload.unpack(data, key=KEY, signers=lambda: ("one", "two"))
    assert fired == []


def test_a_pinned_payload_needs_no_key() -> None:
    data = pack({1})

    assert payload.unpack_pinned(data, pin=envelope.pin_of(io.BytesIO(data), KEY), role="function") == {1}


@pytest.mark.parametrize("pin", [None, "", "0" * 64])
def test_a_payload_without_its_pin_is_refused(pin: str | None) -> None:
    data = pack(Canary())
    fired.clear()

    with pytest.raises(SignatureError):
        payload.unpack_pinned(data, pin=pin, role="function")
    assert fired == []


def test_another_body_under_a_pinned_head_is_refused() -> None:
    data = bytearray(pack(Canary()))
    pin = envelope.pin_of(io.BytesIO(data), KEY)
    data[-1] ^= 1
    fired.clear()

    with pytest.raises(SignatureError):
        payload.unpack_pinned(bytes(data), pin=pin, role="function")
    assert fired == []


def test_a_pin_reads_the_head_alone() -> None:
    data = pack(b"x" * 1_000_000)

    assert envelope.pin_of(io.BytesIO(data[:1000]), KEY) == envelope.pin_of(io.BytesIO(data), KEY)


def test_what_is_not_signed_gets_no_pin() -> None:
    with pytest.raises(SignatureError):
        envelope.pin_of(io.BytesIO(pack(1)), b"x" * 32)
    with pytest.raises(SignatureError):
        envelope.pin_of(io.BytesIO(of_execution(1, "one")), KEY, ("two",))
    with pytest.raises(PayloadError):
        envelope.pin_of(io.BytesIO(b"no payload"), KEY)


@pytest.mark.parametrize("change", [{"size": "12"}, {"role": 3}, {"extra": 1}, {"size": True}])
def test_a_header_with_other_fields_or_types_is_refused(change: dict[str, Any]) -> None:
    header = {**dataclasses.asdict(payload.read_header(pack(1))), **change}
    text = json.dumps(header).encode()
    with pytest.raises(PayloadError):
        payload.read_header(envelope.MAGIC + len(text).to_bytes(4, "big") + text + bytes(32))


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    )
)
def test_any_plain_value_comes_back_as_itself(value: object) -> None:
    back = payload.unpack(pack(value), key=KEY)
    assert back == value
    assert type(back) is type(value)


def test_a_function_brings_no_internal_module_of_mlfn() -> None:
    loaded = [
        importlib.import_module(name) for name in ("mlfn.testing.strategies", "mlfn.handles.run", "mlfn.ui.views.run")
    ]
    words = {word for name in sys.modules if name.startswith("mlfn.") for word in name.split(".")[1:]}
    function = eval("lambda run: (mlfn, " + ", ".join(f"run.{word}" for word in sorted(words)) + ")", {"mlfn": mlfn})
    named: list[str] = []

    class Spy(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return named.append if name == "subimport" else super().find_class(module, name)

    Spy(io.BytesIO(envelope.split(pack(function))[1])).load()

    assert len(loaded) == 3 and len(words) > 50
    public = {"mlfn", "mlfn.errors", "mlfn.sweep", "mlfn.sweep.strategy"}
    assert {name for name in named if not name.startswith("mlfn.testing")} == public


def test_a_missing_module_stays_an_import_error(run_python: Callable[..., bytes], user_modules: Any) -> None:
    module = user_modules("gone_by_then", "def f(): return 1")
    script = """
        import sys
        from mlfn.code import payload
        try:
            payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32)
        except ImportError as error:
            print(error.name)
    """
    assert run_python(script, stdin=pack(module.f)).strip() == b"gone_by_then"


def test_a_body_that_cannot_be_rebuilt_says_so() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return int, ("no number",)

    with pytest.raises(PayloadError, match="could not be rebuilt here \\(ValueError"):
        payload.unpack(pack(Trap()), key=KEY)


# -- modules by value ----------------------------------------------------------------------------------------


def test_an_own_module_travels_as_code_to_a_process_without_it(
    run_python: Callable[..., bytes], user_modules: Any
) -> None:
    module = user_modules("own_math", "FACTOR = 3\ndef helper(x): return x * FACTOR\ndef f(x): return helper(x) + 1")
    assert round_trip(run_python, module.f, (2,), ["own_math"]) == 7


def test_an_own_exception_raised_in_the_worker_is_the_callers_own_class(
    run_python: Callable[..., bytes], user_modules: Any
) -> None:
    module = user_modules(
        "own_errors",
        """
        class Bad(ValueError):
            def __init__(self, text, code):
                super().__init__(text, code)
                self.code = code
        def f(x):
            raise Bad("no", x)
        """,
    )
    error = round_trip(run_python, module.f, (7,), ["own_errors"])
    assert type(error) is module.Bad
    assert (error.args, error.code) == (("no", 7), 7)


def test_an_exception_of_main_raised_in_the_worker_is_the_callers_own_class(
    run_python: Callable[..., bytes],
) -> None:
    module = main_module()
    error = round_trip(run_python, module.fail, ("no",), [])
    assert type(error) is module.Broken
    assert error.args == ("no",)


def test_an_instance_of_main_is_the_same_class_on_both_sides(run_python: Callable[..., bytes]) -> None:
    module = main_module()
    point = round_trip(run_python, module.move, (module.Point(1),), [])
    assert type(point) is module.Point
    assert point.x == 2


@pytest.mark.parametrize("options", ["", "frozen=True", "slots=True", "frozen=True, slots=True"])
def test_dataclasses_of_own_modules_round_trip_as_the_callers_own(
    run_python: Callable[..., bytes], user_modules: Any, options: str
) -> None:
    module = user_modules(
        "own_records",
        f"""
        import enum
        from dataclasses import dataclass, replace
        class Color(enum.Enum):
            RED = 1
            BLUE = 2
        @dataclass({options})
        class Item:
            price: int
            color: Color
        def f(items):
            assert all(type(i) is Item and i.color is Color.RED for i in items)
            return [replace(i, price=i.price + 1, color=Color.BLUE) for i in items], Item
        """,
    )
    items, cls = round_trip(run_python, module.f, ([module.Item(1, module.Color.RED)],), ["own_records"])
    assert cls is module.Item
    assert type(items[0]) is module.Item
    assert items[0] == module.Item(2, module.Color.BLUE)
    assert items[0].color is module.Color.BLUE


def test_a_class_made_inside_a_function_comes_back_by_code(run_python: Callable[..., bytes], user_modules: Any) -> None:
    module = user_modules("own_local", "def f():\n    class Local:\n        x = 4\n    return Local()")
    assert round_trip(run_python, module.f, (), ["own_local"]).x == 4


def test_a_module_object_travels_with_the_named_attributes_alone(
    run_python: Callable[..., bytes], user_modules: Any
) -> None:
    user_modules("own_lib", "import threading\nlock = threading.Lock()\ndef clean(x): return x.strip()")
    module = user_modules("own_job", "import own_lib\ndef f(x): return own_lib.clean(x), hasattr(own_lib, 'lock')")
    names = ["own_lib", "own_job"]
    sent = pack((module.f, (" a ",)), by_value=names, attributes={"own_lib": ["clean"]})
    answer = run_python(WORKER.format(names=names), stdin=sent)
    assert payload.unpack(answer, key=KEY) == ("a", False)


def test_cloudpickles_registry_is_left_alone_on_success_and_on_failure(user_modules: Any) -> None:
    mine = user_modules("own_registered", "def f(): return 1")
    user_modules("own_other", "def f(): return 1")
    cloudpickle.register_pickle_by_value(mine)
    try:
        before = cloudpickle.list_registry_pickle_by_value()
        pack(1, by_value=["own_registered", "own_other", "never_imported"])
        with pytest.raises(UnpicklableError):
            pack(threading.Lock(), by_value=["own_registered", "own_other"])
        assert cloudpickle.list_registry_pickle_by_value() == before
    finally:
        cloudpickle.unregister_pickle_by_value(mine)


def test_packing_in_many_threads_gives_whole_payloads(user_modules: Any) -> None:
    module = user_modules("own_threads", "def f(x): return x + 1")
    answers: list[int] = []

    def work() -> None:
        for i in range(50):
            answers.append(payload.unpack(pack(module.f, by_value=["own_threads"]), key=KEY)(i) - i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 200
    assert "own_threads" not in cloudpickle.list_registry_pickle_by_value()


def test_what_a_worker_imports_is_the_standard_library_alone(run_python: Callable[..., bytes]) -> None:
    script = """
        import sys
        before = set(sys.modules)
        import mlfn.code.payload
        loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(loaded - sys.stdlib_module_names))
    """
    assert run_python(script).strip() == b"['mlfn']"


# -- what pickle refuses -------------------------------------------------------------------------------------


class Box:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


class SlotBox:
    __slots__ = ("lock",)


config = Box(logger=Box(lock=threading.Lock()))
rows = [1, {"a": threading.Lock()}]


def reads_config() -> Any:
    return config.logger


def calls_a_reader() -> Any:
    return reads_config()


def reads_rows() -> Any:
    return rows


def has_default(x: Any = threading.Lock()) -> Any:  # noqa: B008
    return x


def closes_over() -> Callable[[], Any]:
    connection = threading.Lock()
    return lambda: connection


def slotted() -> SlotBox:
    box = SlotBox()
    box.lock = threading.Lock()
    return box


class Settings:
    logger = Box(lock=threading.Lock())


class Child(Settings):
    pass


class Loader:
    @property
    def size(self) -> Any:
        return config.logger


settings_of_class, settings_of_base = Settings(), Child()


def reads_class_attribute() -> Any:
    return settings_of_class.logger


def reads_inherited() -> Any:
    return settings_of_base.logger


def reads_class() -> Any:
    return Settings.logger


def reads_property() -> Any:
    return Loader().size


@functools.cache
def cached() -> Any:
    return config


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (reads_class_attribute, "train -> settings_of_class -> Settings.logger -> lock"),
        (reads_inherited, "train -> settings_of_base -> Child -> Settings.logger -> lock"),
        (reads_class, "train -> Settings.logger -> lock"),
        (reads_property, "train -> Loader.size -> config.logger -> lock"),
        (cached, "train -> config.logger -> lock"),
        (reads_config, "train -> config.logger -> lock"),
        (calls_a_reader, "train -> reads_config -> config.logger -> lock"),
        (reads_rows, "train -> rows[1]['a']"),
        (has_default, "train -> x"),
        (closes_over(), "train -> connection"),
        (slotted(), "train -> lock"),
        (threading.Lock(), "train"),
    ],
)
def test_what_pickle_refuses_is_named_by_its_path(value: Any, path: str) -> None:
    with pytest.raises(UnpicklableError) as caught:
        pack(value, by_value=[__name__])
    assert str(caught.value).startswith(f"{path} cannot travel to a worker: pickle refuses this lock")
    assert isinstance(caught.value.__cause__, TypeError)


def test_the_search_ends_on_cycles_and_on_large_containers() -> None:
    ring: list[Any] = [threading.Lock(), *range(100_000)]
    ring.append(ring)

    with pytest.raises(UnpicklableError, match=r"^train\[0\] cannot travel"):
        pack(ring)
