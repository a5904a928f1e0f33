"""The contract of every packer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlfn.artifacts.formats.base import INLINE_LIMIT, Packed, Packer, Stored, UnfitError
from mlfn.artifacts.store import ArtifactStore


class PackerContract:
    """What rows, artifacts and workers rely on: a packed value comes back exactly, and any other is refused.

    ::

        class TestPoints(PackerContract):
            def make(self):
                return PointPacker()

            def fit(self, folder):
                return [Point(1, 2)]

            def unfit(self, folder):
                return [Point(None, 2)]

    Tests get pytest's `tmp_path`. Override `same` where ``==`` does not compare two values exactly.
    """

    damaged: bytes | None = b"\xff\xfe damaged"
    """A file that the packer never wrote; None where any content is valid."""

    def make(self) -> Packer:
        """Return the packer."""
        raise NotImplementedError

    def fit(self, folder: Path) -> Sequence[Any]:
        """Return values that it packs, made anew at each call; `folder` is for files that they need."""
        raise NotImplementedError

    def unfit(self, folder: Path) -> Sequence[Any]:
        """Return values of its family, or near it, that it must leave to another packer."""
        return ()

    def same(self, one: Any, other: Any) -> bool:
        """Return whether two values are equal and of the same type."""
        return type(one) is type(other) and bool(one == other)

    def comparable(self, packed: Packed) -> Any:
        """Return what is equal where two equal values are packed, as for a packer that writes a folder of its own."""
        return packed

    def stored(self, folder: Path, *, always_as_file: bool) -> Iterator[tuple[Any, Stored]]:
        """Yield each fitting value with what the store keeps of it."""
        artifacts = ArtifactStore(folder / "artifacts")
        for value in self.fit(folder):
            packed = self.make().pack(value)
            is_file = always_as_file or packed.content is not None
            path = artifacts.path(artifacts.put("run", "out", packed)) if is_file else None
            yield value, Stored(None if is_file else packed.inline, path)

    # -- what must hold
    def test_values_come_back_exactly(self, tmp_path: Path) -> None:
        for value, stored in self.stored(tmp_path, always_as_file=False):
            assert self.same(value, self.make().unpack(stored)), repr(value)

    def test_values_come_back_exactly_from_artifacts(self, tmp_path: Path) -> None:
        for value, stored in self.stored(tmp_path, always_as_file=True):
            assert self.same(value, self.make().unpack(stored)), repr(value)

    def test_inline_values_are_short_json(self, tmp_path: Path) -> None:
        for packed in map(self.make().pack, self.fit(tmp_path)):
            assert json.loads(json.dumps(packed.inline, allow_nan=False)) == packed.inline
            assert packed.content is not None or packed.size <= INLINE_LIMIT

    def test_equal_values_give_equal_content(self, tmp_path: Path) -> None:
        for one, other in zip(self.fit(tmp_path), self.fit(tmp_path), strict=True):
            first, second = self.make().pack(one), self.make().pack(other)
            assert self.comparable(first) == self.comparable(second), repr(one)

    def test_it_accepts_every_value_it_packs(self, tmp_path: Path) -> None:
        packer = self.make()
        for value in self.fit(tmp_path):
            packed = packer.pack(value)

            assert packer.accepts(value), repr(value)
            assert packed.packer == packer.name
            assert packed.type.rpartition(".")[2] == type(value).__name__

    def test_unfit_values_are_left_to_other_packers(self, tmp_path: Path) -> None:
        packer = self.make()
        for value in self.unfit(tmp_path):
            assert not packer.accepts(value) or self.refuses(packer, value), repr(value)

    def test_damaged_content_is_never_a_value(self, tmp_path: Path) -> None:
        if self.damaged is not None:
            (tmp_path / "damaged").write_bytes(self.damaged)

            assert not self.reads(tmp_path / "damaged")

    def test_missing_content_is_never_a_value(self, tmp_path: Path) -> None:
        if self.damaged is not None:
            assert not self.reads(tmp_path / "missing")

    def refuses(self, packer: Packer, value: Any) -> bool:
        """Return whether `pack` raises `UnfitError`."""
        try:
            packer.pack(value)
        except UnfitError:
            return True
        return False

    def reads(self, path: Path) -> bool:
        """Return whether `unpack` makes a value of a file."""
        try:
            self.make().unpack(Stored(path=path))
        except Exception:  # noqa: BLE001 - a packer may raise anything for content that it did not write
            return False
        return True
