"""The user's modules in a worker: what travelled of ``__main__`` and of each own module stands in a module of that name.

So the functions of one module share their globals with it, and pickle, multiprocessing and inspect find functions and classes where
these say that they are. Used only in a process that runs one plan; standard library alone: this file travels to the worker.
"""

from __future__ import annotations

import functools
import pickle
import sys
import types
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from typing import Any, BinaryIO, cast

from mlfn.code.bundle import SourceFinder, find_spec

MAIN = "__main__"
_CLOUDPICKLE = "cloudpickle.cloudpickle"
#: the module that a child process of `multiprocessing` runs in place of the user's script
OF_CHILD = "mlfn.worker.spawned"

_modules: dict[str, types.ModuleType] = {}
_only_main = False
# What a parameter brought, which another one of the same name may replace.
_of_values: dict[tuple[str, str], Any] = {}


class _Main(types.ModuleType):
    """``__main__``. `multiprocessing` asks for its spec before it starts a child: that is the time to write what children lack."""

    before_child: Callable[[], object] | None = None

    @property
    def __spec__(self) -> ModuleSpec | None:  # type: ignore[override]
        if self.before_child is not None:
            with suppress(Exception):  # a child that lacks something says so itself
                self.before_child()
        return cast("ModuleSpec | None", vars(self)["__spec__"])


def is_rebuilt(name: str) -> bool:
    """Return whether the module of this name is one that holds what travelled of the user's."""
    return name in _modules


def is_in_use() -> bool:
    """Return whether this process has the user's modules as they travelled."""
    return MAIN in _modules


def begin(*, only_main: bool = False) -> None:
    """Put an empty ``__main__`` in the place of the process's own; with `only_main` no other module is rebuilt."""
    global _only_main
    _only_main = only_main
    module = _modules[MAIN] = sys.modules[MAIN] = _Main(MAIN)
    if "__mp_main__" in sys.modules:
        sys.modules["__mp_main__"] = module
    if _Finder not in sys.meta_path:
        sys.meta_path[:0] = [_Finder, SourceFinder]  # which is asked by the first one


def finish_main() -> None:
    """Say in ``__main__`` what it is: `multiprocessing` has its children run the module that the spec names."""
    module = _modules[MAIN]
    file = getattr(module, "__file__", None)
    origin = f"what the function uses of {file}" if file else "what the function uses"
    vars(module)["__spec__"] = ModuleSpec(OF_CHILD, None, origin=origin)
    sys.argv[:] = [file or ""]


def brought_by_values() -> tuple[Any, ...]:
    """Return the functions and classes that stand in a module because a parameter brought them."""
    return tuple(_of_values.values())


def before_child(call: Callable[[], object]) -> None:
    """Have `multiprocessing` call this before it starts a child of this process, other than by fork."""
    vars(_modules[MAIN])["before_child"] = call


class ModulesUnpickler(pickle.Unpickler):
    """Puts functions and classes into their modules.

    Functions of ``__main__`` and of the modules in `own` share the globals of these. Where `own` is None, a parameter is read, whose
    functions keep theirs: they may be older than the function that gets them.
    """

    def __init__(self, file: BinaryIO, own: Collection[str] | None) -> None:
        super().__init__(file)
        self._own = own
        self._taken: set[str] = set()
        self._namespaces: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}  # the first keeps its id
        self._known: list[types.FunctionType] = []
        self._replaced: dict[tuple[str, str], Callable[..., Any]] = {
            (_CLOUDPICKLE, "_make_function"): self._make_function,
            (_CLOUDPICKLE, "_function_setstate"): self._set_function,
            ("mlfn.code.classes", "make_class"): functools.partial(self._make_class, "make_class"),
            ("mlfn.code.classes", "make_enum"): functools.partial(self._make_class, "make_enum"),
        }
        if own is not None and not _only_main:
            self._replaced["mlfn.code.payload", "new_module"] = _module
            self._replaced[_CLOUDPICKLE, "dynamic_subimport"] = self._make_module

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function that a pickle names."""
        return self._replaced.get((module, name)) or super().find_class(module, name)

    def _make_function(
        self, code: types.CodeType, namespace: dict[str, Any], name: str, defaults: Any, closure: Any
    ) -> Any:
        known = _known_function(code, namespace) if self._own is None and closure is None else None
        if known is not None and known.__defaults__ == defaults:
            self._known.append(known)
            return known
        make = super().find_class(_CLOUDPICKLE, "_make_function")
        return make(code, self._namespace(namespace), name, defaults, closure)

    def _namespace(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the globals of all functions that came with the `given` ones: those of their module."""
        if id(given) not in self._namespaces:
            name, found = given.get("__name__"), given
            # Two namespaces of one name stay two: one of them is no module's.
            if self._own is not None and _is_among(name, self._own) and name not in self._taken:
                self._taken.add(str(name))
                found = vars(_module(str(name)))
                found.update(given)
            self._namespaces[id(given)] = given, found
        return self._namespaces[id(given)][1]

    def _set_function(self, function: Any, state: Any) -> None:
        if any(function is known for known in self._known):
            return
        super().find_class(_CLOUDPICKLE, "_function_setstate")(function, state)
        if function.__module__ in _modules:
            _note(function, is_value=self._own is None)

    def _make_module(self, name: str, state: dict[str, Any]) -> types.ModuleType:
        """Return a module that travelled whole."""
        if not _is_among(name, self._own or ()):
            return cast("types.ModuleType", super().find_class(_CLOUDPICKLE, "dynamic_subimport")(name, state))
        module = _module(name)
        for key, value in state.items():
            if not key.startswith("__") or key not in vars(module):
                vars(module)[key] = value
        return module

    def _make_class(self, make: str, *recipe: Any) -> Any:
        cls = super().find_class("mlfn.code.classes", make)(*recipe)
        if isinstance(cls.__module__, str) and _is_users(cls.__module__):
            _note(cls, is_value=self._own is None)
        return cls


