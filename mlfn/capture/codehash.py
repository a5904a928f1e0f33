"""What a function is, as one digest: its own code and everything of the user's that it reaches.

Followed to any depth: defaults, closures, globals that the code mentions, helpers and classes in the user's
own modules, attributes read through own modules (``helpers.clean`` is that one function), imports within
functions, partials, bound methods, callable instances. Docstrings and comments are no part of it.
``__wrapped__`` is not followed: a decorated function is its wrapper, and what that closes over.

Installed code counts by module and name alone, and a library's object by what was set on it. Neither its version nor its distribution is part of the
digest: the requirements say which versions a run gets, and the same code has one digest on machines with
different ones. The function asked about is read as code even where it is installed.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlfn.capture.classhash import annotations_of, class_facts, function_of
from mlfn.capture.codeform import Chain, Form, Import, annotation_chains, bytecode_references, source_form
from mlfn.capture.definitions import qualified_name
from mlfn.capture.libraryform import installed_name, is_installed_class, made_name, public_name
from mlfn.capture.modulesources import imported_modules, module_text, own_sources
from mlfn.capture.ownership import is_own_module
from mlfn.capture.valuehash import array_digest, atom_digest, combine, object_digest, plain_digest, text
from mlfn.errors import CaptureError
from mlfn.payload.parcel import ModuleSource, is_notebook_shell, plain_function

__all__ = ["ABSENT", "CodeDigest", "Walk", "digest", "is_own_module", "raw_function", "value_digest", "walk"]

RAW_FUNCTION = "__mlfn_function__"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()


@dataclass(frozen=True)
class CodeDigest:
    """The digest of a function; `parts` names what went into it, in the order of reading."""

    hexdigest: str
    origin: Literal["source", "bytecode"]
    parts: tuple[str, ...]
    #: the digest of each part that has one of its own, without what it reaches: what `mlfn.diff` compares
    part_digests: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    #: those of the parts that are a number, a bool or None, as text
    part_values: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class Walk:
    """What was met on the way through a function's code: all that its capture and its revalidation need."""

    digest: CodeDigest = CodeDigest("", "source", ())
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
    #: (path, value): what was captured beside code
    values: list[tuple[str, Any]] = field(default_factory=list)


def digest(fn: Callable[..., Any]) -> CodeDigest:
    """Return the digest of a function: the same in any process, machine, folder and hash seed."""
    return walk(fn).digest


def walk(fn: Callable[..., Any]) -> Walk:
    """Return the digest of a function with everything met on the way."""
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
    """Return the digest of any value."""
    return _Walker(root=None).value(value)


