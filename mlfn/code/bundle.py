"""A function with the parts that pickle leaves out, and how a worker puts them back.

These are a function's installed name, the globals that only its annotations mention, and the text of the modules that it
imports while it runs. Standard library alone: this file travels to the worker.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from typing import Any, ClassVar

from mlfn.host.frozen import frozen


def find_global(module: str, qualname: str) -> Any:
    """Return ``module.qualname``, importing the module."""
    value: Any = importlib.import_module(module)
    for part in qualname.split("."):
        value = getattr(value, part)
    return value


def find_function(module: str, qualname: str) -> Any:
    """Return the function at ``module.qualname``, or the raw function of a declared one."""
    value = find_global(module, qualname)
    return getattr(value, "__mlfn_function__", value)


def code_of_file(filename: str, *arguments: Any) -> types.CodeType:
    """Return a code object with its file name."""
    return types.CodeType(*arguments).replace(co_filename=filename)


@frozen
class FunctionReference:
    """The installed name of a function; unpickles as that function."""

    module: str
    qualname: str

    def __reduce__(self) -> tuple[Any, ...]:
        return find_function, (self.module, self.qualname)


@frozen
class ModuleSource:
    """The text of a module that a function imports while it runs."""

    source: str
    filename: str
    is_package: bool


@frozen
class FunctionBundle:
    """A function with the parts that pickle leaves out; unpickles as the function.

    `names` are globals that only its annotations mention; `sources` the modules that it imports while it runs.
    """

    function: Any
    names: Mapping[str, Any]
    sources: Mapping[str, ModuleSource]

    def __reduce__(self) -> tuple[Any, ...]:
        # The sources first: a class in the function may be one that they define.
        return open_function, (_Sources(self.sources), self.function, dict(self.names))


@frozen
class _Sources:
    """The text of modules; unpickles as None, and makes them importable."""

    sources: Mapping[str, ModuleSource]

    def __reduce__(self) -> tuple[Any, ...]:
        return install_sources, ({name: (s.source, s.filename, s.is_package) for name, s in self.sources.items()},)


def install_sources(sources: dict[str, tuple[str, str, bool]]) -> None:
    """Make modules importable from their text."""
    SourceFinder.install({name: ModuleSource(*text) for name, text in sources.items()})


def open_function(_installed: None, function: Any, names: dict[str, Any]) -> Any:
    """Return `function` with its annotations' names in its globals."""
    namespace = getattr(plain_function(function), "__globals__", {})
    for name, value in names.items():
        namespace.setdefault(name, value)
    return function


def open_bundle(function: Any, names: dict[str, Any], sources: dict[str, tuple[str, str, bool]]) -> Any:
    """Return the function of a payload that mlfn 0.2 or an earlier one packed."""
    install_sources(sources)
    return open_function(None, function, names)


def plain_function(function: Any) -> Any:
    """Return the plain function beneath partials, bound methods and callable instances."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif isinstance(function, (types.FunctionType, type)):
            return function
        else:
            return getattr(type(function), "__call__", function)  # noqa: B004


def is_notebook_shell(value: object) -> bool:
    """Return whether a value is the ``get_ipython`` that cells with ``!command`` or ``%magic`` call."""
    if not isinstance(value, types.MethodType) or value.__name__ != "get_ipython":
        return False
    return type(value.__self__).__module__.partition(".")[0] in ("IPython", "ipykernel")


def get_ipython() -> Any:
    """Return the notebook's shell, and refuse in a worker, which has none."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        raise RuntimeError("!commands and %magics work in a notebook alone, not in a worker: use subprocess instead.")
    return shell


# -- modules that travel as text -----------------------------------------------------------------------------


class SourceFinder:
    """Imports modules from the text that came with a function."""

    _sources: ClassVar[dict[str, ModuleSource]] = {}
    #: modules that came as text before they were imported here; one that a file with the same text defines counts too
    came: ClassVar[set[str]] = set()

    @classmethod
    def install(cls, sources: Mapping[str, ModuleSource]) -> None:
        """Import `sources` from their text, ahead of files of the same name with another text."""
        cls.came.update(name for name in sources if name not in sys.modules)
        # A file with the same text (in the caller's own process) is imported as usual, so that a later edit of it counts.
        wanted = {name: s for name, s in sources.items() if _importable_source(name) != s.source}
        for name in wanted:
            _forget_other_text(name)
        cls._sources.update(wanted)
        if wanted and cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, fullname: str, path: object = None, target: object = None) -> Any:
        """Return a spec for a module that came as text."""
        # A loaded module is being reloaded: that reads its file.
        if fullname not in cls._sources or fullname in sys.modules:
            return None
        found = cls._sources[fullname]
        loader = SourceLoader(found)
        return importlib.util.spec_from_loader(
            fullname,
            loader,  # type: ignore[arg-type]
            origin=found.filename,
            is_package=found.is_package,
        )


class SourceLoader:
    """Runs one module's text."""

    def __init__(self, text: ModuleSource) -> None:
        self._text = text

    def create_module(self, spec: object) -> None:
        """Return None: the import machinery makes a plain module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the text in `module`."""
        module.__file__ = self._text.filename
        # The payload that brought the text was signed.
        exec(compile(self._text.source, self._text.filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102

    def get_source(self, fullname: str) -> str:
        """Return the text; linecache asks for it, so tracebacks show the lines."""
        return self._text.source

    def is_package(self, fullname: str) -> bool:
        """Return whether the text is a package's ``__init__``."""
        return self._text.is_package


def _forget_other_text(name: str) -> None:
    """Remove a module that was imported from the text of an earlier function version."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is not None and isinstance(spec.loader, SourceLoader):
        del sys.modules[name]


def _importable_source(name: str) -> str | None:
    located = locate_module(name)
    return located.source if located else None


def locate_module(name: str) -> ModuleSource | None:
    """Return the text of a module, found without importing it or its parents; None where there is none."""
    spec = find_spec(name)
    if spec is None:
        return None
    locations = getattr(spec, "submodule_search_locations", None)
    if spec.loader is None or spec.origin is None:
        return ModuleSource("", name, True) if locations is not None else None
    try:
        source = spec.loader.get_source(name)
    except (AttributeError, ImportError, OSError):
        return None
    return None if source is None else ModuleSource(source, spec.origin, locations is not None)


def find_spec(name: str) -> Any:
    """Return the import spec of a module without importing its parents, as importlib's own would."""
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__spec__", None) is not None:
        return loaded.__spec__
    parent, _, _ = name.rpartition(".")
    path: Any = None
    if parent:
        spec = find_spec(parent)
        path = getattr(spec, "submodule_search_locations", None)
        if path is None:
            return None
    for finder in sys.meta_path:
        look = getattr(finder, "find_spec", None)
        try:
            spec = look(name, path, None) if look else None
        except KeyError:  # importlib needs the loaded parent of a folder without __init__.py
            spec = _folder_spec(name, path)
        if spec is not None:
            return spec
    return None


def _folder_spec(name: str, path: Iterable[str]) -> ModuleSpec | None:
    folders = [os.path.join(entry, name.rpartition(".")[2]) for entry in path]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder for folder in folders if os.path.isdir(folder)]
    return spec if spec.submodule_search_locations else None
