"""Callables and values as signed bytes, on their way to a worker and back.

The header is readable without unpickling anything, and the body is not unpickled before the signature is checked. This file
travels to the worker: it may need the standard library and cloudpickle only.
"""

from __future__ import annotations

import functools
import io
import pickle
import re
import sys
import threading
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mlfn._version import __version__
from mlfn.code import worker_modules
from mlfn.code.bundle import code_of_file, find_global, is_notebook_shell
from mlfn.code.classes import fill_class, reduce_class  # noqa: F401 - stored payloads name `fill_class` here
from mlfn.code.envelope import (
    Head,
    Header,
    check_body,
    check_key,
    check_pin,
    check_python,
    check_signature,
    sign,
    split,
    write_header,
)
from mlfn.code.unpicklable import Edge, find_culprit, render_path
from mlfn.code.worker_modules import ModulesUnpickler
from mlfn.code.wrappers import reduce_wrapper
from mlfn.errors import PayloadError, RebuildError, UnpicklableError

PROTOCOL = 5
Signers = Callable[[], Collection[str]]

# Those that users import and name in full.
_PUBLIC_MODULE = re.compile(r"mlfn\.(errors|sweep|sweep\.strategy|testing(\.\w+)?)")

# cloudpickle keeps the modules that travel by value in one global set, so one thread packs at a time. Reentrant, for a user's
# __reduce__ that packs a payload itself.
_by_value_lock = threading.RLock()


def pack(
    obj: object,
    *,
    key: bytes,
    role: str,
    qualname: str,
    execution: str = "",
    by_value: Sequence[str] = (),
    by_reference: Collection[str] = (),
    attributes: Mapping[str, Collection[str]] | None = None,
) -> bytes:
    """Return `obj` as a signed payload; `execution` names the one that `key` was derived for.

    Functions and classes of the modules in `by_value` travel as code. Those of `by_reference` travel by name: a worker that got
    them as code thereby returns the caller's own classes. A module object in `attributes` travels with these attributes alone.

    Raises UnpicklableError, with the path to the value that pickle refuses.
    """
    check_key(key)
    dump = _dumper(by_value, by_reference, attributes or {})
    try:
        body = dump(obj)
    except Exception as error:
        found = find_culprit(obj, dump, attributes or {})
        raise _unpicklable(qualname, found or ((), obj), error) from error
    header = write_header(
        body, role=role, qualname=qualname, cloudpickle=_cloudpickle().__version__, execution=execution
    )
    return sign(header, body, key)


def read_header(data: bytes) -> Header:
    """Return the header of a payload; nothing is unpickled and no signature checked."""
    return split(data)[0].header


def unpack(data: bytes, *, key: bytes, role: str | None = None, signers: Signers = tuple) -> Any:
    """Return the packed object, after checking signature and Python minor.

    `key` is the user's; `signers` returns the executions whose signature counts as well, and is called for such a one alone.

    Raises PayloadError for bytes that are no payload, SignatureError for those changed or signed by another
    key, SkewError for those of another Python minor. A missing module stays an ImportError.
    """
    check_key(key)
    head, body = split(data)
    check_signature(head, body, key, signers() if head.header.execution else ())
    return _opened(head, body, role)


def unpack_pinned(data: bytes, *, pin: str | None, role: str) -> Any:
    """Return the packed object, where its head is the one that the client has checked; raises what `unpack` raises."""
    head, body = split(data)
    check_pin(head, pin)
    return _opened(head, body, role)


def unpack_function(data: bytes, *, pin: str | None, own: Collection[str] | None) -> Any:
    """Return the function of the one plan that this process runs, whose `own` modules it has from here on, and ``__main__``.

    Without `own` it has ``__main__`` alone: what this process pickles for others, as for the workers of an engine, holds functions
    of these modules whole, as those cannot import them. Raises what `unpack_pinned` raises.
    """
    head, body = split(data)
    check_pin(head, pin)
    worker_modules.begin(only_main=own is None)
    function = _opened(head, body, "function", own or ())
    worker_modules.finish_main()
    return function


def dump_brought() -> bytes:
    """Return the functions and classes that parameters brought to this worker, for the processes that it starts."""
    return _dumper((), (), {})(worker_modules.brought_by_values())


def load_brought(data: bytes) -> None:
    """Put what `dump_brought` returned into its modules."""
    ModulesUnpickler(io.BytesIO(data), None).load()


