"""A function as one digest: its own code, and all of the user's code and values that it reaches.

The walk follows, to any depth, defaults, closures, globals that the code mentions, helpers and classes in the user's own
modules, attributes read through own modules (``helpers.clean`` is that one function), imports within functions, partials,
bound methods and callable instances. It skips docstrings, comments and ``__wrapped__``: a decorated function is its wrapper
with the wrapper's closure.

Installed code counts by module and name alone, and a library's object by the attributes that were set on it. Versions and
distributions do not count: the requirements say which versions a run gets, and the same code has one digest on machines with
different ones. The root function is read as code even where it is installed.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mlfn.code.bundle import ModuleSource, is_notebook_shell, plain_function
from mlfn.code.hashing.classes import annotations_of, class_facts, function_of
from mlfn.code.hashing.definitions import qualified_name
from mlfn.code.hashing.library import installed_name, is_installed_class, made_name, public_name
from mlfn.code.hashing.references import Chain, Form, Import, annotation_chains, bytecode_references, source_form
from mlfn.code.hashing.sources import imported_modules, module_text, own_sources
from mlfn.code.hashing.values import array_digest, atom_digest, combine, object_digest, plain_digest, text
from mlfn.code.ownership import is_own_module
from mlfn.code.unpicklable import default_values
from mlfn.code.wrappers import default_of
from mlfn.errors import CaptureError
from mlfn.host.frozen import frozen

RAW_FUNCTION = "__mlfn_function__"
#: the value of a name or cell that has none
ABSENT: Any = object()


# Values of these types are watched as code, all others by their digest.
_KNOWN_BY_CODE = (types.FunctionType, types.ModuleType, type, types.BuiltinFunctionType)
# Each compiled module has a type of its own of this name.
_CYTHON_FUNCTIONS = ("cython_function_or_method", "fused_cython_function")
_DESCRIPTORS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
# What wraps functions, by the attributes that hold what it was given.
_PARTS: dict[type, tuple[str, ...]] = {
    functools.partial: ("func", "args", "keywords"),
    functools.cached_property: ("func",),
    functools.partialmethod: ("func", "args", "keywords"),
    functools.singledispatchmethod: ("func", "dispatcher"),
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
}


@frozen
class CodeDigest:
    """The digest of a function; `parts` names all code and values in it, in the order of reading."""

    hexdigest: str
    origin: Literal["source", "bytecode"]
    parts: tuple[str, ...]
    #: the digest of each part alone, without the parts that it reaches, for `mlfn.diff`
    part_digests: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    #: the parts that are a number, a bool or None, as text
    part_values: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class Walk:
    """All that a walk through a function's code found, for its capture and for checking that it is unchanged."""

    digest: CodeDigest = field(default_factory=lambda: CodeDigest("", "source", ()))
    #: own modules whose functions, classes or attributes were reached; never ``__main__``
    own_modules: dict[str, None] = field(default_factory=dict)
    #: attributes read through own modules; None is the whole module
    attributes: dict[str, set[str] | None] = field(default_factory=dict)
    #: own classes
    classes: dict[type, None] = field(default_factory=dict)
    #: own modules imported by statements within functions
    sources: dict[str, ModuleSource] = field(default_factory=dict)
    #: (namespace, name, value): the value that a name had, or ABSENT
    names: list[tuple[Any, str, Any]] = field(default_factory=list)
    cells: list[tuple[types.CellType, Any]] = field(default_factory=list)
    functions: list[tuple[types.FunctionType, types.CodeType, Any, Any]] = field(default_factory=list)
    #: (path, value): captured values other than code
    values: list[tuple[str, Any]] = field(default_factory=list)


