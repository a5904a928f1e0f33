"""``file.py::name`` or ``module:name`` -> the declared function."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mlfn.errors import DeclarationError, InputNotFoundError, MlfnError, OptionError, ParameterError, nearest
from mlfn.functions.declaration import Function
from mlfn.spec.values import UNSET
from mlfn.ui.cli.conversion import plain

AnyFunction = Function[..., Any, Any]
_FORMS = "file.py::name, or module:name"
_TEXTS = {"name", "project", "kind", "image", "source"}
_LISTS = {"requirements", "secrets"}
_HERE = str(Path(__file__).parents[2])


def find_function(target: str) -> AnyFunction:
    """Import the file or module of a target and return its declared function.

    What the module prints while it is imported goes to stderr. Raises InputNotFoundError where there is no such file
    or module, DeclarationError where it cannot be imported or the name is no declared function.
    """
    where, name = _split(target)
    with contextlib.redirect_stdout(sys.stderr):
        module = _load_file(Path(where)) if _is_file(where) else _load_module(where)
    return _declared(module, where, name)


def with_options(function: AnyFunction, given: Sequence[str]) -> AnyFunction:
    """Return the function with options that were written ``name=value``, ``env.KEY=value`` or ``name=`` to unset."""
    options: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise OptionError(f"-o {item!r}: write name=value, as in -o cpu=2 or -o env.DEBUG=1.")
        option, _, key = name.partition(".")
        if key:
            options.setdefault(option, {})[key] = text or UNSET
        elif not text:
            options[option] = UNSET
        elif option in _LISTS:
            items = json.loads(text) if text.startswith("[") else text.split(",")
            options[option] = [*options.get(option, ()), *items]
        else:
            options[option] = text if option in _TEXTS else plain(text)
    return function.with_options(**options) if options else function


def _split(target: str) -> tuple[str, str]:
    where, colons, name = target.rpartition("::")
    if not colons:
        where, colons, name = target.rpartition(":")
    if colons and where and all(part.isidentifier() for part in name.split(".")):
        return where, name
    if not colons and _is_file(target) and Path(target).is_file():
        with contextlib.redirect_stdout(sys.stderr):
            names = _functions(_load_file(Path(target)))
        meant = " or ".join(f"{target}::{name}" for name in names)
        none = "it declares none; put @mlfn.function above one."
        raise ParameterError(f"{target!r} names a file without a function: {meant or none}")
    raise ParameterError(f"{target!r} names no function: {_FORMS} is allowed.")


def _is_file(where: str) -> bool:
    return where.endswith(".py") or os.sep in where or Path(where).is_file()


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        here = [item.name for item in folder.glob("*.py")] if folder.is_dir() else []
        raise InputNotFoundError(f"There is no file {str(path)!r}: {nearest(path.name, here)}")
    root, name = _module_name(path.resolve())
    sys.path.insert(0, str(root))
    if "." in name:
        return _imported(lambda: importlib.import_module(name), str(path))
    return _imported(lambda: _execute(path.resolve(), name), str(path))


def _module_name(path: Path) -> tuple[Path, str]:
    """Return the folder to import from, and the name that relative imports of the file need."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    # A script called json.py must not take the place of the module of that name.
    if len(parts) == 1 and (parts[0] in sys.modules or parts[0] in sys.stdlib_module_names):
        parts = [f"{parts[0]}_script"]
    return root, ".".join(part for part in parts if part != "__init__")


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"{str(path)!r} is no Python file: its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None and name not in sys.modules:
        raise InputNotFoundError(f"There is no module {name!r} here or installed; {_FORMS} is allowed.")
    return _imported(lambda: importlib.import_module(name), name)


def _imported(load: Any, where: str) -> ModuleType:
    try:
        module: ModuleType = load()
    except MlfnError as error:
        raise type(error)(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        raise DeclarationError(f"{where} cannot be imported.\n{_user_frames(error)}") from error
    return module


def _user_frames(error: BaseException) -> str:
    described = traceback.TracebackException.from_exception(error)
    machinery = (_HERE, "<frozen importlib")
    described.stack = traceback.StackSummary.from_list(
        frame
        for frame in described.stack
        if not frame.filename.startswith(machinery) and "importlib" not in Path(frame.filename).parts
    )
    return "".join(described.format()).rstrip()


def _declared(module: ModuleType, where: str, name: str) -> AnyFunction:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise DeclarationError(f"{where} has no function {name!r}: {nearest(name, _functions(module))}")
        value = getattr(value, part)
    if isinstance(value, Function):
        return value
    if callable(value):
        raise DeclarationError(
            f"{name!r} in {where} is a plain function: put @mlfn.function above it, so that it can be submitted."
        )
    raise DeclarationError(f"{name!r} in {where} is no function: {nearest(name, _functions(module))}")


def _functions(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Function)]
