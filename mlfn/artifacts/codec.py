"""Parameters and outputs as rows of the store: small values inline, others as artifacts of the run."""

from __future__ import annotations

import copyreg
import json
import types
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from mlfn.artifacts import nested
from mlfn.artifacts.formats.builtin import JsonPacker
from mlfn.artifacts.formats.pickled import PicklePacker
from mlfn.artifacts.formats.registry import pack, unpack
from mlfn.artifacts.inputs import read_input
from mlfn.artifacts.store import Artifact, ArtifactStore
from mlfn.code import payload
from mlfn.code.envelope import pin_of
from mlfn.errors import MlfnError
from mlfn.host.frozen import frozen
from mlfn.spec.data_item import DataItem
from mlfn.spec.record import Output

_SHORT = 1000  # characters
_SMALL = 2**53


@frozen
class Codec:
    """Packs and unpacks the values of runs: signed with `key`, kept under `artifacts`.

    It reads what `key` has signed, and what one of the executions that `signers` returns has. `modules_of` returns the own modules whose code travels with a value, as a worker cannot import them. `by_reference` names
    modules whose classes return to the caller by name, as the worker has them by value only.
    """

    key: bytes
    artifacts: ArtifactStore
    modules_of: Callable[[Any], tuple[str, ...]] | None = None
    by_reference: Collection[str] = field(default_factory=tuple)
    signers: payload.Signers = tuple
    execution: str = ""
    """The execution that `key` was derived for."""

    def encode(self, run: str, name: str, value: Any) -> dict[str, Any]:
        """Return the JSON form of a parameter; a path stays a path, and nothing is copied."""
        if type(value) in nested.SCALARS:
            return self._encoded(run, name, value)
        return dict(nested.encode(value, name, lambda key, part: self._encoded(run, key, part)))

    def _encoded(self, run: str, name: str, value: Any) -> dict[str, Any]:
        if type(value) not in nested.SCALARS and nested.is_reference(value):
            return value.__mlfn_encoded__()  # type: ignore[no-any-return]
        if isinstance(value, DataItem):
            return {"input": value.local_path(), "as": value.type}
        if isinstance(value, Path):
            packed = JsonPacker().pack(value)
            return {"packer": packed.packer, "inline": packed.inline}
        return reference(self.output(run, name, value, role="param"))

    def decode(self, encoded: Mapping[str, Any]) -> Any:
        """Return the value of a parameter's JSON form, reading its file where it has one."""
        return nested.decode(encoded, self._decoded)

    def _decoded(self, encoded: Mapping[str, Any]) -> Any:
        if "input" in encoded:
            return read_input(Path(encoded["input"]), encoded.get("as"))
        return unpack(
            encoded["packer"],
            inline=encoded.get("inline"),
            path=self.path(encoded),
            unpickler=lambda data: self._unpickle(data, encoded),
        )

    def pinned(self, encoded: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a parameter as an execution may read it, which cannot check signatures: a pickle that is signed has its pin.

        Without it the execution refuses the pickle, and says what is wrong with it.
        """
        if encoded.get("packer") != PicklePacker.name:
            return encoded
        pin = None
        with suppress(MlfnError, OSError), self.artifacts.open(artifact_of(encoded)) as file:
            pin = pin_of(file, self.key, self.signers())
        return {**encoded, "pin": pin}

    def path(self, encoded: Mapping[str, Any]) -> Path | None:
        """Return where the file of a parameter or output lies; None for one that has no file."""
        if encoded.get("path") is None:
            return None
        return self.artifacts.path(artifact_of(encoded))

    def output(self, run: str, key: str, value: Any, *, role: str, file: bool = False) -> Output:
        """Pack one named value; `file` asks for an artifact even where it would fit inline."""
        if not file and _is_plain(value):
            kind, size = type(value).__name__, len(json.dumps(value) if type(value) is str else repr(value))
            return Output(key, role, "json", f"builtins.{kind}", inline=value, size=size)
        packed = pack(value, name=key, pickler=lambda obj: self._pickle(obj, key), file=file)
        if packed.content is None and not file:
            return Output(key, role, packed.packer, packed.type, inline=packed.inline, size=packed.size)
        is_param = role == "param"  # no run writes to it: several may have the same file
        kept = self.artifacts.put(run, f"param-{key}" if is_param else key, packed, shared=is_param)
        return Output(key, role, packed.packer, packed.type, path=kept.path, sha256=kept.sha256, size=kept.size)

    def value(self, output: Output) -> Any:
        """Return the value of a stored output."""
        return self._decoded(reference(output))

    def pickle_failure(self, error: BaseException, *, linked: bool = True, whole: bool = True) -> bytes:
        """Return a signed pickle of an exception, `linked` with its causes.

        Unless it is to be `whole`, an attribute that cannot travel is left out, and an argument is its text.
        """
        return self._packed_failure(
            error, _PicklableError(error, linked=linked, travels=None if whole else self._travels)
        )

    def _travels(self, value: Any) -> bool:
        try:
            self._packed_failure(value, value)
        except Exception:  # noqa: BLE001 - any object can refuse in any way
            return False
        return True

    def _packed_failure(self, error: Any, picklable: Any) -> bytes:
        return payload.pack(
            picklable,
            key=self.key,
            role="exception",
            qualname=type(error).__qualname__,
            execution=self.execution,
            by_reference=self.by_reference,
        )

    def unpickle_failure(self, data: bytes) -> Any:
        """Return an exception that `pickle_failure` packed."""
        return payload.unpack(data, key=self.key, role="exception", signers=self.signers)

    def _pickle(self, value: Any, name: str) -> bytes:
        return payload.pack(
            value,
            key=self.key,
            role="value",
            qualname=name,
            execution=self.execution,
            by_value=self.modules_of(value) if self.modules_of is not None else (),
            by_reference=self.by_reference,
        )

    def _unpickle(self, data: bytes, _encoded: Mapping[str, Any]) -> Any:
        return payload.unpack(data, key=self.key, role="value", signers=self.signers)


@frozen
class PinnedCodec(Codec):
    """The codec of what runs a task: its client has checked who signed the parameters, and has pinned them."""

    def _unpickle(self, data: bytes, encoded: Mapping[str, Any]) -> Any:
        return payload.unpack_pinned(data, pin=encoded.get("pin"), role="value")


def artifact_of(encoded: Mapping[str, Any]) -> Artifact:
    """Return the artifact that a parameter or output names."""
    return Artifact("", encoded["sha256"], 0, "", encoded["path"], encoded["packer"], "")


def _is_plain(value: Any) -> bool:
    """Return whether the packers would keep a value as it is: most parameters are a number or a short text."""
    kind = type(value)
    if kind is str:
        return len(value) <= _SHORT and value.isascii()
    if kind is int:
        return bool(-_SMALL < value < _SMALL)
    if kind is float:
        return bool(value - value == 0.0)  # NaN and the infinities have a tag
    return bool(value is None or kind is bool)


class _PicklableError:
    """An exception that is rebuilt whole, without its ``__init__``: that has run, and need not take the exception's `args` again.

    The exceptions within it, as in a group, travel in the same way, and `linked` its cause too.
    """

    def __init__(
        self,
        error: BaseException,
        *,
        linked: bool = True,
        travels: Callable[[Any], bool] | None = None,
        outer: tuple[BaseException, ...] = (),
    ) -> None:
        self._error = error
        self._linked = linked
        self._travels = travels
        self._outer = (*outer, error)

    def __reduce__(self) -> tuple[Any, ...]:
        error, kind = self._error, type(self._error)
        cause = error.__cause__ if self._linked else None
        linked = {"__cause__": self._picklable(cause)} if cause is not None and cause not in self._outer else {}
        if kind.__reduce__ is not _base_of(kind).__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
            return _with_links, (error, linked)  # it has a way of its own
        reduced: Any = error.__reduce_ex__(4)
        _, args, *state = reduced
        known = {**_of_slots(error), **(state[0] or {} if state else {})}
        if self._travels is not None:
            args = tuple(arg if self._travels(arg) else repr(arg) for arg in args)
            known = {name: value for name, value in known.items() if self._travels(value)}
        return rebuilt_error, (kind, self._picklable(args), self._picklable(known), linked)

    def _picklable(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, BaseException):
            if value in self._outer:
                return None
            return _PicklableError(value, linked=self._linked, travels=self._travels, outer=self._outer)
        if kind in (tuple, list):
            return kind(map(self._picklable, value))
        return {key: self._picklable(item) for key, item in value.items()} if kind is dict else value


def _of_slots(error: BaseException) -> dict[str, Any]:
    """Return what pickle leaves out: what its class keeps in slots, and the name that Python could not find."""
    names = [*copyreg._slotnames(type(error))]  # type: ignore[attr-defined]
    if isinstance(error, (AttributeError, NameError)):
        names.append("name")
    return {name: getattr(error, name) for name in names if getattr(error, name, None) is not None}


def _base_of(kind: type[BaseException]) -> type[BaseException]:
    """Return the first base that is not written in Python: it takes `args` as pickle knows them."""
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)


_HEAP_TYPE = 1 << 9
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def rebuilt_error(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], links: Mapping[str, Any] | None = None
) -> BaseException:
    """Return an exception of `kind` with these arguments and attributes; stored pickles name this function."""
    base = _base_of(kind)
    error: BaseException
    try:
        error = base.__new__(kind, *args)
        base.__init__(error, *args)
    except Exception:  # noqa: BLE001 - a class of an extension may want its own
        error = kind(*args)
    for name, value in state.items():
        if isinstance(getattr(kind, name, None), _DESCRIPTORS):  # of a slot, or of the base
            with suppress(Exception):
                setattr(error, name, value)
        else:
            error.__dict__[name] = value
    return _with_links(error, links or {})


def _with_links(error: BaseException, links: Mapping[str, Any]) -> BaseException:
    for name, value in links.items():
        setattr(error, name, value)
    return error


def _itself(error: BaseException) -> BaseException:
    return error


def reference(output: Output) -> dict[str, Any]:
    """Return the JSON form by which an output becomes a parameter."""
    if output.path is None:
        return {"packer": output.packer, "inline": output.inline}
    return {
        "packer": output.packer,
        "path": output.path,
        "sha256": output.sha256,
        "type": output.type,
        "size": output.size,
    }