def _known_function(code: types.CodeType, namespace: dict[str, Any]) -> types.FunctionType | None:
    """Return the function with this code that came with the one that runs: passed as a parameter too, it is one."""
    module = _modules.get(namespace.get("__name__", ""))
    found = vars(module).get(code.co_name) if module is not None else None
    return found if isinstance(found, types.FunctionType) and found.__code__ == code else None


def _is_among(name: Any, own: Collection[str]) -> bool:
    return name == MAIN or any(name == module or str(name).startswith(f"{module}.") for module in own)


@functools.cache
def _is_users(name: str) -> bool:
    """Return whether a class that came as code is a module's of the user: a library makes classes too."""
    if name in _modules:
        return True
    if _only_main or name in sys.modules or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    with suppress(Exception):  # the parents may not be there
        spec = find_spec(name)
        return spec is None or "-packages" not in str(spec.origin)
    return True


def _module(name: str) -> types.ModuleType:
    if name not in _modules:
        _modules[name] = sys.modules.get(name) or types.ModuleType(name)
    return _modules[name]


def _note(made: Any, *, is_value: bool) -> None:
    """Put a function or class into its module, unless another thing has its name there."""
    *outer, name = made.__qualname__.split(".")
    if "<locals>" in outer or name.startswith("<"):  # no pickle finds it
        return
    namespace = vars(_module(made.__module__))
    for part in outer:
        within = namespace.setdefault(part, _Outer())
        if not isinstance(within, _Outer):  # the class itself, which has it
            return
        namespace = vars(within)
    found, key = namespace.get(name), (made.__module__, made.__qualname__)
    is_free = found is None or isinstance(found, _Outer)
    if is_free or (found is _of_values.get(key) if is_value else _is_copy(found, made)):
        namespace[name] = made
        if is_value:
            _of_values[key] = made


class _Outer(types.SimpleNamespace):
    """Stands for a class of which only classes within it travelled."""


def _is_copy(found: Any, made: Any) -> bool:
    """Return whether the text of a module, which travelled too, has defined the function that came as code."""
    return isinstance(found, types.FunctionType) and found.__code__ == getattr(made, "__code__", None)


class _Finder:
    """Finds the modules of which parts travelled, when they are imported."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Return a spec for such a module: its file or its text, if it is there, runs beneath what travelled of it."""
        is_parent = any(module.startswith(f"{name}.") for module in _modules)
        if name in sys.modules or not (is_parent or name in _modules):
            return None
        spec = _spec_of_others(name, path)
        if name not in _modules:
            return spec or ModuleSpec(name, _Loader(None, types.ModuleType(name)), is_package=True)  # type: ignore[arg-type]
        if spec is None:
            is_package = is_parent or "__path__" in vars(_modules[name])
            return ModuleSpec(name, _Loader(None, _modules[name]), is_package=is_package)  # type: ignore[arg-type]
        spec.loader = _Loader(spec.loader, _modules[name])  # type: ignore[assignment]
        return spec


def _spec_of_others(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        look = getattr(finder, "find_spec", None)
        if finder is not _Finder and look is not None and (spec := look(name, path, None)) is not None:
            return spec  # type: ignore[no-any-return]
    return None


class _Loader:
    """Runs the code of a module in the one that holds what travelled of it, which stays on top."""

    def __init__(self, beneath: Any, module: types.ModuleType) -> None:
        self._beneath = beneath
        self._module = module

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Return the module that holds what travelled."""
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module's code, and put back what travelled."""
        travelled = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        try:
            if self._beneath is not None:
                self._beneath.exec_module(module)
        finally:
            vars(module).update(travelled)
        import cloudpickle

        cloudpickle.register_pickle_by_value(module)  # as before it was imported: elsewhere nobody may import it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)
