"""The contract of every packer family: what it packs comes back exactly, by way of the artifact store.

A new family adds its `Family` to the list.
"""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlfn.artifacts import ArtifactStore
from mlfn.errors import OutputError
from mlfn.packers.base import INLINE_LIMIT, Packed, Packer, Stored, UnfitError
from mlfn.packers.pickled import PicklePacker
from mlfn.packers.table import PACKERS, pack, unpack


def equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def equal_frames(one: Any, other: Any) -> bool:
    assert_equal = pd.testing.assert_frame_equal if isinstance(one, pd.DataFrame) else pd.testing.assert_series_equal
    assert_equal(one, other, check_exact=True, check_freq=True, check_flags=True, check_index_type="exact")
    return bool(one.attrs == other.attrs)


def equal_arrays(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@dataclass(frozen=True)
class Family:
    """Values that a packer packs, and values of its family, or near it, that it must leave to another."""

    packer: Packer
    fit: tuple[Callable[[], Any], ...]
    unfit: tuple[Callable[[], Any], ...] = ()
    same: Callable[[Any, Any], bool] = equal


def packer(name: str) -> Packer:
    return next(member for member in PACKERS if member.name == name)


LONG = INLINE_LIMIT + 1
FAMILIES = [
    Family(
        packer("json"),
        fit=(
            lambda: 1,
            lambda: None,
            lambda: {"a": (1, b"x")},
            lambda: list(range(LONG)),
            lambda: np.float32(0.1),
        ),
        unfit=(lambda: "x" * LONG, lambda: OrderedDict(a=1), lambda: {"a": pd.DataFrame()}, object),
    ),
    Family(packer("text"), fit=(lambda: "a\r\n\ud83d\ude00é" * LONG, lambda: "")),
    Family(packer("bytes"), fit=(lambda: b"\0\xff" * LONG, lambda: b"")),
    Family(packer("bytearray"), fit=(lambda: bytearray(b"\0\xff" * LONG),)),
    Family(
        packer("path"),
        fit=(
            lambda: written(Path("model.bin")),
            lambda: written(Path("folder", "inner", "file.txt")).parent.parent,
        ),
        unfit=(lambda: Path("nothing-here"), lambda: Path("/dev/null")),
        same=lambda one, other: one != other and content_of(one) == content_of(other),
    ),
    Family(
        packer("numpy"),
        fit=(
            lambda: np.arange(6.0).reshape(2, 3),
            lambda: np.array(3, dtype=">i2"),
            lambda: np.zeros((0, 2), dtype="datetime64[D]"),
            lambda: np.array([(1, "a")], dtype=[("x", "<f8"), ("y", "<U3")]),
            lambda: np.asfortranarray(np.ones((2, 3), dtype=complex))[:, ::2],
        ),
        unfit=(
            lambda: np.array([{}], dtype=object),
            lambda: np.zeros(1, dtype=np.dtype("i4", metadata={"unit": "m"})),
            lambda: np.zeros(1, dtype=np.dtypes.StringDType()),
        ),
        same=equal_arrays,
    ),
    Family(
        packer("dataframe"),
        fit=(
            lambda: pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None]}),
            lambda: pd.DataFrame({"a": pd.Categorical(["x", "y"], ["y", "x", "z"], ordered=True)}),
            lambda: pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["i", None])),
        ),
        unfit=(
            lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
            lambda: pd.DataFrame({"a": [1, "x"]}),
            lambda: pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="D")),
        ),
        same=equal_frames,
    ),
    Family(
        packer("series"),
        fit=tuple(lambda name=name: pd.Series([1, 2], index=[3, 3], name=name) for name in (None, "a", 3, "3")),
        unfit=(lambda: pd.Series([1], name=("a", 1)), lambda: pd.Series([{}])),
        same=equal_frames,
    ),
    Family(PicklePacker(pickler=pickle.dumps, unpickler=pickle.loads), fit=(lambda: OrderedDict(a=1), lambda: 1j)),
]


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    return path


