"""Parameters from a file: CSV, JSON or YAML, as MLRun's ``param_file`` has them.

For a grid each column or key is a list of values; for a zip the rows go in step.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from mlfn.errors import InputNotFoundError, ParameterError, nearest
from mlfn.spec.yaml_text import YamlError, from_yaml
from mlfn.sweep.params.listed import short

_LARGEST = 16 * 2**20

Lists = dict[str, list[Any]]


def grid_from_file(path: str | os.PathLike[str]) -> Lists:
    """Return the lists of a grid: in JSON and YAML ``{"depth": [4, 8], "lr": [0.1]}``, in CSV a column for each key.

    A column of a CSV file may be shorter than others: empty cells at its end are none of its values.
    """
    file, text = _read(path)
    if file.suffix.lower() == ".csv":
        lines, columns = _columns(file, text)
        for name, cells in columns.items():
            while cells and cells[-1] is _EMPTY:
                cells.pop()
            if _EMPTY in cells:
                gap = lines[cells.index(_EMPTY)]
                raise _refused(file, gap, f"{name!r} has no value here, but has some below. Write null for None")
        return columns
    data = _PARSERS[file.suffix.lower()](file, text)
    if isinstance(data, list):
        raise _refused(
            file, 1, 'it holds a list of rows: sweep it by .zip(...), or write lists by key, {"depth": [4, 8]}'
        )
    return _lists(file, text, data)


def zip_from_file(path: str | os.PathLike[str]) -> Lists:
    """Return lists that go in step: the rows of a CSV file, a JSON or YAML list of mappings, or lists by key.

    An empty cell of a CSV file is None.
    """
    file, text = _read(path)
    if file.suffix.lower() == ".csv":
        _, columns = _columns(file, text)
        return {name: [None if cell is _EMPTY else cell for cell in cells] for name, cells in columns.items()}
    data = _PARSERS[file.suffix.lower()](file, text)
    return _lists(file, text, _from_rows(file, data) if isinstance(data, list) else data)


def matching_files(pattern: str, shown: str) -> list[Path]:
    """Return the files that a pattern such as ``"data/*.csv"`` matches, by name; raise ParameterError where there is none."""
    files = sorted(
        path for found in glob(os.path.expanduser(pattern), recursive=True) if (path := Path(found)).is_file()
    )
    if files:
        return files
    what = "names no pattern and no file" if not has_magic(pattern) else "matches no file"
    raise ParameterError(
        f"{shown} {what}: a list is allowed, or a pattern such as 'data/*.csv'; a relative one starts at {os.getcwd()}."
    )


def _read(path: str | os.PathLike[str]) -> tuple[Path, str]:
    file = Path(path)
    if file.suffix.lower() not in (".csv", *_PARSERS):
        raise ParameterError(f"{str(path)!r} is no file of parameters. Allowed: .csv, .json, .yaml, .yml.")
    try:
        if file.stat().st_size > _LARGEST:
            raise ParameterError(f"{file} is larger than {_LARGEST >> 20} MiB: give a generator to sweep(...) instead.")
        data = file.read_bytes()
    except FileNotFoundError:
        near = nearest(file.name, os.listdir(file.parent)[:50]) if file.parent.is_dir() else f"No folder {file.parent}."
        raise InputNotFoundError(f"The file of parameters {str(path)!r} is not there. {near}") from None
    except OSError as error:
        raise ParameterError(f"The file of parameters {str(path)!r} cannot be read: {error.strerror}.") from error
    try:
        return file, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(file, data.count(b"\n", 0, error.start) + 1, "it is no UTF-8: save it as UTF-8") from error


def _refused(file: Path, line: int, why: str) -> ParameterError:
    return ParameterError(f"{file}:{line}: {why}.")


# -- JSON and YAML: typed as they are
def _json(file: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise _refused(file, error.lineno, f"no JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise _refused(file, 1, "it is nested too deeply") from error
    except ValueError as error:  # a key twice, or a number of thousands of digits
        raise _refused(file, _line_of(text, str(error)), str(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _yaml(file: Path, text: str) -> Any:
    try:
        return from_yaml(text)
    except YamlError as error:
        raise _refused(file, error.line, error.why.removesuffix(".")) from error


_PARSERS: Mapping[str, Callable[[Path, str], Any]] = {".json": _json, ".yaml": _yaml, ".yml": _yaml}


def _lists(file: Path, text: str, data: Any) -> Lists:
    if not isinstance(data, dict) or not data:
        raise _refused(file, 1, f"expected lists by key, such as {{depth: [4, 8]}}, and found {short(data)}")
    for key, items in data.items():
        if not isinstance(key, str):
            raise _refused(file, _line_of(text, str(key)), f"the key {key!r} is no text")
        if not isinstance(items, list) or not items:
            wrong = "is empty" if isinstance(items, list) else f"is no list: {_list_for(key, items)}"
            raise _refused(file, _line_of(text, key), f"{key}={short(items)} {wrong}")
    return data


def _list_for(key: str, items: Any) -> str:
    for part, values in items.items() if isinstance(items, dict) else ():
        if isinstance(values, list):
            return f"a part is swept by its path, {key}.{part}: {short(values)}"
    return f"write [{short(items)}]"


def _from_rows(file: Path, rows: list[Any]) -> Lists:
    keys = rows[0] if rows and isinstance(rows[0], dict) else {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.keys() != keys.keys():
            why = f"row {number} is {short(row)}: each row needs the keys of the first, as in [{{depth: 4}}, {{depth: 8}}]"
            raise _refused(file, 1, why)
    return {key: [row[key] for row in rows] for key in keys}


def _line_of(text: str, key: str) -> int:
    """Return the line of a key; 1 where it is not found."""
    quoted = re.search(r"'(.*)'", key)
    name = re.escape(quoted[1] if quoted else key)
    found = [match.start() for match in re.finditer(rf"(?<![\w.]){name}[\"']?\s*:", text)]
    return text.count("\n", 0, found[-1]) + 1 if found else 1


# -- CSV: typed by how a cell is written
_EMPTY = object()  # a cell, other than one with the word null
_WORDS: Mapping[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,4000})")  # 007 is a code, not a number
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")


def _columns(file: Path, text: str) -> tuple[list[int], Lists]:
    """Return the line of each row, and the cells of each column."""
    import csv

    reader = csv.reader(text.splitlines(keepends=True), strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise _refused(file, reader.line_num, f"no CSV: {error}") from error
    if len(rows) < 2:
        raise _refused(file, 1, "expected a line of names and lines of values, such as 'depth,lr' and '4,0.1'")
    (first, names), *others = rows
    for number, name in enumerate(names):
        if not name:
            raise _refused(file, first, f"column {number + 1} has no name")
        if name in names[:number]:
            raise _refused(file, first, f"the name {name!r} is there twice")
    for line, row in others:
        if len(row) != len(names):
            raise _refused(file, line, f"{len(row)} values for {len(names)} names ({', '.join(names)})")
    cells = [[_cell(cell) for cell in row] for _, row in others]
    return [line for line, _ in others], {name: [row[at] for row in cells] for at, name in enumerate(names)}


def _cell(text: str) -> Any:
    if not text:
        return _EMPTY
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
