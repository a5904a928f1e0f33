"""Every packer keeps the contract, and the registry packs with the first that fits."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array
import dask.bag
import dask.dataframe
import numpy as np
import pandas as pd
import pytest

from mlfn.artifacts.formats.arrays import NumpyPacker
from mlfn.artifacts.formats.base import INLINE_LIMIT
from mlfn.artifacts.formats.builtin import JsonPacker
from mlfn.artifacts.formats.dask_collections import DaskArrayPacker, DaskBagPacker, DaskDataFramePacker
from mlfn.artifacts.formats.files import PathPacker
from mlfn.artifacts.formats.frames import DataFramePacker, SeriesPacker
from mlfn.artifacts.formats.pickled import PicklePacker
from mlfn.artifacts.formats.registry import PACKERS, pack, unpack
from mlfn.artifacts.formats.text import BytearrayPacker, BytesPacker, TextPacker
from mlfn.artifacts.store import ArtifactStore
from mlfn.errors import OutputError
from mlfn.testing.packers import PackerContract

LONG = INLINE_LIMIT + 1


class TestJson(PackerContract):
    def make(self):
        return JsonPacker()

    def fit(self, folder):
        return [1, None, {"a": (1, b"x")}, list(range(LONG)), np.float32(0.1)]

    def unfit(self, folder):
        return ["x" * LONG, OrderedDict(a=1), {"a": pd.DataFrame()}, object()]


class TestText(PackerContract):
    def make(self):
        return TextPacker()

    def fit(self, folder):
        return ["a\r\n\ud83d\ude00é" * LONG, ""]


class TestBytes(PackerContract):
    damaged = None

    def make(self):
        return BytesPacker()

    def fit(self, folder):
        return [b"\0\xff" * LONG, b""]


class TestBytearray(PackerContract):
    damaged = None

    def make(self):
        return BytearrayPacker()

    def fit(self, folder):
        return [bytearray(b"\0\xff" * LONG)]


class TestPath(PackerContract):
    damaged = None

    def make(self):
        return PathPacker()

    def fit(self, folder):
        return [written(folder / "model.bin"), written(folder / "outer" / "inner" / "file.txt").parent.parent]

    def unfit(self, folder):
        return [Path("nothing-here"), Path("/dev/null")]

    def same(self, one, other):
        return one != other and content_of(one) == content_of(other)


class TestNumpy(PackerContract):
    def make(self):
        return NumpyPacker()

    def fit(self, folder):
        return [
            np.arange(6.0).reshape(2, 3),
            np.array(3, dtype=">i2"),
            np.zeros((0, 2), dtype="datetime64[D]"),
            np.array([(1, "a")], dtype=[("x", "<f8"), ("y", "<U3")]),
            np.asfortranarray(np.ones((2, 3), dtype=complex))[:, ::2],
        ]

    def unfit(self, folder):
        return [
            np.array([{}], dtype=object),
            np.zeros(1, dtype=np.dtype("i4", metadata={"unit": "m"})),
            np.zeros(1, dtype=np.dtypes.StringDType()),
        ]

    def same(self, one, other):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


class TestDataFrame(PackerContract):
    def make(self):
        return DataFramePacker()

    def fit(self, folder):
        return [
            pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None]}),
            pd.DataFrame({"a": pd.Categorical(["x", "y"], ["y", "x", "z"], ordered=True)}),
            pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["i", None])),
        ]

    def unfit(self, folder):
        return [
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            pd.DataFrame({"a": [1, "x"]}),
            pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="D")),
        ]

    def same(self, one, other):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=True, check_index_type="exact")
        return one.attrs == other.attrs


class TestSeries(PackerContract):
    def make(self):
        return SeriesPacker()

    def fit(self, folder):
        return [pd.Series([1, 2], index=[3, 3], name=name) for name in (None, "a", 3, "3")]

    def unfit(self, folder):
        return [pd.Series([1], name=("a", 1)), pd.Series([{}])]

    def same(self, one, other):
        pd.testing.assert_series_equal(one, other, check_exact=True, check_freq=True, check_index_type="exact")
        return one.attrs == other.attrs


class OfPartitions(PackerContract):
    """A packer that writes a folder of its own."""

    def comparable(self, packed):
        files = sorted(path for path in packed.content.rglob("*") if path.is_file())
        return replace(packed, content=None), [(path.name, path.read_bytes()) for path in files]

    def same(self, one, other):
        return type(one) is type(other) and self.equal(one.compute(), other.compute())


class TestDaskDataFrame(OfPartitions):
    def make(self):
        return DaskDataFramePacker()

    def fit(self, folder):
        frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2.0]})
        return [dask.dataframe.from_pandas(frame, npartitions=2)]

    def equal(self, one, other):
        pd.testing.assert_frame_equal(one, other)
        return True


class TestDaskArray(OfPartitions):
    def make(self):
        return DaskArrayPacker()

    def fit(self, folder):
        array = np.arange(12.0).reshape(3, 4)
        return [dask.array.from_array(array, chunks=(2, 3)), dask.array.from_array(np.float32(2.5))]

    def unfit(self, folder):
        return [dask.array.from_array(np.array([{}], dtype=object), chunks=1)]

    def equal(self, one, other):
        np.testing.assert_array_equal(one, other)
        return one.dtype == other.dtype


class TestDaskBag(OfPartitions):
    def make(self):
        return DaskBagPacker()

    def fit(self, folder):
        return [dask.bag.from_sequence([1, (2, "a"), None, b"x"], npartitions=3)]

    def unfit(self, folder):
        return [dask.bag.from_sequence([object()])]

    def equal(self, one, other):
        return one == other


class TestPickle(PackerContract):
    def make(self):
        return PicklePacker(pickler=pickle.dumps, unpickler=pickle.loads)

    def fit(self, folder):
        return [OrderedDict(a=1), 1j]


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    return path


def content_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


CONTRACTS = [contract() for name, contract in list(globals().items()) if name.startswith("Test")]
every_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.make().name)


def test_every_registered_packer_is_under_contract() -> None:
    names = [contract.make().name for contract in CONTRACTS]

    elsewhere = {"spark-dataframe"}  # under contract in tests/spark
    assert sorted(names) == sorted({packer.name for packer in PACKERS} - elsewhere | {"pickle"})


@every_contract
def test_the_first_fit_gives_the_value_back(contract: PackerContract, tmp_path: Path) -> None:
    artifacts = ArtifactStore(tmp_path / "artifacts")
    for value in contract.fit(tmp_path):
        packed = pack(value, name="out", pickler=pickle.dumps)

        path = None if packed.content is None else artifacts.path(artifacts.put("run", "out", packed))
        again: Any = unpack(packed.packer, inline=packed.inline, path=path, unpickler=pickle.loads)

        assert contract.same(value, again)


@every_contract
def test_unfit_values_are_packed_by_another(contract: PackerContract, tmp_path: Path) -> None:
    for value in contract.unfit(tmp_path):
        assert pack(value, name="out", pickler=lambda _: b"pickled").packer != contract.make().name


@every_contract
def test_damaged_or_missing_content_is_an_output_error(contract: PackerContract, tmp_path: Path) -> None:
    name = contract.make().name
    (tmp_path / "damaged").write_bytes(contract.damaged or b"")

    if contract.damaged is not None:
        with pytest.raises(OutputError, match=f"Cannot unpack a {name} value from .*damaged"):
            unpack(name, inline=None, path=tmp_path / "damaged", unpickler=pickle.loads)
    if name != "path":  # a path is returned unread
        with pytest.raises(OutputError, match="FileNotFoundError"):
            unpack(name, inline=None, path=tmp_path / "missing", unpickler=pickle.loads)


def test_a_packer_that_loses_something_breaks_it(tmp_path: Path) -> None:
    class Lossy(TestText):
        def fit(self, folder):
            return ["a\r\n"]

        def make(self):
            packer = TextPacker()
            packer.unpack = lambda stored: stored.path.read_text()  # type: ignore[method-assign] # changes line ends
            return packer

    with pytest.raises(AssertionError):
        Lossy().test_values_come_back_exactly(tmp_path)
