"""Exceptions as they travel: the user's frames as text, and the object itself where it can be pickled."""

from __future__ import annotations

import base64
import inspect
import traceback
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.artifacts.codec import Codec, rebuilt_error
from mlfn.errors import (
    MlfnError,
    OutOfMemoryError,
    PayloadError,
    RebuildError,
    RunLostError,
    SkewError,
    StorageError,
    readable,
)
from mlfn.settings.masking import Masker
from mlfn.spec.record import Outcome, Reason, RemoteFailure, RunState
from mlfn.spec.values import shown_bytes
from mlfn.worker.task import Calling

_PACKAGE = str(Path(__file__).parents[1])
_STDLIB = str(Path(inspect.__file__).parent)
_EVENT_LOOP = str(Path(_STDLIB, "asyncio"))
_MAX_TRACEBACK = 64_000  # characters; a recursion error would otherwise fill the store
_REASONS: tuple[tuple[type[BaseException], Reason], ...] = (
    (MemoryError, Reason.OOM),
    (RunLostError, Reason.LOST),
    (SkewError, Reason.SKEW),
    (StorageError, Reason.STORAGE),
    (RebuildError, Reason.CODE),
    (PayloadError, Reason.STORAGE),
)


missing_package = ""
"""What to do about a package that is not there, where a run's environment is not its caller's; said once in such a process."""


def failed_outcome(error: BaseException, codec: Codec, secrets: Collection[str]) -> Outcome:
    """Return the outcome of an attempt that raised `error`."""
    if missing_package and isinstance(error, ModuleNotFoundError) and error.msg == f"No module named {error.name!r}":
        error.msg = f"{error.msg}: {missing_package}"
        error.args = (error.msg,)  # from which its copies are made
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), Reason.ERROR)
    return Outcome(RunState.FAILED, reason, describe_failure(error, codec, secrets=secrets))


def describe_failure(error: BaseException, codec: Codec, *, secrets: Collection[str] = ()) -> RemoteFailure:
    """Return an exception as it travels.

    The values of `secrets` are masked in the text. An object that holds one travels masked as well, where its arguments and
    attributes are plain values; else it does not travel.
    """
    masker = Masker(secrets)
    exit_code = None
    if isinstance(error, SystemExit):
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
    return RemoteFailure(
        type=_full_name(type(error)),
        message=readable(masker.text(_safe_text(error))),
        traceback=readable(_shortened(masker.text(user_traceback(error)))),
        bases=_base_names(type(error)),
        pickle=_pickled(error, codec, masker),
        exit_code=exit_code,
    )


def describe_out_of_memory(failure: RemoteFailure, calling: Calling) -> RemoteFailure:
    """Return a MemoryError's failure as an OutOfMemoryError that names the limit: Python's own has no text."""
    detail = f" ({failure.message})" if failure.message else ""
    if calling.mem:
        text = f"{calling.name} ran into its limit of mem={shown_bytes(calling.mem)}{detail}; raise mem=, or use less."
    else:
        text = f"{calling.name} ran out of memory{detail}; use less, or run it where there is more."
    kind = _full_name(OutOfMemoryError)
    return replace(
        failure,
        type=kind,
        message=text,
        traceback=f"{failure.traceback}\n{kind}: {text}\n",
        bases=tuple(dict.fromkeys((*_base_names(OutOfMemoryError), *failure.bases))),
        pickle=None,
    )


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _base_names(kind: type) -> tuple[str, ...]:
    return tuple(map(_full_name, kind.__mro__[:-1]))


def user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the frames of mlfn itself and of the event loop beneath the handler.

    It is empty for an error of mlfn's own without a frame of the user's: the message is enough.
    """
    described = traceback.TracebackException.from_exception(error)
    pending, is_users = [described], not isinstance(error, MlfnError)
    while pending:
        item = pending.pop()
        item.stack = traceback.StackSummary.from_list(_users_frames(item.stack))
        is_users = is_users or any(map(_is_users, item.stack))
        pending += [linked for linked in (item.__cause__, item.__context__) if linked is not None]
        pending += getattr(item, "exceptions", None) or []
    return "".join(described.format()) if is_users else ""


def _is_users(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith((_STDLIB, "<frozen ")) and "-packages" not in frame.filename


def _users_frames(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    frames = [frame for frame in stack if not frame.filename.startswith(_PACKAGE)]
    first = next((i for i, frame in enumerate(frames) if not frame.filename.startswith(_EVENT_LOOP)), 0)
    return frames[first:]


def _shortened(text: str) -> str:
    if len(text) <= _MAX_TRACEBACK:
        return text
    half = _MAX_TRACEBACK // 2
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _safe_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return f"<{type(error).__name__} whose text cannot be shown>"


def _pickled(error: BaseException, codec: Codec, masker: Masker) -> str | None:
    # Any object can refuse in any way; the text remains. A cause that refuses stays behind, then what else does.
    ways = [(True, True)] if error.__cause__ is not None else []
    for linked, whole in (*ways, (False, True), (False, False)):
        with suppress(Exception):
            data = codec.pickle_failure(error, linked=linked, whole=whole)
            if masker.bytes(data) is not data:
                data = codec.pickle_failure(_masked_copy(error, masker), linked=linked)
            if masker.bytes(data) is data:
                return base64.b64encode(data).decode()
    return None


def _masked_copy(error: BaseException, masker: Masker) -> BaseException:
    """Return an exception of the same type whose texts are masked; raise TypeError where it holds more than plain values."""
    kind, reduced = type(error), error.__reduce_ex__(4)
    if not isinstance(reduced, tuple) or reduced[0] is not kind or len(reduced) not in (2, 3):
        raise TypeError("it has a reduce of its own")
    args, state = _masked(reduced[1], masker), _masked(dict(reduced[2] or {}) if len(reduced) == 3 else {}, masker)
    return rebuilt_error(kind, args, state)


def _masked(value: Any, masker: Masker) -> Any:
    kind = type(value)
    if kind is str:
        return masker.text(value)
    if kind is bytes:
        return masker.bytes(value)
    if isinstance(value, BaseException):
        return _masked_copy(value, masker)
    if kind in (tuple, list, set, frozenset):
        return kind(_masked(item, masker) for item in value)
    if kind is dict:
        return {_masked(key, masker): _masked(item, masker) for key, item in value.items()}
    if value is None or kind in (bool, int, float):
        return value
    raise TypeError(f"a {kind.__name__} cannot be masked")
