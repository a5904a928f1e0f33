"""Dask's collections as folders of partitions, which the workers of a cluster write, each its own; read lazily again.

Within a task of a cluster the partitions are computed and written by its workers, and none of them travels through the caller
or the task that returned the collection. The folder must be on a disk that all of them share. Pods share none: there a
collection passes through the process of the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.formats.base import Packed, Stored, UnfitError, load
from mlfn.errors import OutputError

shared_folder: ContextVar[str | None] = ContextVar("mlfn_shared_folder", default=None)
"""A folder that the workers of the cluster share; None where that of temporary files will do."""
is_disk_shared: ContextVar[bool] = ContextVar("mlfn_is_disk_shared", default=True)
"""Whether the workers of the cluster see this process's files."""
_CHUNKS = "chunks.json"


class DaskDataFramePacker:
    """A DataFrame of Dask: parquet, a file a partition."""

    name = "dask-dataframe"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is one."""
        return _is_a(value, "dask.dataframe", "DataFrame")

    def pack(self, value: Any, /) -> Packed:
        """Write each partition where it is."""
        frame = _fetched(value)
        return _written(
            "dask-dataframe", "dask.dataframe.DataFrame", lambda folder: frame.to_parquet(str(folder), engine="pyarrow")
        )

    def unpack(self, stored: Stored, /) -> Any:
        """Return a collection that reads the partitions when it is computed."""
        return read_frame(stored.file)


class DaskArrayPacker:
    """An Array of Dask: a .npy file a chunk, and how they lie."""

    name = "dask-array"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is one."""
        return _is_a(value, "dask.array", "Array")

    def pack(self, value: Any, /) -> Packed:
        """Write each chunk where it is; unfit for objects, which only pickle could write."""
        if value.dtype.hasobject:
            raise UnfitError("it holds objects")
        found = _fetched(value)
        return _written("dask-array", "dask.array.Array", lambda folder: _write_chunks(found, folder))

    def unpack(self, stored: Stored, /) -> Any:
        """Return an array that reads the chunks when it is computed."""
        said = json.loads((stored.file / _CHUNKS).read_bytes())
        chunks = tuple(tuple(map(int, sizes)) for sizes in said["chunks"])
        numpy, array = load("numpy"), _load("dask.array")
        dtype = numpy.dtype(said["dtype"])
        meta = numpy.empty((0,) * len(chunks), dtype=dtype)
        return _read(array.map_blocks(_read_chunk, chunks=chunks, dtype=dtype, meta=meta, folder=str(stored.file)))


