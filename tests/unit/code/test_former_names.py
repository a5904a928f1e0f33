"""What mlfn 0.1 stored names modules, classes and functions where they were then: all of it still loads."""

from __future__ import annotations

import importlib
import io
import pickle
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from mlfn.code import envelope, payload
from mlfn.code.bundle import FunctionReference, ModuleSource, open_bundle
from mlfn.code.former_names import NOW_AT, RENAMED, FormerNamesUnpickler, former_name

KEY = b"k" * 32

# By module: what payloads, pickled values and exceptions of 0.1 were found to name.
NAMES = {
    "mlfn.payload.parcel": "code_of_file open_parcel find_function find_global get_ipython",
    "mlfn.payload": "fill_class new_module fill_module",
    "mlfn.codec": "rebuilt_error _itself",
    "mlfn.declaration": "_empty_function Function Declare function handler",
    "mlfn.spec.values": "UNSET Retry Node",
    "mlfn.user_context": "Context Pruned Cancelled context Reporter",
    "mlfn.secrets": "Secret",
    "mlfn.kinds.job": "Job",
    "mlfn.inputs": "DataItem data",
    "mlfn.listing": "run runs wait as_completed get_function Runs",
    "mlfn.handle": "Run",
    "mlfn.sweep.sweep_run": "SweepRun",
    "mlfn.library.differences": "diff",
    "mlfn.settings": "init",
    "mlfn.settings.table": "Settings",
    "mlfn.sweep.space": "uniform choice loguniform lograndint normal ordinal quniform randint ChoiceSpace LogRandintSpace "
    "LogUniformSpace NormalSpace OrdinalSpace QUniformSpace RandintSpace UniformSpace",
    "mlfn.sweep.description": "Sweep SweepOptions FromCells FromRows FromSearch",
    "mlfn.sweep.grid": "Grid",
    "mlfn.sweep.zipped": "Zip",
    "mlfn.sweep.rows": "Rows",
    "mlfn.sweep.drawn": "Random",
    "mlfn.sweep.points": "IndependentPoints",
    "mlfn.sweep.strategy": "Strategy Told",
    "mlfn.testing.strategies": "StrategyContract",
    "mlfn.version": "Version",
    "mlfn.errors": "MlfnError RunError OutOfMemoryError RunLostError",
}
# Of modules whose names are common attributes: a function that used `mlfn` and such an attribute imports the module.
ATTRIBUTES = (
    "artifacts capture cards children client codec content declaration dispatch errors execution failures handle identity "
    "inputs kinds library listing outputs packers parents payload places planner registry secrets settings signature spec "
    "store submission sweep sweep.table terminal testing version waiting worker worker.output"
)
# Loads a payload and prints what the function returns, as a worker of this version would.
WORKER = """
    import sys
    from mlfn.code import payload
    function = payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32)
    print(function("  x"), end="")
"""


def formerly(body: bytes) -> bytes:
    """Rewrite a pickle of protocol 0, which writes names as text, to the names of mlfn 0.1."""
    body = body.replace(b"cmlfn.code.bundle\nopen_bundle\n", b"cmlfn.payload.parcel\nopen_parcel\n")
    return body.replace(b"cmlfn.code.bundle\n", b"cmlfn.payload.parcel\n")


class Bundle:
    """A function with the text of its modules, as earlier versions packed them."""

    def __init__(self, function: object, sources: dict[str, ModuleSource]) -> None:
        self.function, self.sources = function, sources

    def __reduce__(self) -> tuple[Any, ...]:
        texts = {name: (s.source, s.filename, s.is_package) for name, s in self.sources.items()}
        return open_bundle, (self.function, {}, texts)


@pytest.fixture
def packed_by_0_1(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], bytes]:
    def pack(obj: object) -> bytes:
        body = formerly(pickle.dumps(obj, 0))
        monkeypatch.setattr(envelope, "__version__", "0.1.0")
        header = envelope.write_header(body, role="function", qualname="dedent", cloudpickle="3.1.2")
        return envelope.sign(header, body, KEY)

    return pack


def test_every_former_module_leads_to_another() -> None:
    assert not RENAMED.keys() & set(RENAMED.values())
    for now_at in {*NOW_AT.values(), *(module for module, _ in RENAMED.values())}:
        importlib.import_module(now_at)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in NAMES[module].split()])
def test_stored_names_still_resolve(module: str, name: str) -> None:
    stored = f"c{module}\n{name}\n.".encode()

    assert FormerNamesUnpickler(io.BytesIO(stored)).load() is not None


def test_a_payload_naming_former_modules_loads(run_python: Callable[..., bytes], packed_by_0_1) -> None:
    data = packed_by_0_1(FunctionReference("textwrap", "dedent"))

    assert b"mlfn.payload.parcel" in data
    assert run_python(WORKER, stdin=data) == b"x"


def test_a_worker_loads_former_modules(run_python: Callable[..., bytes], packed_by_0_1) -> None:
    data = packed_by_0_1(FunctionReference("textwrap", "dedent"))
    worker = WORKER.replace(
        'payload.unpack(sys.stdin.buffer.read(), key=b"k" * 32)',
        f"payload.unpack_function(sys.stdin.buffer.read(), pin={envelope.pin_of(io.BytesIO(data), KEY)!r}, own=())",
    )

    assert "unpack_function" in worker
    assert run_python(worker, stdin=data) == b"x"


def test_own_modules_may_import_former_modules(run_python: Callable[..., bytes], packed_by_0_1) -> None:
    text = """
        import mlfn.payload.parcel
        from mlfn.sweep.space import uniform

        def call(text):
            return uniform.__name__, mlfn.payload.parcel.open_parcel.__name__
    """
    own = {"own_helpers": ModuleSource(textwrap.dedent(text), "own_helpers.py", is_package=False)}
    worker = WORKER.replace("print(function", "import own_helpers; print(own_helpers.call")

    answer = run_python(worker, stdin=packed_by_0_1(Bundle(textwrap.dedent, own)))

    assert answer == b"('uniform', 'open_bundle')"


def test_modules_named_for_an_attribute_can_be_imported(run_python: Callable[..., bytes]) -> None:
    script = f"""
        import sys
        from mlfn.code.former_names import FormerModuleFinder
        FormerModuleFinder.install()
        for name in {ATTRIBUTES.split()}:
            __import__(f"mlfn.{{name}}")
        assert not sys.modules.keys() & {{"numpy", "pandas", "optuna", "fsspec", "click", "rich"}}
    """

    run_python(script)


def test_payloads_of_this_version_need_no_former_name(run_python: Callable[..., bytes]) -> None:
    data = payload.pack(FunctionReference("textwrap", "dedent"), key=KEY, role="function", qualname="dedent")
    worker = WORKER + "    assert 'mlfn.code.former_names' not in sys.modules\n"

    assert run_python(worker, stdin=data) == b"x"


@pytest.mark.parametrize(("module", "name"), [("choosers", "FromCells"), ("options", "SweepOptions")])
def test_classes_split_off_hash_as_before(module: str, name: str) -> None:
    assert former_name(f"mlfn.sweep.{module}", name) == ("mlfn.sweep.description", name)
