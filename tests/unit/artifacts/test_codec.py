"""Parameters and outputs <-> what the store holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlfn.artifacts.codec import Codec, rebuilt_error, reference
from mlfn.artifacts.store import ArtifactStore
from mlfn.errors import OutputError

KEY = b"k" * 32


@pytest.fixture
def codec(tmp_path: Path) -> Codec:
    return Codec(KEY, ArtifactStore(tmp_path / "artifacts"))


def test_a_small_value_is_inline_and_a_large_one_is_a_file(codec: Codec) -> None:
    small, large = (
        codec.output("a" * 32, "x", [1], role="return"),
        codec.output("a" * 32, "y", "z" * 99_999, role="return"),
    )

    assert (small.path, small.inline) == (None, [1])
    assert large.inline is None and large.path is not None and large.sha256 is not None
    assert codec.value(small) == [1] and codec.value(large) == "z" * 99_999
    assert codec.path(reference(small)) is None and codec.path(reference(large)).read_text() == "z" * 99_999  # type: ignore[union-attr]


@pytest.mark.parametrize("value", ["text", b"bytes", bytearray(b"x")])
def test_a_text_that_is_to_be_a_file_is_one_as_it_stands(codec: Codec, value: Any) -> None:
    output = codec.output("a" * 32, "report", value, role="artifact", file=True)

    path = codec.path(reference(output))
    assert path is not None and path.read_bytes() == (value.encode() if isinstance(value, str) else bytes(value))
    assert codec.value(output) == value


def test_a_path_given_as_a_parameter_is_passed_on_and_not_copied(codec: Codec, tmp_path: Path) -> None:
    file = tmp_path / "big.bin"
    file.write_bytes(b"x")

    encoded = codec.encode("a" * 32, "path", file)

    assert codec.decode(encoded) == file and "path" not in encoded


def test_what_cannot_be_packed_is_named(codec: Codec) -> None:
    with pytest.raises(OutputError, match="'gen'"):
        codec.output("a" * 32, "gen", (x for x in ()), role="return")


class Odd(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.hint = hint


@pytest.mark.parametrize(
    "error", [Odd(3, hint="h"), KeyError("k"), OSError(2, "no", "f"), UnicodeDecodeError("a", b"", 0, 1, "r")]
)
def test_any_exception_comes_back_with_its_type_text_and_attributes(codec: Codec, error: Exception) -> None:
    error.extra = [1]  # type: ignore[attr-defined]

    back = codec.unpickle_failure(codec.pickle_failure(error))

    assert type(back) is type(error) and str(back) == str(error)
    assert back.args == error.args and vars(back) == vars(error)


def test_an_exception_is_rebuilt_without_an_init_that_refuses() -> None:
    back = rebuilt_error(Odd, ("3: h",), {"hint": "h"})

    assert isinstance(back, Odd) and str(back) == "3: h" and back.hint == "h"
