"""A library's part in a digest: the public names of its objects, and the attributes that the user set on them.

A library's upgrade may move a class to a private module, wrap a function, add a parameter to a constructor or store its
version in every object. None of that changes a digest.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlfn.code.former_names import former_name
from mlfn.code.ownership import is_own_module

Recurse = Callable[[object], bytes]

_CONTAINERS = (tuple, list, dict, set, frozenset, bytes, bytearray, collections.deque)
# Their __module__ is their own or their class's, and a name is not all of their state.
_NEVER_NAMED = (types.ModuleType, types.MethodType, functools.partial, property, staticmethod, classmethod)


def is_installed_class(cls: type) -> bool:
    """Return whether a class is a library's; builtins and mlfn's own too."""
    # A metaclass that is its own instance has a descriptor there.
    return isinstance(cls.__module__, str) and not is_own_module(cls.__module__)


# -- names ---------------------------------------------------------------------------------------------------


def installed_name(value: Any) -> str | None:
    """Return the name under which an installed module holds this very object, or None.

    Functions, classes and other callables have one. So have objects that a library keeps under a private name, such as the
    global random generators. An object under a public name that users set attributes on (``settings``) has none.
    """
    if isinstance(value, (*_NEVER_NAMED, *_CONTAINERS)):
        return None
    return _defined_name(value) or _held_name(value)


def public_name(module: str, qualname: str, value: Any) -> str:
    """Return the name of `value` in the outermost package that has it: the defining module may change."""
    pieces = module.split(".")
    for i in range(1, len(pieces) + 1):
        outer = ".".join(pieces[:i])
        if value is not None and _resolve(outer, qualname) is value:
            return _stable_name(outer, qualname)
    return _stable_name(module, qualname)


def _stable_name(module: str, qualname: str) -> str:
    former_module, former_qualname = former_name(module, qualname)
    return f"{_without_private_parts(former_module)}:{former_qualname}"


def made_name(module: str, qualname: str) -> str:
    """Return the name of a function that a library's function returned, by the public name of the latter."""
    maker, inner, rest = qualname.partition(".<locals>")
    return public_name(module, maker, _resolve(module, maker)) + inner + rest


def _defined_name(value: Any) -> str | None:
    # An object without these attributes would give its class's.
    module = _read(value, "__module__")
    qualname = _read(value, "__qualname__") or _read(value, "__name__")
    if not isinstance(module, str) or not isinstance(qualname, str) or is_own_module(module):
        return None
    return public_name(module, qualname, value) if _resolve(module, qualname) is value else None


def _read(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - an unbound proxy may raise anything
        return None


def _held_name(value: Any) -> str | None:
    cls = type(value)
    if isinstance(value, type) or not is_installed_class(cls):
        return None
    pieces = cls.__module__.split(".")
    for i in range(1, len(pieces) + 1):
        module = sys.modules.get(".".join(pieces[:i]))
        names = [name for name, held in list(vars(module).items()) if held is value] if module else []
        # Users set attributes on an object under a public name that is not callable. A logger is its name.
        if names and (callable(value) or cls.__name__ == "Logger" or all(name.startswith("_") for name in names)):
            return f"{_without_private_parts('.'.join(pieces[:i]))}:{min(names)}"
    return None


def _resolve(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading a deprecated name warns
        for part in qualname.split("."):
            try:
                found = getattr(found, part)
            except Exception:  # noqa: BLE001 - a module's own __getattr__ may raise anything
                return None
    return found


def _without_private_parts(module: str) -> str:
    # Python 3.13 moved pathlib.Path to pathlib._local.
    return ".".join(part for part in module.split(".") if not part.startswith("_")) or module


# -- attributes that were set --------------------------------------------------------------------------------


def set_state(cls: type, state: Mapping[str, Any], recurse: Recurse) -> dict[str, Any]:
    """Return the attributes of an instance that were set by the user.

    Those that equal a default of the library's constructor, or the library's version, were not. The state of a user's own
    class counts in full.
    """
    parameters = _constructor_parameters(cls)
    installed = is_installed_class(cls)
    version = getattr(sys.modules.get(cls.__module__.partition(".")[0]), "__version__", None) if installed else None

    derived = _derived_names(cls, state, parameters)

    def is_set(name: str, value: Any) -> bool:
        if name in derived or (installed and name.startswith("_") and _is_incidental(name, value)):
            return False
        if name.endswith("version") and isinstance(value, str) and value == version:
            return False
        default = parameters.get(name, parameters.get(name.lstrip("_"), inspect.Parameter.empty))
        return default is inspect.Parameter.empty or (value is not default and recurse(value) != recurse(default))

    return {name: value for name, value in state.items() if not isinstance(name, str) or is_set(name, value)}


def set_fields(value: Any, recurse: Recurse) -> Iterator[tuple[str, Any]]:
    """Yield a dataclass instance's fields; those that a library declares only where they differ from their default."""
    library = {
        field.name
        for base in type(value).__mro__
        if is_installed_class(base) and dataclasses.is_dataclass(base)
        for field in dataclasses.fields(base)
    }
    for field in dataclasses.fields(value):
        item = getattr(value, field.name, None)
        if field.name not in library or not _is_field_default(field, item, recurse):
            yield field.name, item


def _is_field_default(field: dataclasses.Field[Any], item: Any, recurse: Recurse) -> bool:
    if field.default is not dataclasses.MISSING:
        return recurse(item) == recurse(field.default)
    factory: Any = field.default_factory
    return factory in (list, dict, set, tuple, frozenset) and type(item) is factory and not item


def _derived_names(cls: type, state: Mapping[str, Any], parameters: Mapping[str, Any]) -> set[str]:
    """Return the attributes that scikit-learn's constructors derive from their parameters, for an unfitted estimator.

    A fitted one has attributes that end with an underscore, and any of its other attributes may hold data too.
    """
    if not cls.__module__.startswith("sklearn.") or not hasattr(cls, "get_params"):
        return set()
    if any(name.endswith("_") for name in state):
        return set()
    return {name for name in state if name not in parameters and not name.startswith("_")}


def _constructor_parameters(cls: type) -> Mapping[str, Any]:
    """Return the parameters of a library's constructor with their defaults; none of one that the user wrote."""
    for base in cls.__mro__:
        if base is not object and "__init__" in vars(base):
            return _parameters(base) if is_installed_class(base) else {}
    return {}


@functools.lru_cache(maxsize=512)
def _parameters(cls: type) -> Mapping[str, Any]:
    try:
        parameters = inspect.signature(vars(cls)["__init__"]).parameters
    except (TypeError, ValueError):  # written in C
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


def _is_incidental(name: str, value: Any) -> bool:
    """Return whether a private attribute of a library's object is empty, a lock, or an id drawn at random."""
    if value is None or (isinstance(value, (tuple, list, dict, set, frozenset)) and not value):
        return True
    is_id = name.endswith("id") and isinstance(value, str) and _RANDOM_ID.fullmatch(value) is not None
    return is_id or type(value).__module__ in ("_thread", "threading")


_RANDOM_ID = re.compile("[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")