class DaskBagPacker:
    """A Bag of Dask: JSON, a file a partition."""

    name = "dask-bag"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is one."""
        return _is_a(value, "dask.bag", "Bag")

    def pack(self, value: Any, /) -> Packed:
        """Write each partition where it is; unfit where an item is no tagged JSON."""
        bag = _fetched(value)
        return _written("dask-bag", "dask.bag.Bag", lambda folder: _write_items(bag, folder))

    def unpack(self, stored: Stored, /) -> Any:
        """Return a bag that reads the partitions when it is computed."""
        files = sorted(str(path) for path in stored.file.glob("*.json"))
        if not files:
            raise FileNotFoundError("there is no partition")
        delayed = _load("dask.delayed").delayed(_read_items)
        return _read(_load("dask.bag").from_delayed([delayed(file) for file in files]))


def read_frame(path: Path) -> Any:
    """Return a frame of Dask that reads a parquet file or folder."""
    load("pyarrow")
    return _read(_load("dask.dataframe").read_parquet(str(path), engine="pyarrow"))


def read_csv(path: Path) -> Any:
    """Return a frame of Dask that reads a CSV file."""
    return _read(_load("dask.dataframe").read_csv(str(path)))


def _is_a(value: Any, module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(value, found)


def _load(module: str) -> Any:
    from mlfn.errors import MissingExtraError
    from mlfn.host.imports import import_whole

    try:
        return import_whole(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed here, and a value needs it. Install it with: pip install 'mlfn[dask]'"
        ) from error


def _fetched(collection: Any) -> Any:
    """Return a collection that this process can write: where the workers do not see its files, one that it holds."""
    return collection if is_disk_shared.get() else _held(collection, collection.compute())


def _read(collection: Any) -> Any:
    """Return a collection of files that the workers can compute: where they do not see them, one that this process holds."""
    if is_disk_shared.get():
        return collection
    with _where_files_are():
        return _held(collection, collection.compute())


def _held(collection: Any, whole: Any) -> Any:
    """Return a collection in the partitions of another, of what that is computed to."""
    kind = type(collection).__name__
    if kind == "Array":
        return _load("dask.array").from_array(whole, chunks=collection.chunks)
    if kind == "Bag":
        return _load("dask.bag").from_sequence(whole, npartitions=collection.npartitions)
    return _load("dask.dataframe").from_pandas(whole, npartitions=collection.npartitions)


def _where_files_are() -> AbstractContextManager[Any]:
    """Have collections be computed in this process, where the workers do not see its files."""
    if is_disk_shared.get():
        return nullcontext()
    computed_here: AbstractContextManager[Any] = _load("dask.config").set(scheduler="threads")
    return computed_here


def _written(packer: str, kind: str, write: Callable[[Path], object]) -> Packed:
    """Return the folder that `write` fills, which is removed once its content is stored."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="partitions-", dir=shared_folder.get()))
    try:
        with _where_files_are():
            write(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Packed(packer, kind, content=folder, size=size, is_temporary=True)


def _write_chunks(value: Any, folder: Path) -> None:
    import numpy as np
    from dask.delayed import delayed

    save = delayed(_save_chunk, pure=False)
    blocks = value.to_delayed()
    places = [(index, save(blocks[index], str(folder), index)) for index in np.ndindex(blocks.shape)]
    shapes = dict(zip([index for index, _ in places], _computed([task for _, task in places]), strict=True))
    chunks = [
        [shapes[tuple(number if other == axis else 0 for other in range(value.ndim))][axis] for number in range(count)]
        for axis, count in enumerate(blocks.shape)
    ]
    _require_all(folder, len(places), "*.npy")
    (folder / _CHUNKS).write_text(json.dumps({"chunks": chunks, "dtype": value.dtype.str}))


def _write_items(value: Any, folder: Path) -> None:
    from dask.delayed import delayed

    save = delayed(_save_items, pure=False)
    parts = value.to_delayed()
    width = len(str(len(parts)))
    reasons = _computed([save(part, str(folder / f"{number:0{width}}.json")) for number, part in enumerate(parts)])
    if reason := next(filter(None, reasons), None):
        raise UnfitError(reason)
    _require_all(folder, len(parts), "*.json")


def _computed(tasks: list[Any]) -> tuple[Any, ...]:
    from dask.base import compute

    found: tuple[Any, ...] = compute(*tasks)
    return found


def _require_all(folder: Path, count: int, pattern: str) -> None:
    if (found := len(list(folder.glob(pattern)))) != count:
        raise OutputError(
            f"{count} partitions were written, and {found} of them are in {folder} here: the workers do not share that disk."
        )


def _save_chunk(block: Any, folder: str, index: tuple[int, ...]) -> tuple[int, ...]:
    import numpy as np

    array = np.asarray(block)
    np.save(Path(folder, f"{'.'.join(map(str, index)) or 'whole'}.npy"), array, allow_pickle=False)
    return tuple(array.shape)


def _read_chunk(folder: str, block_id: tuple[int, ...] = ()) -> Any:
    import numpy as np

    return np.load(Path(folder, f"{'.'.join(map(str, block_id)) or 'whole'}.npy"), allow_pickle=False)


def _save_items(items: Any, path: str) -> str | None:
    """Write a partition; return why it cannot be."""
    try:
        text = tagged_json.dumps(tagged_json.encode(list(items)))
    except UnfitError as error:
        return str(error)
    Path(path).write_text(text)
    return None


def _read_items(path: str) -> list[Any]:
    found: list[Any] = tagged_json.decode(json.loads(Path(path).read_bytes()))
    return found