def walk(fn: Callable[..., Any]) -> Walk:
    """Return all that a function reaches, with its digest: the same in any process, machine, folder and hash seed."""
    raw = raw_function(fn)
    walker = _Walker(root=raw)
    if not isinstance(raw, _KNOWN_BY_CODE):
        walker.seen.values.append((qualname(raw), raw))
    try:
        hexdigest = walker.value(raw).hex()
    except RecursionError as error:
        raise CaptureError(f"{qualname(raw)} reaches values nested too deeply to be hashed.") from error
    walker.seen.digest = CodeDigest(
        hexdigest,
        "bytecode" if walker.bytecode else "source",
        tuple(walker.parts),
        walker.part_digests(),
        walker.part_values(),
    )
    return walker.seen


def value_digest(value: object) -> bytes:
    """Return the digest of a value."""
    return _Walker(root=None).value(value)


def definition_digest(cls: type) -> bytes:
    """Return the digest of what the author of a class wrote, without the code and values that this uses."""
    walker = _Walker(root=None)

    def form(value: Any) -> bytes:
        value = function_of(value)
        if isinstance(value, types.FunctionType):
            return walker.form(value.__code__).text
        if type(value) in (list, tuple):
            return combine("items", *map(form, value))
        if type(value) is dict:
            return combine("pairs", *(combine(str(key), form(item)) for key, item in value.items()))
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return atom_digest(value) or combine("name", text(str(name)))

    facts = class_facts(cls, walker.has_source)
    return combine("definition", form(cls.__bases__), form(facts.members), form(facts.annotations))


def raw_function(fn: Any) -> Any:
    """Return the function within a declared Function, and any other object as it is."""
    declared = not isinstance(fn, type) and (
        hasattr(type(fn), RAW_FUNCTION) or RAW_FUNCTION in getattr(fn, "__dict__", ())
    )
    return getattr(fn, RAW_FUNCTION) if declared else fn


def qualname(fn: Any) -> str:
    """Return a callable's name, as in its definition."""
    if isinstance(fn, functools.partial):
        return qualname(fn.func)
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