def raw_function(fn: Any) -> Any:
    """Return the function that a declared one was made from; any other object as it is."""
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
    """One depth-first walk. A node met again while it is being read is known by how far up it is."""

    def __init__(self, root: object) -> None:
        self.root = root
        self.seen = Walk()
        self.parts: dict[str, object] = {}  # name -> what it names, for its digest; None without one
        self.bytecode = False
        self._done: dict[int, bytes] = {}
        self._open: list[int] = []
        # Digests are remembered by id: the object must outlive the walk, or its id could be another's.
        self._keep: list[object] = []

    def part_digests(self) -> dict[str, str]:
        """Return the digests of the parts; of a function, of its own code alone."""
        return {name: self._own_digest(part).hex() for name, part in self.parts.items() if part is not None}

    def part_values(self) -> dict[str, str]:
        """Return the parts that are small plain values."""
        # No texts: one may be a secret, and who writes 0.1 where 0.2 was wants to see both.
        return {path: repr(value) for path, value in self.seen.values if type(value) in (bool, int, float, type(None))}

    def _own_digest(self, part: object) -> bytes:
        return (
            combine("own", self._form(part.__code__).text) if isinstance(part, types.FunctionType) else self.value(part)
        )

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
        encode = _CODE.get(type(value))
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
        for known in (plain_digest, array_digest):
            found = known(value, self.value)
            if found is not None:
                return found
        return object_digest(value, self.value)

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
        self._note_values(fn.__qualname__, _default_values(fn))
        form = self._form(fn.__code__)
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
        # Its closure holds caches besides; the registry is what it does.
        self._note_own(fn.__module__)
        self._note_values(fn.__qualname__, {"registry": registry})
        return combine("singledispatch", self.value(registry))

    def _made_by_library(self, fn: types.FunctionType) -> bytes:
        # A decorator's wrapper, or what a factory returns: the values that it keeps may be the user's.
        name = made_name(str(fn.__globals__.get("__name__")), qualified_name(fn.__code__))
        kept = map(self.value, (fn.__defaults__, fn.__kwdefaults__))
        return combine("made", text(name), *kept, *self._cells(fn))

    def _is_installed_root(self, fn: types.FunctionType) -> bool:
        """Return whether `fn` is the function asked about, defined in an installed module and no wrapper."""
        return fn is self.root and not fn.__closure__ and fn.__module__ == fn.__globals__.get("__name__")

    def _form(self, code: types.CodeType) -> Form:
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
        # A cell that the source does not spell out is still captured: ``__class__``, for super().
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
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            value = ABSENT
        self.seen.cells.append((cell, value))
        # Whether a library's wrapper mentions itself is no matter of the user's.
        if value is not ABSENT and not (value is fn and not is_own_module(fn.__globals__.get("__name__"))):
            yield combine("cell", text(".".join(chain)), self._chain(qualname(fn), value, chain))

    def _global_chain(self, fn: types.FunctionType, chain: Chain) -> Iterator[bytes]:
        value = fn.__globals__.get(chain[0], ABSENT)
        self.seen.names.append((fn.__globals__, chain[0], value))
        # A name that is no global is a builtin, or not defined yet; the code itself already names it.
        if value is not ABSENT:
            yield combine("global", text(".".join(chain)), self._chain(qualname(fn), value, chain))

    def _chain(self, path: str, value: Any, chain: Chain) -> bytes:
        """Return the digest of what a chain of attributes leads to, following it through own modules only."""
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
            # A submodule that was imported, or what the module's own __getattr__ makes.
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
        # By text even where the module is loaded: whether somebody imported it yet must not matter.
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
        facts = class_facts(cls, self._has_source)
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

    def _has_source(self, fn: types.FunctionType) -> bool:
        return source_form(fn.__code__, fn.__code__.co_filename) is not None

    # -- everything else that is code ------------------------------------------------------------------------

    def _module(self, module: types.ModuleType) -> bytes:
        name = module.__name__
        # The notebook as a whole never travels.
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

    def _partial(self, partial: functools.partial[Any]) -> bytes:
        return combine("partial", *map(self.value, (partial.func, partial.args, partial.keywords)))

    def _builtin(self, value: Any) -> bytes:
        owner = getattr(value, "__self__", None)
        if owner is None or isinstance(owner, types.ModuleType):
            return combine("builtin", text(f"{value.__module__}:{value.__qualname__}"))
        # As of any method: what one version compiles to a builtin, another's compiler makes a method of.
        unbound = None if isinstance(owner, type) else getattr(type(owner), value.__name__, None)
        if unbound is None:
            return combine("builtin", text(value.__qualname__), self.value(owner))
        return combine("method", self.value(unbound), self.value(owner))

    def _descriptor(self, value: Any) -> bytes:
        owner = value.__objclass__
        return combine(
            "installed", text(f"{public_name(owner.__module__, owner.__qualname__, owner)}.{value.__name__}")
        )

    def _property(self, value: property) -> bytes:
        return combine("property", *map(self.value, (value.fget, value.fset, value.fdel)))

    def _bound_later(self, value: Any) -> bytes:
        return combine(type(value).__name__, self.value(value.__func__))

    def _cached(self, value: Any) -> bytes:
        # Written in C, it has no closure to hash: only __wrapped__ says what it caches.
        return combine("lru_cache", self.value(value.cache_parameters()), self.value(value.__wrapped__))

    def _cached_property(self, value: functools.cached_property[Any]) -> bytes:
        return combine("cached_property", self.value(value.func))

    def _partial_method(self, value: functools.partialmethod[Any]) -> bytes:
        return combine("partialmethod", *map(self.value, (value.func, value.args, value.keywords)))

    def _dispatching_method(self, value: functools.singledispatchmethod[Any]) -> bytes:
        return combine("singledispatchmethod", *map(self.value, (value.func, value.dispatcher)))

    def _type_variable(self, value: Any) -> bytes:
        return combine("typevar", text(value.__name__))

    def _proxy(self, value: types.MappingProxyType[Any, Any]) -> bytes:
        return combine("proxy", self.value(dict(value)))

    # -- notes -----------------------------------------------------------------------------------------------

    def _note_own(self, module: str | None) -> None:
        if module and module not in ("__main__", "__mp_main__") and is_own_module(module):
            self.seen.own_modules[module] = None

    def _note_part(self, module: str | None, name: str) -> None:
        whole = name if module in (None, "__main__", "__mp_main__") else f"{module}:{name}"
        self.parts[whole] = self._keep[-1] if self._keep else None

    def _note_values(self, path: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if not isinstance(function_of(raw_function(value)), _KNOWN_BY_CODE) and not is_notebook_shell(value):
                self.seen.values.append((f"{path} -> {name}", value))
                self.parts[f"{path} -> {name}"] = value


# Values of these types are watched as code; all others by what they hold.
_KNOWN_BY_CODE = (types.FunctionType, types.ModuleType, type, types.BuiltinFunctionType)


def _default_values(fn: types.FunctionType) -> dict[str, Any]:
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    defaults = fn.__defaults__ or ()
    return {**dict(zip(positional[len(positional) - len(defaults) :], defaults)), **(fn.__kwdefaults__ or {})}


# Their type differs from one compiled module to the next.
_CYTHON_FUNCTIONS = ("cython_function_or_method", "fused_cython_function")

_CODE: dict[type, Callable[[_Walker, Any], bytes]] = {
    types.FunctionType: _Walker._function,
    types.MethodType: _Walker._method,
    types.CodeType: _Walker._code,
    types.BuiltinFunctionType: _Walker._builtin,
    types.MethodWrapperType: _Walker._builtin,
    types.WrapperDescriptorType: _Walker._descriptor,
    types.MethodDescriptorType: _Walker._descriptor,
    types.ClassMethodDescriptorType: _Walker._descriptor,
    types.GetSetDescriptorType: _Walker._descriptor,
    types.MemberDescriptorType: _Walker._descriptor,
    types.MappingProxyType: _Walker._proxy,
    functools.partial: _Walker._partial,
    type(functools.lru_cache(len)): _Walker._cached,
    functools.cached_property: _Walker._cached_property,
    functools.partialmethod: _Walker._partial_method,
    functools.singledispatchmethod: _Walker._dispatching_method,
    property: _Walker._property,
    staticmethod: _Walker._bound_later,
    classmethod: _Walker._bound_later,
    typing.TypeVar: _Walker._type_variable,
}


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
