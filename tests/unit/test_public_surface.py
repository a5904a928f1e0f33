"""The public names are a list that is changed on purpose; each is loaded when it is first used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mlfn
from mlfn.worker.context import ChildContext

ROOT = Path(__file__).resolve().parents[2]

NAMES = [
    "Context",
    "Cron",
    "Dask",
    "DataItem",
    "Function",
    "Horovod",
    "Http",
    "Job",
    "Kafka",
    "Kinesis",
    "MlfnError",
    "Mpi",
    "Mqtt",
    "Nats",
    "Node",
    "Nuclio",
    "Pruned",
    "RabbitMq",
    "Retry",
    "Run",
    "Runs",
    "Secret",
    "Service",
    "Settings",
    "Spark",
    "Sweep",
    "SweepRun",
    "UNSET",
    "V3ioStream",
    "__version__",
    "as_completed",
    "choice",
    "context",
    "data",
    "diff",
    "errors",
    "function",
    "get_function",
    "handler",
    "init",
    "lograndint",
    "loguniform",
    "normal",
    "ordinal",
    "quniform",
    "randint",
    "run",
    "runs",
    "service",
    "services",
    "shutdown",
    "uniform",
    "wait",
]

RUN = [
    "add_done_callback",
    "artifacts",
    "attempts",
    "cancel",
    "children",
    "done",
    "error",
    "exception",
    "id",
    "iteration",
    "labels",
    "log_path",
    "logs",
    "metrics",
    "name",
    "outputs",
    "page",
    "params",
    "parent",
    "progress",
    "project",
    "promote",
    "record",
    "rerun",
    "result",
    "reused",
    "state",
    "url",
    "wait",
]
FUNCTION = [
    "check",
    "deploy",
    "grid",
    "hash",
    "map",
    "mock",
    "on",
    "plan",
    "random",
    "search",
    "spec",
    "submit",
    "sweep",
    "with_options",
    "zip",
]
CONTEXT = [
    "child",
    "dask_client",
    "log_artifact",
    "log_constraint",
    "log_metric",
    "log_model",
    "log_result",
    "logger",
    "progress",
    "secret",
]


def public(kind: type) -> list[str]:
    return sorted(name for name in vars(kind) if not name.startswith("_"))


def test_the_public_names_are_these() -> None:
    assert sorted({*mlfn.__all__, "errors"}) == NAMES
    assert [name for name in dir(mlfn) if name == "__version__" or not name.startswith("__")] == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_had_and_says_what_it_is(name: str) -> None:
    found = getattr(mlfn, name)

    assert getattr(mlfn, name) is found
    assert found.__doc__


@pytest.mark.parametrize(
    ("kind", "names"),
    [(mlfn.Run, RUN), (mlfn.Function, FUNCTION), (mlfn.Context, CONTEXT), (ChildContext, ["mark_best"])],
)
def test_what_users_hold_offers_these(kind: type, names: list[str]) -> None:
    assert public(kind) == names
    assert [name for name in names if not getattr(kind, name).__doc__] == []


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mlfn' has no attribute 'functoin'"):
        mlfn.functoin  # noqa: B018


def test_a_star_import_brings_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from mlfn import *", namespace)

    assert {*mlfn.__all__} <= namespace.keys()


def loaded_after(code: str) -> set[str]:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_loads_nothing_of_the_names() -> None:
    assert {name for name in loaded_after("import mlfn") if name.startswith("mlfn.")} == {
        "mlfn._version",
        "mlfn.errors",
        "mlfn.dispatch",
        "mlfn.dispatch.hooks",
    }


def test_declaring_and_calling_loads_no_store_and_no_pydantic() -> None:
    # Less what is there anyway: a measured interpreter starts with more.
    loaded = loaded_after("import mlfn\n@mlfn.function(cpu=2)\ndef f(x: int) -> int: return x\nassert f(3) == 3")
    loaded -= loaded_after("pass")

    assert not loaded & {
        "pydantic",
        "cloudpickle",
        "sqlite3",
        "fsspec",
        "asyncio",
        "mlfn.dispatch.session",
        "mlfn.handles.run",
    }
