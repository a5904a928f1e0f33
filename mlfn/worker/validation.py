"""Checks of what a handler logs: names, numbers and paths."""

from __future__ import annotations

import os
import re
from typing import Any

from mlfn.errors import OutputError, ParameterError, meant
from mlfn.spec.values import ANY_SCRIPT, is_name

_KEY = "_-."  # it becomes a folder's name
MAX_STEP = 1 << 63
_SERIES = "_-./@:+"


def output_key(name: str) -> str:
    """Return a legal name of an output."""
    if name == "return":
        raise ParameterError("'return' is the function's own return value: give an output that it logs another name.")
    return _legal(name, _KEY, "an output")


def series_name(name: str) -> str:
    """Return a legal name of a metric or constraint."""
    return _legal(name, _SERIES, "a metric or constraint")


def _legal(name: str, signs: str, what: str) -> str:
    if is_name(name, signs=signs, first="_-"):
        return name
    near = re.sub(r"[^\w.-]+", "_", name)[:128] if isinstance(name, str) else ""
    hint = f", as in {near!r}" if is_name(near, signs=signs, first="_-") and near.strip("_") else ""
    shown = f"{', '.join(map(repr, signs[:-1]))} and {signs[-1]!r}"
    raise ParameterError(
        f"{name!r} is no name for {what}: {ANY_SCRIPT}, {shown} are allowed, 1 to 128 of them (240 bytes of UTF-8), the first a "
        f"letter, digit, '_' or '-'{hint}."
    )


def as_float(name: str, value: Any) -> float:
    """Return a metric's value as a float."""
    if isinstance(value, str):
        raise ParameterError(f"log_metric({name!r}, {value!r}): a number is allowed; keep texts with log_result.")
    try:
        return float(value)
    except OverflowError as error:
        raise ParameterError(
            f"log_metric({name!r}, ...) got a whole number that no float holds; log_result keeps it whole."
        ) from error
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"log_metric({name!r}, ...) got a {type(value).__name__}: one number is allowed; keep other values with log_result."
        ) from error


def as_step(name: str, step: Any) -> int:
    """Return a metric's step as an int."""
    try:
        number = int(step)
    except (TypeError, ValueError, OverflowError):
        number = MAX_STEP
    if not -MAX_STEP <= number < MAX_STEP:
        raise ParameterError(f"log_metric({name!r}, step={step!r}): a whole number of 64 bits is allowed.")
    return number


def refuse_missing(call: str, key: str, value: Any) -> None:
    """Refuse a path that names neither a file nor a folder: kept as a value, a slip would be found too late."""
    if not isinstance(value, os.PathLike) or not hasattr(value, "is_file"):
        return
    path = os.fspath(value)
    try:
        if os.path.isfile(path) or os.path.isdir(path):
            return
        os.stat(path)
    except PermissionError:
        return  # the copy raises it
    except (OSError, ValueError):
        pass
    folder, name = os.path.split(os.path.abspath(path))
    near = meant(name, os.listdir(folder)) if os.path.isdir(folder) else f"{folder} is no folder. "
    raise OutputError(
        f"{call}({key!r}, {value!r}): no file or folder is there. {near[:1].upper()}{near[1:]}Write it first and check the "
        f"path; a relative one starts at {os.getcwd()}. log_result keeps a path as it is."
    )
