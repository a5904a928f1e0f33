"""Input files: which annotations let a str name one, and how each is read. A file is only opened for reading."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from mlfn.artifacts.formats import dask_collections
from mlfn.artifacts.formats.arrays import read_npy
from mlfn.artifacts.formats.base import load
from mlfn.artifacts.formats.spark_frames import active_session
from mlfn.errors import InputNotFoundError, MlfnError, ParameterError

Reader = Callable[[Path], Any]

_SPARK = "pyspark.DataFrame"
_READ_FROM_STR = frozenset(
    {"dask.DataFrame", "pandas.DataFrame", "pandas.Series", "numpy.ndarray", "pathlib.Path", _SPARK}
)


def annotation_name(annotation: Any) -> str | None:
    """Return the name that `read_input` takes for an annotation, or None where it cannot read such a value.

    Optional, Annotated, a union with None and a generic alias count as the type inside; a union of two types has no name.
    """
    kind = _reduced(annotation)
    if not isinstance(kind, type):
        return None
    # By the outermost package: versions define a class in different modules (pandas.core.frame, pathlib._local).
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}".removeprefix("builtins.")
    return name if name in _ANY_SUFFIX or name in _BY_SUFFIX or name == "pathlib.Path" else None


def wants_input(annotation: Any) -> bool:
    """Return whether a str given for this annotation names a file to read.

    True for a DataFrame, a Series, an array and a Path; False where a str could be the value itself.
    """
    return annotation_name(annotation) in _READ_FROM_STR


def reads_path(annotation: Any) -> bool:
    """Return whether a Path given for this annotation names a file to read: a Path can be none of these values."""
    return annotation_name(annotation) not in (None, "pathlib.Path")


def names_files(annotation: Any) -> bool:
    """Return whether a text with a pattern, given for many of these values, can only mean files: a text is none of them."""
    return annotation_name(annotation) in {*_READ_FROM_STR, "bytes"}


def readable_suffixes(annotation_name: str | None) -> tuple[str, ...]:
    """Return the suffixes of files that `read_input` reads as this type; empty where it takes any."""
    return tuple(_BY_SUFFIX.get(annotation_name, ()))


def read_input(path: Path, annotation_name: str | None) -> Any:
    """Read a file as the annotated type; without one, as its suffix says. A Path is returned unread.

    Raises:
        InputNotFoundError: there is no such file; names similar ones near it.
        ParameterError: a suffix that cannot be read as that type, or a file that cannot be read.
        MissingExtraError: pandas, NumPy or pyarrow is needed and not installed.

    """
    path = Path(path)
    if annotation_name == "pathlib.Path":
        # The function may be about to write it.
        return path
    reader = _reader(path, annotation_name)
    if not path.exists():
        raise InputNotFoundError(_not_found(path))
    try:
        return reader(path)
    except (MlfnError, MemoryError):
        raise
    except Exception as error:  # each format's library has errors of its own
        raise ParameterError(
            f"Cannot read {path} as {annotation_name or 'its suffix says'}: {type(error).__name__}: {error}"
        ) from error


def check_readable(path: Path, annotation_name: str | None) -> None:
    """Raise ParameterError for a file that `read_input` cannot read: a folder, or a suffix of another type."""
    if annotation_name == "pathlib.Path":
        return
    # Parquet may lie in several files of one folder; Spark writes each format so.
    in_parts = {".parquet"} if annotation_name != _SPARK else {*_BY_SUFFIX[_SPARK]}
    if path.is_dir() and path.suffix.lower() not in in_parts.intersection(readable_suffixes(annotation_name)):
        suffixes = ", ".join(readable_suffixes(annotation_name))
        raise ParameterError(
            f"Cannot read {path} as {annotation_name or 'a value'}: it is a folder. "
            f"Allowed: a file{f' with {suffixes}' if suffixes else ''}. Name one in it."
        )
    _reader(path, annotation_name)


def _reduced(annotation: Any) -> Any:
    while True:
        origin = get_origin(annotation)
        if origin in (Union, types.UnionType):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) != 1:
                return None
            annotation = members[0]
        elif origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin is not None:
            annotation = origin
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # type X = ..., from Python 3.12
            annotation = annotation.__value__
        else:
            return annotation


def _reader(path: Path, name: str | None) -> Reader:
    if name is not None and name in _ANY_SUFFIX:
        return _ANY_SUFFIX[name]
    readers = _BY_SUFFIX.get(name)
    if readers is None:
        known = ", ".join([*_ANY_SUFFIX, *(known for known in _BY_SUFFIX if known), "pathlib.Path"])
        raise ParameterError(f"Cannot read {path} as {name}: a file can be read as {known}.")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ParameterError(
            f"Cannot read {path} as {name or 'a value'}: its suffix is {path.suffix or 'missing'}. "
            f"Allowed: {', '.join(readers)}. Rename it, or read it yourself and pass the value."
        )
    return reader


def _not_found(path: Path) -> str:
    where = path.absolute()
    if not where.parent.is_dir():
        folder = next((parent for parent in where.parents if parent.is_dir()), where.parent)
        missing = where.relative_to(folder).parts[0]
        return f"There is no {where}: the folder {folder} has no {missing!r}. Check the path."
    import difflib  # 1 ms that only a mistake costs

    near = difflib.get_close_matches(
        where.name, sorted(entry.name for entry in where.parent.iterdir()), n=3, cutoff=0.5
    )
    hint = f"Near it: {', '.join(near)}." if near else "Nothing there has a name like it."
    return f"There is no {where}. {hint} Check the path; a relative one starts at {Path.cwd()}."


def _pandas(method: str, *, needs: str = "pandas", **options: Any) -> Reader:
    def read(path: Path) -> Any:
        load(needs)
        return getattr(load("pandas"), method)(path, **options)

    return read


def _spark(method: str, **options: Any) -> Reader:
    def read(path: Path) -> Any:
        if (session := active_session()) is None:
            raise ParameterError(f"Cannot read {path} as {_SPARK}: only runs of kind='spark' have an application.")
        return getattr(session.read.options(**options), method)(path.as_uri())

    return read


def _one_column(reader: Reader) -> Reader:
    def read(path: Path) -> Any:
        frame = reader(path)
        if frame.shape[1] != 1:
            raise ParameterError(f"Cannot read {path} as pandas.Series: it has {frame.shape[1]} columns, not one.")
        return frame.iloc[:, 0]

    return read


def _read_array(path: Path) -> Any:
    load("numpy")
    return read_npy(path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _json_of(kind: type) -> Reader:
    def read(path: Path) -> Any:
        value = _read_json(path)
        if type(value) is not kind:
            raise ParameterError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}.")
        return value

    return read


def _read_text(path: Path) -> str:
    # Path.read_text would turn \r\n into \n.
    return path.read_bytes().decode("utf-8")


_FRAME_READERS: dict[str, Reader] = {
    ".csv": _pandas("read_csv"),
    ".tsv": _pandas("read_csv", sep="\t"),
    ".parquet": _pandas("read_parquet", needs="pyarrow", engine="pyarrow"),
    ".json": _pandas("read_json"),
    ".jsonl": _pandas("read_json", lines=True),
    ".feather": _pandas("read_feather", needs="pyarrow"),
}
_ANY_SUFFIX: dict[str, Reader] = {"bytes": Path.read_bytes, "str": _read_text}
_BY_SUFFIX: dict[str | None, dict[str, Reader]] = {
    "pandas.DataFrame": _FRAME_READERS,
    "pandas.Series": {suffix: _one_column(reader) for suffix, reader in _FRAME_READERS.items()},
    "numpy.ndarray": {".npy": _read_array},
    _SPARK: {
        ".parquet": _spark("parquet"),
        ".csv": _spark("csv", header=True, inferSchema=True),
        ".tsv": _spark("csv", header=True, inferSchema=True, sep="\t"),
        ".json": _spark("json", multiLine=True),
        ".jsonl": _spark("json"),
        ".orc": _spark("orc"),
    },
    "dask.DataFrame": {".csv": dask_collections.read_csv, ".parquet": dask_collections.read_frame},
    "dict": {".json": _json_of(dict)},
    "list": {".json": _json_of(list)},
    None: {
        **_FRAME_READERS,
        ".json": _read_json,
        ".npy": _read_array,
        ".txt": _read_text,
        ".bin": Path.read_bytes,
    },
}