class _Walker:
    """One depth-first walk. A node that refers back to an open one is hashed as the distance up to it."""

    def __init__(self, root: object) -> None:
        self.root = root
        self.seen = Walk()
        self.parts: dict[str, object] = {}  # name -> part; None for a part without a digest of its own
        self.bytecode = False
        self._done: dict[int, bytes] = {}
        self._open: list[int] = []
        # Digests are cached by id: an object that is freed during the walk could leave its id to another.
        self._keep: list[object] = []

    def part_digests(self) -> dict[str, str]:
        """Return the digests of the parts; for a function that of its own code."""
        return {name: self._own_digest(part).hex() for name, part in self.parts.items() if part is not None}

    def part_values(self) -> dict[str, str]:
        """Return the parts that are a number, a bool or None, as text."""
        # No strings: one may be a secret.
        return {path: repr(value) for path, value in self.seen.values if type(value) in (bool, int, float, type(None))}

    def _own_digest(self, part: object) -> bytes:
        if isinstance(part, types.FunctionType):
            return combine("own", self.form(part.__code__).text)
        return self.value(part)

    def value(self, value: object) -> bytes:
        """Return the digest of any value."""
        atom = atom_digest(value)
        if atom is not None:
            return atom
        value = raw_function(value)
        key = id(value)
        if key in self._done:
            return self._done[key]
        if key in self._open:
            return combine("cycle", str(self._open[::-1].index(key)).encode())
        self._keep.append(value)
        self._open.append(key)
        result = self._done[key] = self._digest(value)
        self._open.pop()
        return result

    def _digest(self, value: Any) -> bytes:
        name = installed_name(value) if value is not self.root else None
        if name is not None:
            return combine("installed", text(name))
        encode = self._ENCODERS.get(type(value))
        if encode is not None:
            return encode(self, value)
        if type(value).__name__ in _CYTHON_FUNCTIONS:
            return self._builtin(value)
        # Before classes: in Python 3.10 list[int] passes for one.
        if typing.get_origin(value) is not None:
            return self._generic(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            return self._module(value)
        found = plain_digest(value, self.value) or array_digest(value, self.value)
        return found or object_digest(value, self.value)

    # -- functions -------------------------------------------------------------------------------------------

    def _function(self, fn: types.FunctionType) -> bytes:
        registry = getattr(fn, "registry", None)
        if isinstance(registry, types.MappingProxyType) and hasattr(fn, "dispatch"):
            return self._singledispatch(fn, registry)
        module = fn.__globals__.get("__name__")
        if not is_own_module(module) and not self._is_installed_root(fn):
            return self._made_by_library(fn)
        self._note_own(fn.__module__)
        self._note_own(module)
        self._note_part(fn.__module__, fn.__qualname__)
        self.seen.functions.append((fn, fn.__code__, fn.__defaults__, fn.__kwdefaults__))
        self._note_values(fn.__qualname__, default_values(fn))
        form = self.form(fn.__code__)
        if form.origin == "bytecode":
            self.bytecode = True
        return combine(
            "function",
            form.text,
            self.value(fn.__defaults__),
            self.value(fn.__kwdefaults__),
            *self._references(fn, form),
            *self._imports(form.imports, fn.__globals__),
        )

    def _singledispatch(self, fn: types.FunctionType, registry: Any) -> bytes:
        # Its closure holds caches too; the registry is its behaviour.
        self._note_own(fn.__module__)
        self._note_values(fn.__qualname__, {"registry": registry})
        return combine("singledispatch", self.value(registry))

    def _made_by_library(self, fn: types.FunctionType) -> bytes:
        # A decorator's wrapper or a factory's result: the values in its closure may be the user's.
        name = made_name(str(fn.__globals__.get("__name__")), qualified_name(fn.__code__))
        kept = map(self.value, (fn.__defaults__, fn.__kwdefaults__))
        return combine("made", text(name), *kept, *self._cells(fn))

    def _is_installed_root(self, fn: types.FunctionType) -> bool:
        """Return whether `fn` is the root, defined in an installed module and no wrapper."""
        return fn is self.root and not fn.__closure__ and fn.__module__ == fn.__globals__.get("__name__")

    def form(self, code: types.CodeType) -> Form:
        """Return a code object's own form, from its source or its bytecode."""
        form = source_form(code, code.co_filename)
        if form is not None:
            return form
        chains, imports = bytecode_references(code)
        return Form("bytecode", self._code(code), chains, (), imports)

    def _code(self, code: types.CodeType) -> bytes:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        table = getattr(code, "co_exceptiontable", b"")
        return combine("code", code.co_code, table, *map(self.value, (counts, names, code.co_consts)))

    def _references(self, fn: types.FunctionType, form: Form) -> Iterator[bytes]:
        cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or ()))
        # A cell that the source does not mention is captured too: ``__class__``, for super().
        unnamed = {(name,) for name in cells} - {chain[:1] for chain in form.chains}
        for chain in sorted({*form.chains, *form.annotation_chains, *unnamed}):
            if chain[0] in cells:
                yield from self._cell_chain(fn, cells[chain[0]], chain)
            else:
                yield from self._global_chain(fn, chain)
        if form.origin == "bytecode":
            yield from self._annotations(annotations_of(fn), fn.__globals__)

    def _cells(self, fn: types.FunctionType) -> Iterator[bytes]:
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
            yield from self._cell_chain(fn, cell, (name,))

    def _cell_chain(self, fn: types.FunctionType, cell: types.CellType, chain: Chain) -> Iterator[bytes]:
        value = cell_value(cell)
        self.seen.cells.append((cell, value))
        # A library's wrapper may refer to itself; that is not the user's code.
        if value is not ABSENT and not (value is fn and not is_own_module(fn.__globals__.get("__name__"))):
            yield combine("cell", text(".".join(chain)), self._chain(qualname(fn), value, chain))

    def _global_chain(self, fn: types.FunctionType, chain: Chain) -> Iterator[bytes]:
        value = fn.__globals__.get(chain[0], ABSENT)
        self.seen.names.append((fn.__globals__, chain[0], value))
        # Any other name is a builtin or not defined yet, and is part of the code itself.
        if value is not ABSENT:
            yield combine("global", text(".".join(chain)), self._chain(qualname(fn), value, chain))

    def _chain(self, path: str, value: Any, chain: Chain) -> bytes:
        """Return the digest of the value of a chain of attributes, followed through own modules only."""
        followed = 1
        for name in chain[1:]:
            if not isinstance(value, types.ModuleType) or not is_own_module(value):
                break
            value = self._attribute(value, name)
            followed += 1
        if value is ABSENT:
            return combine("missing")
        self._note_values(path, {".".join(chain[:followed]): value})
        return self.value(value)

    def _attribute(self, module: types.ModuleType, name: str) -> Any:
        self._note_own(module.__name__)
        value = vars(module).get(name, ABSENT)
        if value is ABSENT:
            # A submodule, or an attribute that the module's own __getattr__ makes.
            value = getattr(module, name, ABSENT)
        self.seen.names.append((vars(module), name, vars(module).get(name, ABSENT)))
        names = self.seen.attributes.setdefault(module.__name__, set())
        if names is not None:
            names.add(name)
        return value

    def _annotations(self, annotations: dict[str, Any], namespace: dict[str, Any]) -> Iterator[bytes]:
        for name, annotation in sorted(annotations.items()):
            if isinstance(annotation, str):
                yield combine("annotation", text(name), text(annotation))
                yield from self._quoted(annotation, namespace)
            else:
                yield combine("annotation", text(name), self.value(annotation))

    def _quoted(self, annotation: str, namespace: dict[str, Any]) -> Iterator[bytes]:
        for chain in annotation_chains(annotation):
            value = namespace.get(chain[0], ABSENT)
            self.seen.names.append((namespace, chain[0], value))
            if value is not ABSENT:
                yield self._chain("annotation", value, chain)

    # -- imports within functions ----------------------------------------------------------------------------

    def _imports(self, imports: Iterable[Import], namespace: dict[str, Any]) -> Iterator[bytes]:
        wanted: dict[str, None] = {}
        for statement in imports:
            wanted.update(dict.fromkeys(imported_modules(statement, namespace.get("__package__") or "")))
        sources = own_sources(wanted)
        self.seen.sources.update(sources)
        for name in sources:
            self._note_own(name)
            self.parts[name] = None
        # By text, so that the digest is the same before and after the module is imported.
        yield from (
            combine("import", text(name), module_text(source.source)) for name, source in sorted(sources.items())
        )

    # -- classes ---------------------------------------------------------------------------------------------

    def _class(self, cls: type) -> bytes:
        if is_installed_class(cls):
            return combine("installed", text(public_name(cls.__module__, cls.__qualname__, cls)))
        self._note_own(cls.__module__)
        self._note_part(cls.__module__, cls.__qualname__)
        self.seen.classes[cls] = None
        facts = class_facts(cls, self.has_source)
        members = {name: vars(cls)[name] for name in facts.watched}
        self.seen.names.extend((vars(cls), name, value) for name, value in members.items())
        self._note_values(cls.__qualname__, members)
        namespace = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        return combine(
            "class",
            text(cls.__name__),
            *(self.value(base) for base in cls.__bases__),
            # An installed metaclass comes with the bases, and has had two names (EnumMeta, EnumType).
            *((self.value(type(cls)),) if not is_installed_class(type(cls)) else ()),
            *(combine(name, self.value(value)) for name, value in sorted(facts.members.items())),
            *self._annotations(facts.annotations, namespace),
        )

    def has_source(self, fn: types.FunctionType) -> bool:
        """Return whether a function's source is at hand."""
        return source_form(fn.__code__, fn.__code__.co_filename) is not None

    # -- everything else that is code ------------------------------------------------------------------------

    def _module(self, module: types.ModuleType) -> bytes:
        name = module.__name__
        # A whole notebook never travels.
        if name == "__main__" or not is_own_module(module):
            return combine("module", text(name))
        self._note_own(name)
        self.parts[name] = None
        self.seen.attributes[name] = None
        members = {key: value for key, value in vars(module).items() if not key.startswith("__")}
        self.seen.names.extend((vars(module), key, value) for key, value in members.items())
        self._note_values(name, members)
        return combine("module", text(name), self.value(members))

    def _generic(self, value: Any) -> bytes:
        return combine("generic", self.value(typing.get_origin(value)), self.value(typing.get_args(value)))

    def _method(self, method: types.MethodType) -> bytes:
        if is_notebook_shell(method):
            return combine("notebook shell")
        return combine("method", self.value(method.__func__), self.value(method.__self__))

    def _builtin(self, value: Any) -> bytes:
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            return combine("builtin", text(f"{value.__module__}:{value.__qualname__}"))
        # Like any method: another version's compiler may make a plain method of it.
        unbound = None if isinstance(owner, type) else getattr(type(owner), value.__name__, None)
        if unbound is None:
            return combine("builtin", text(value.__qualname__), self.value(owner))
        return combine("method", self.value(unbound), self.value(owner))

    def _descriptor(self, value: Any) -> bytes:
        owner = value.__objclass__
        return combine(
            "installed", text(f"{public_name(owner.__module__, owner.__qualname__, owner)}.{value.__name__}")
        )

    def _cached(self, value: Any) -> bytes:
        # Written in C, it has no closure to hash: only __wrapped__ says what it caches.
        return combine("lru_cache", self.value(value.cache_parameters()), self.value(value.__wrapped__))

    def _context_var(self, value: contextvars.ContextVar[Any]) -> bytes:
        return combine("ContextVar", text(value.name), self.value(default_of(value)))

    def _by_parts(self, value: Any) -> bytes:
        kind = type(value)
        return combine(kind.__name__, *(self.value(getattr(value, name)) for name in _PARTS[kind]))

    # -- notes -----------------------------------------------------------------------------------------------

    def _note_own(self, module: str | None) -> None:
        # A metaclass may have another thing of this name.
        if isinstance(module, str) and module not in ("__main__", "__mp_main__") and is_own_module(module):
            self.seen.own_modules[module] = None

    def _note_part(self, module: str | None, name: str) -> None:
        whole = name if module in (None, "__main__", "__mp_main__") else f"{module}:{name}"
        self.parts[whole] = self._keep[-1] if self._keep else None

    def _note_values(self, path: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if not isinstance(function_of(raw_function(value)), _KNOWN_BY_CODE) and not is_notebook_shell(value):
                self.seen.values.append((f"{path} -> {name}", value))
                self.parts[f"{path} -> {name}"] = value

    _ENCODERS: ClassVar[Mapping[type, Callable[[Any, Any], bytes]]] = {
        types.FunctionType: _function,
        types.MethodType: _method,
        types.CodeType: _code,
        types.BuiltinFunctionType: _builtin,
        types.MethodWrapperType: _builtin,
        types.MappingProxyType: lambda self, value: combine("proxy", self.value(dict(value))),
        type(functools.lru_cache(len)): _cached,
        contextvars.ContextVar: _context_var,
        typing.TypeVar: lambda _, value: combine("typevar", text(value.__name__)),
        **dict.fromkeys(_DESCRIPTORS, _descriptor),
        **dict.fromkeys(_PARTS, _by_parts),
    }


def cell_value(cell: types.CellType) -> Any:
    """Return the value in a closure's cell; ABSENT where none was assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def signature_namespace(fn: Any) -> dict[str, Any]:
    """Return the globals that a function's annotations mention."""
    plain = plain_function(fn)
    if not isinstance(plain, types.FunctionType):
        return {}
    form = source_form(plain.__code__, plain.__code__.co_filename)
    chains = form.annotation_chains if form else _quoted_chains(plain)
    return {chain[0]: plain.__globals__[chain[0]] for chain in chains if chain[0] in plain.__globals__}


def _quoted_chains(fn: types.FunctionType) -> tuple[Chain, ...]:
    strings = [a for a in annotations_of(fn).values() if isinstance(a, str)]
    return tuple(chain for annotation in strings for chain in annotation_chains(annotation))
