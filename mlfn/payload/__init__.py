"""Callables and values as signed bytes; what travels to a worker and what comes back.

The header is readable without unpickling anything, and the body meets no unpickler before the signature
holds.

This file travels to the worker: the standard library and cloudpickle are all that it may need.
"""

from __future__ import annotations

import functools
import hmac
import io
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mlfn.errors import PayloadError, SignatureError, UnpicklableError
from mlfn.payload.culprit import Edge, find_culprit, render_path
from mlfn.payload.envelope import Header, check_key, check_python, sign, signature, split, write_header
from mlfn.payload.parcel import code_of_file, find_global, is_notebook_shell

PROTOCOL = 5

# cloudpickle keeps the modules that travel by value in one global set: one packer at a time. Reentrant, for a
# user's __reduce__ that packs something itself.
_by_value_lock = threading.RLock()
# Classes that have all their members: those packed here, and those rebuilt here.
_complete: weakref.WeakSet[type] = weakref.WeakSet()


def pack(
    obj: object,
    *,
    key: bytes,
    role: str,
    qualname: str,
    by_value: Sequence[str] = (),
    by_reference: Collection[str] = (),
    attributes: Mapping[str, Collection[str]] | None = None,
) -> bytes:
    """Return `obj` as a signed payload.

    Functions and classes of the modules in `by_value` travel as code. Those of `by_reference` are named, to
    be imported by the reader: a worker, to which they came as code, thereby returns the caller's own classes.
    A module object in `attributes` travels with these attributes alone.

    Raises UnpicklableError, with the path to the value that pickle refuses.
    """
    check_key(key)
    dump = _dumper(by_value, by_reference, attributes or {})
    try:
        body = dump(obj)
    except Exception as error:
        found = find_culprit(obj, dump, attributes or {})
        raise _unpicklable(qualname, found or ((), obj), error) from error
    header = write_header(body, role=role, qualname=qualname, cloudpickle=_cloudpickle().__version__)
    return sign(header, body, key)


def read_header(data: bytes) -> Header:
    """Return the header of a payload; nothing is unpickled and no signature checked."""
    return split(data)[0]


def unpack(data: bytes, *, key: bytes, role: str | None = None) -> Any:
    """Return what was packed, once signature and Python minor are right.

    Raises PayloadError for bytes that are no payload, SignatureError for those changed or signed by another
    key, SkewError for those of another Python minor. A missing module stays an ImportError.
    """
    check_key(key)
    header, signed, found, body = split(data)
    if not hmac.compare_digest(signature(signed, body, key), found):
        raise SignatureError(
            f"The payload of {header.qualname!r} was changed or signed with another key: "
            "nothing of it was read. Submit again from a process that has this machine's key."
        )
    if role is not None and header.role != role:
        raise PayloadError(f"The payload of {header.qualname!r} is a {header.role!r}; a {role!r} was expected.")
    check_python(header)
    return _load(header, body)


def find_unpicklable(obj: object, name: str, *, by_value: Sequence[str] = ()) -> str | None:
    """Return the path from `name` to the innermost value that pickle refuses, or None when it takes `obj`."""
    edges = find_culprit(obj, _dumper(by_value, (), {}), {})
    return None if edges is None else render_path(name, edges[0])


def _load(header: Header, body: memoryview) -> Any:
    try:
        return pickle.loads(body)  # noqa: S301 - its signature was checked
    except (ImportError, MemoryError):
        # The worker has words of its own for a missing module and for memory.
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PayloadError(
            f"The {header.role} {header.qualname!r} could not be rebuilt here ({reason}). "
            f"It was packed with cloudpickle {header.cloudpickle}, mlfn {header.mlfn}."
        ) from error


# -- pickling ------------------------------------------------------------------------------------------------

Dump = Callable[[object], bytes]


def prepare() -> None:
    """Load what packing and unpacking need, while there is time."""
    _pickler_class()


def _cloudpickle() -> Any:
    import cloudpickle

    return cloudpickle


@functools.cache
def _pickler_class() -> Any:
    class PayloadPickler(_cloudpickle().Pickler):  # type: ignore[misc]
        by_reference: Collection[str] = ()
        attributes: Mapping[str, Collection[str]] = {}

        def reducer_override(self, obj: Any) -> Any:
            if self.by_reference and _is_named(obj, self.by_reference):
                return find_global, (obj.__module__, obj.__qualname__)
            if isinstance(obj, types.CodeType):
                return _reduce_code(obj, self.dispatch_table[types.CodeType])
            if is_notebook_shell(obj):
                return find_global, ("mlfn.payload.parcel", "get_ipython")
            if isinstance(obj, types.ModuleType) and obj.__name__ in self.attributes:
                return _reduce_module(obj, self.attributes[obj.__name__])
            reduced = super().reducer_override(obj)
            return _reduce_class(obj, reduced) if isinstance(obj, type) else reduced

    return PayloadPickler


def _reduce_code(code: types.CodeType, reduce: Callable[[types.CodeType], Any]) -> Any:
    """Return cloudpickle's reduction of code, with the file that it is from: tracebacks show its lines.

    Since 3.1.3 cloudpickle puts a word in its place.
    """
    make, arguments = reduce(code)
    return (make, arguments) if code.co_filename in arguments else (code_of_file, (code.co_filename, *arguments))


def _reduce_class(cls: type, reduced: Any) -> Any:
    """Return cloudpickle's reduction of a class by value, mended in two ways; any other as it is.

    cloudpickle 3.1 rebuilds a slotted class with a ``__dict__``: its instances then do not fit the original
    class. And it sets the members of a class that is there already anew: a class attribute that the worker
    counts in would start again with every argument, and the caller's own methods be replaced by copies with
    every result.
    """
    if not isinstance(reduced, tuple) or getattr(reduced[-1], "__name__", "") != "_class_setstate":
        return reduced
    _complete.add(cls)
    make, arguments, *rest, _ = reduced
    if "__slots__" in vars(cls) and make.__name__ == "_make_skeleton_class":
        kind, name, bases, namespace, *more = arguments
        arguments = (kind, name, bases, {**namespace, "__slots__": vars(cls)["__slots__"]}, *more)
    return make, arguments, *rest, fill_class


def fill_class(cls: type, state: Any) -> None:
    """Give a rebuilt class its members, once."""
    if cls not in _complete:
        _complete.add(cls)
        _cloudpickle().cloudpickle._class_setstate(cls, state)


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
    # The attributes come as state, after the module is known to the unpickler: they may refer back to it.
    return new_module, (module.__name__,), state, None, None, fill_module


def new_module(name: str) -> types.ModuleType:
    """Return an empty module that `import` does not know."""
    return types.ModuleType(name)


def fill_module(module: types.ModuleType, state: dict[str, Any]) -> None:
    """Set a module's attributes."""
    vars(module).update(state)


def track_class(cls: type, identity: str) -> None:
    """Let cloudpickle know a class by `identity`, where it would draw a number that no other process knows.

    A class that arrives under an identity known here is the one known here, the latest of several.
    """
    module = _cloudpickle().cloudpickle
    with _by_value_lock:
        # Private to cloudpickle: a release without them costs the shared identity, and nothing else.
        by_class = getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", None)
        by_id = getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_ID", None)
        if by_class is not None and by_id is not None and cls not in by_class:
            by_class[cls], by_id[identity] = identity, cls


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
        # A module that is not imported cannot be found by reference either: cloudpickle takes its code by
        # value.
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