def _opened(head: Head, body: memoryview, role: str | None, own: Collection[str] | None = None) -> Any:
    header = head.header
    check_body(head, body)
    if role is not None and header.role != role:
        raise PayloadError(f"The payload of {header.qualname!r} is a {header.role!r}; a {role!r} was expected.")
    check_python(header)
    return _load(header, body, own)


def _load(header: Header, body: memoryview, own: Collection[str] | None) -> Any:
    try:
        if header.mlfn != __version__:
            return _load_of_other_version(body, own)
        if worker_modules.is_in_use():
            return ModulesUnpickler(io.BytesIO(body), own).load()
        return pickle.loads(body)  # noqa: S301 - its signature was checked
    except (ImportError, MemoryError):
        # The worker reports these two with messages of its own.
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RebuildError(
            f"The {header.role} {header.qualname!r} could not be rebuilt here ({reason}). "
            f"It was packed with cloudpickle {header.cloudpickle}, mlfn {header.mlfn}."
        ) from error


def _load_of_other_version(body: memoryview, own: Collection[str] | None) -> Any:
    from mlfn.code.former_names import FormerModuleFinder, FormerNamesUnpickler  # for old payloads only

    class FormerModulesUnpickler(ModulesUnpickler, FormerNamesUnpickler):
        """Reads pickles of a worker that may hold former names."""

    FormerModuleFinder.install()
    if worker_modules.is_in_use():
        return FormerModulesUnpickler(io.BytesIO(body), own).load()
    return FormerNamesUnpickler(io.BytesIO(body)).load()


# -- pickling ------------------------------------------------------------------------------------------------

Dump = Callable[[object], bytes]


def prepare() -> None:
    """Import cloudpickle ahead of use."""
    _pickler_class()


def _cloudpickle() -> Any:
    import cloudpickle

    return cloudpickle


@functools.cache
def _pickler_class() -> Any:
    class PayloadPickler(_cloudpickle().Pickler):  # type: ignore[misc]
        by_reference: Collection[str] = ()
        attributes: Mapping[str, Collection[str]] = {}

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.cells: dict[int, types.CellType] = {}  # of functions, by id

        def reducer_override(self, obj: Any) -> Any:
            reduced = _reduced_here(self, obj)
            if reduced is not None:
                return reduced
            reduced = super().reducer_override(obj)
            return _reduce_function(reduced, self.cells) if isinstance(obj, types.FunctionType) else reduced

        def is_own(self, obj: Any) -> bool:
            """Return whether a class travels as code, or is the caller's own."""
            return _is_by_value(obj) or bool(self.by_reference and _is_named(obj, self.by_reference))

    return PayloadPickler


def _reduced_here(pickler: Any, obj: Any) -> Any:
    """Return a recipe of what cloudpickle would take in another way; else None."""
    if pickler.by_reference and _is_named(obj, pickler.by_reference):
        return find_global, (obj.__module__, obj.__qualname__)
    if isinstance(obj, types.CodeType):
        return _reduce_code(obj, pickler.dispatch_table[types.CodeType])
    if is_notebook_shell(obj):
        return find_global, ("mlfn.code.bundle", "get_ipython")
    if isinstance(obj, types.ModuleType) and obj.__name__ in pickler.attributes:
        return _reduce_module(obj, pickler.attributes[obj.__name__])
    if issubclass(type(obj), type) and pickler.is_own(obj):  # not `isinstance`: to Python 3.10 list[int] is a type
        cls: Any = obj
        return reduce_class(cls, pickler.is_own)
    if isinstance(obj, types.CellType) and id(obj) in pickler.cells:
        return _cloudpickle().cloudpickle._make_empty_cell, ()
    return reduce_wrapper(obj, _is_named_here)


def _is_by_value(cls: type) -> bool:
    cloudpickle = _cloudpickle().cloudpickle
    if cls in (type(None), type(Ellipsis), type(NotImplemented)) or cls in cloudpickle._BUILTIN_TYPE_NAMES:
        return False
    return not cloudpickle._should_pickle_by_reference(cls)


def _is_named_here(obj: Any, name: str) -> bool:
    """Return whether a worker finds this very object under its module and name."""
    cloudpickle = _cloudpickle().cloudpickle
    found = cloudpickle._lookup_module_and_qualname(obj, name=name)
    return found is not None and not cloudpickle._is_registered_pickle_by_value(found[0])