def content_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def artifacts(folder: Path) -> ArtifactStore:
    return ArtifactStore(folder / "artifacts")


def family_id(value: Any) -> str | None:
    return value.packer.name if isinstance(value, Family) else None


def families_but(*names: str) -> list[Family]:
    return [family for family in FAMILIES if family.packer.name not in names]


every_family = pytest.mark.parametrize("family", FAMILIES, ids=family_id)
every_fit = pytest.mark.parametrize(
    ("family", "make"), [(family, make) for family in FAMILIES for make in family.fit], ids=family_id
)
every_unfit = pytest.mark.parametrize(
    ("family", "make"), [(family, make) for family in FAMILIES for make in family.unfit], ids=family_id
)


def test_every_registered_packer_is_under_contract() -> None:
    names = [family.packer.name for family in FAMILIES]

    assert names == [*dict.fromkeys(names)]
    assert set(names) == {member.name for member in PACKERS} | {"pickle"}


@every_fit
def test_a_value_comes_back_exactly_by_way_of_the_store(family: Family, make: Any, artifacts: ArtifactStore) -> None:
    value = make()

    packed = family.packer.pack(value)
    path = None if packed.content is None else artifacts.path(artifacts.put("run", "out", packed))
    again = family.packer.unpack(Stored(packed.inline, path))

    assert family.same(value, again)


@every_fit
def test_an_inline_value_comes_back_from_its_artifact_too(family: Family, make: Any, artifacts: ArtifactStore) -> None:
    value = make()
    packed = family.packer.pack(value)

    path = artifacts.path(artifacts.put("run", "out", packed))

    assert family.same(value, family.packer.unpack(Stored(path=path)))


@every_fit
def test_what_is_inline_is_json_and_short(family: Family, make: Any) -> None:
    packed = family.packer.pack(make())

    assert json.loads(json.dumps(packed.inline, allow_nan=False)) == packed.inline
    assert packed.content is not None or packed.size <= INLINE_LIMIT


@every_fit
def test_packing_twice_gives_the_same_content(family: Family, make: Any) -> None:
    assert family.packer.pack(make()) == family.packer.pack(make())


@every_fit
def test_a_packer_accepts_what_it_packs(family: Family, make: Any) -> None:
    value = make()
    packed = family.packer.pack(value)

    assert family.packer.accepts(value)
    assert packed.packer == family.packer.name
    assert packed.type.rpartition(".")[2] == type(value).__name__


@every_unfit
def test_an_unfit_value_is_left_to_another(family: Family, make: Any) -> None:
    value = make()

    if family.packer.accepts(value):
        with pytest.raises(UnfitError):
            family.packer.pack(value)

    assert pack(value, name="out", pickler=lambda _: b"pickled").packer != family.packer.name


# Any content is content of these families, and a path is returned unread.
@pytest.mark.parametrize("family", families_but("bytes", "bytearray", "path"), ids=family_id)
def test_damaged_content_is_an_output_error(family: Family, folder: Path) -> None:
    damaged = folder / "damaged"
    damaged.write_bytes(b"\xff\xfe damaged")

    with pytest.raises(OutputError, match=f"Cannot unpack a {family.packer.name} value from .*damaged"):
        unpack(family.packer.name, inline=None, path=damaged, unpickler=pickle.loads)


@pytest.mark.parametrize("family", families_but("path"), ids=family_id)
def test_content_that_is_gone_is_an_output_error(family: Family, folder: Path) -> None:
    with pytest.raises(OutputError, match="FileNotFoundError"):
        unpack(family.packer.name, inline=None, path=folder / "gone", unpickler=pickle.loads)


@every_fit
def test_the_first_fit_of_the_table_gives_the_value_back(family: Family, make: Any, artifacts: ArtifactStore) -> None:
    value = make()

    packed: Packed = pack(value, name="out", pickler=pickle.dumps)
    path = None if packed.content is None else artifacts.path(artifacts.put("run", "out", packed))

    assert family.same(value, unpack(packed.packer, inline=packed.inline, path=path, unpickler=pickle.loads))
