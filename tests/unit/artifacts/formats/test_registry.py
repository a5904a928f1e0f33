from __future__ import annotations

import collections
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlfn.artifacts.formats import base as base_module
from mlfn.artifacts.formats.base import INLINE_LIMIT, Packed
from mlfn.artifacts.formats.registry import pack, unpack
from mlfn.code import payload
from mlfn.errors import MissingExtraError, OutputError, SignatureError


def packed(value: Any) -> Packed:
    return pack(value, name="out", pickler=pickle.dumps)


@pytest.mark.parametrize(
    ("value", "packer"),
    [
        (1, "json"),
        (True, "json"),
        ("x", "json"),
        ("x" * INLINE_LIMIT, "text"),
        ("é" * (INLINE_LIMIT // 6 + 1), "text"),
        (b"x", "json"),
        (b"x" * INLINE_LIMIT, "bytes"),
        (bytearray(INLINE_LIMIT), "bytearray"),
        (np.float64(0.5), "json"),
        (np.bool_(1), "json"),
        ({"accuracy": np.float64(0.5)}, "json"),
        (np.datetime64("2024"), "pickle"),
        (np.str_("x"), "pickle"),
        (np.arange(3), "numpy"),
        (np.ma.masked_array([1]), "pickle"),
        (np.array([None]), "pickle"),
        (pd.Timestamp("2024"), "pickle"),
        ({"frame": pd.DataFrame({"a": [1]})}, "pickle"),
        (collections.Counter("aa"), "pickle"),
        (Path("nothing-here"), "json"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_goes_to_the_safest_packer_that_keeps_it(value: Any, packer: str) -> None:
    assert packed(value).packer == packer


def test_a_cyclic_list_is_pickled() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    assert packed(cycle).packer == "pickle"


def test_the_type_is_named_for_people() -> None:
    assert [packed(value).type for value in (1, pd.DataFrame({"a": [1]}), np.arange(2))] == [
        "builtins.int",
        "pandas.DataFrame",
        "numpy.ndarray",
    ]


def test_a_signed_pickle_is_not_called_one_that_anybody_reads() -> None:
    assert packed(object).suffix == ".mlfn"


def test_a_value_that_nothing_packs_is_named_with_its_output_and_the_reason() -> None:
    with pytest.raises(OutputError, match=r"'out' \(_thread\.lock\) cannot be packed: TypeError: cannot pickle"):
        packed(threading.Lock())


def test_a_value_that_the_signed_pickle_refuses_is_told_of_once() -> None:
    def refuse(value: Any) -> bytes:
        return payload.pack(value, key=b"key", role="value", qualname="out")

    with pytest.raises(OutputError) as caught:
        pack((item for item in [1]), name="out", pickler=refuse)

    assert str(caught.value).startswith(
        "Output 'out' (builtins.generator) cannot be packed: pickle refuses this generator ("
    )
    assert "worker" not in str(caught.value) and str(caught.value).count("Return ") == 1


def test_a_value_nested_too_deep_for_every_packer_says_so() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]

    with pytest.raises(OutputError, match="nested too deep"):
        packed(value)


def test_running_out_of_memory_stays_what_it_is() -> None:
    def full(_: Any) -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        pack(object(), name="out", pickler=full)


def test_an_unknown_packer_is_named_with_the_nearest() -> None:
    with pytest.raises(OutputError, match="'jsn': did you mean 'json'"):
        unpack("jsn", inline=1, path=None, unpickler=pickle.loads)


def test_a_refused_signature_stays_what_it_is(tmp_path: Path) -> None:
    def refuse(_: bytes) -> Any:
        raise SignatureError("signed by another key")

    (tmp_path / "value.mlfn").write_bytes(b"x")

    with pytest.raises(SignatureError):
        unpack("pickle", inline=None, path=tmp_path / "value.mlfn", unpickler=refuse)


def test_a_pickle_without_a_file_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="its artifact has no file"):
        unpack("pickle", inline="code", path=None, unpickler=pickle.loads)


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "frame.parquet").write_bytes(b"")

    with pytest.raises(MissingExtraError, match=r"pip install 'mlfn\[data\]'"):
        unpack("dataframe", inline=None, path=tmp_path / "frame.parquet", unpickler=pickle.loads)
    with pytest.raises(MissingExtraError, match="mlfn"):
        base_module.load("no_such_module")


def test_importing_and_packing_plain_values_loads_no_foreign_package() -> None:
    code = (
        "import sys, pickle; from mlfn.artifacts.formats.registry import pack; from mlfn.artifacts.inputs import wants_input; import mlfn.artifacts.store;"
        "pack({'a': (1,)}, name='x', pickler=pickle.dumps); pack(object(), name='x', pickler=pickle.dumps);"
        "wants_input(int);"
        "print([name for name in ('pandas', 'numpy', 'pyarrow', 'fsspec', 'cloudpickle') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["numpy", "pandas"])
def test_a_library_that_another_thread_is_importing_hinders_no_value(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))  # it has none of its types yet

    assert packed(collections.Counter("a")).packer == "pickle"