def _reduce_function(reduced: Any, cells: dict[int, types.CellType]) -> Any:
    """Return cloudpickle's reduction of a function, with the `cells` that it shares with others, without internal modules of mlfn.

    cloudpickle adds every loaded module below a global whose name is that of an attribute: `mlfn.code` for a function that uses
    `mlfn` and the attribute `code` of anything. The next version may not have that module. And it gives each function cells of
    its own: what one of two closures sets, the other would not see. A cell is made empty, as its function may be in it.
    """
    if not isinstance(reduced, tuple) or len(reduced) <= 2:
        return reduced
    make, (*arguments, _), (state, slots), *rest = reduced
    added = slots["_cloudpickle_submodules"]
    slots["_cloudpickle_submodules"] = [module for module in added if not _is_internal(module.__name__)]
    closure = slots["__closure__"]
    if closure is not None:
        cells.update((id(cell), cell) for cell in closure)
        slots["__closure__"] = tuple(map(_copy_of_cell, closure))
    return make, (*arguments, closure), (state, slots), *rest


def _copy_of_cell(cell: types.CellType) -> types.CellType:
    try:
        return types.CellType(cell.cell_contents)
    except ValueError:  # it is empty
        return types.CellType()


def _is_internal(module: str) -> bool:
    return module.startswith("mlfn.") and _PUBLIC_MODULE.fullmatch(module) is None


def _reduce_code(code: types.CodeType, reduce: Callable[[types.CodeType], Any]) -> Any:
    """Return cloudpickle's reduction of code with its file name, for the source lines in tracebacks.

    Since 3.1.3 cloudpickle replaces the name by a placeholder.
    """
    make, arguments = reduce(code)
    return (make, arguments) if code.co_filename in arguments else (code_of_file, (code.co_filename, *arguments))


def _is_named(obj: Any, modules: Collection[str]) -> bool:
    if not isinstance(obj, (type, types.FunctionType)):
        return False
    if "<" in obj.__qualname__:  # <locals>, <lambda>: no import finds these again
        return False
    module = obj.__module__
    return module in modules or any(str(module).startswith(f"{name}.") for name in modules)


def _reduce_module(module: types.ModuleType, names: Collection[str]) -> Any:
    state = {name: getattr(module, name) for name in sorted(names) if hasattr(module, name)}
    for special in ("__file__", "__package__"):
        if special in vars(module):
            state[special] = vars(module)[special]
    if "__path__" in vars(module):
        state["__path__"] = list(module.__path__)  # a namespace package's own path object does not pickle
    # The attributes are the state, as they may refer back to the module.
    return new_module, (module.__name__,), state, None, None, fill_module


def new_module(name: str) -> types.ModuleType:
    """Return an empty module outside of `sys.modules`."""
    return types.ModuleType(name)


def fill_module(module: types.ModuleType, state: dict[str, Any]) -> None:
    """Set a module's attributes."""
    vars(module).update(state)


def _dumper(by_value: Sequence[str], by_reference: Collection[str], attributes: Mapping[str, Collection[str]]) -> Dump:
    def dump(obj: object) -> bytes:
        with io.BytesIO() as file, _travelling_by_value(by_value):
            pickler = _pickler_class()(file, protocol=PROTOCOL)
            pickler.by_reference = by_reference
            pickler.attributes = attributes
            pickler.dump(obj)
            return file.getvalue()

    return dump


@contextmanager
def _travelling_by_value(names: Sequence[str]) -> Iterator[None]:
    cloudpickle = _cloudpickle()
    with _by_value_lock:
        already = cloudpickle.list_registry_pickle_by_value()
        # cloudpickle takes the code of a module that is not imported by value anyway.
        modules = [sys.modules[name] for name in dict.fromkeys(names) if name in sys.modules and name not in already]
        added = []
        try:
            for module in modules:
                cloudpickle.register_pickle_by_value(module)
                added.append(module)
            yield
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


def _unpicklable(name: str, found: tuple[Sequence[Edge], object], cause: Exception) -> UnpicklableError:
    edges, culprit = found
    kind = type(culprit).__qualname__
    return UnpicklableError(
        f"{render_path(name, edges)} cannot travel to a worker: pickle refuses this {kind} "
        f"({type(cause).__name__}: {cause}). Make it inside the function, or pass what it is made from."
    )
