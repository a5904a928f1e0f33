"""A stored failure -> the exception that a caller gets."""

from __future__ import annotations

import base64

from mlfn import errors
from mlfn.artifacts.codec import Codec
from mlfn.errors import MlfnError
from mlfn.spec.record import RemoteFailure

_NOT_RETURNED = ": it called sys.exit(), and a run has succeeded only when its function returns"
_INTERRUPTED = ": its code raised it, or something sent SIGINT to it; run.cancel() is what cancels a run"


class RemoteTracebackError(Exception):
    """The traceback of the run, as text, under the exception that it ended with."""

    def __str__(self) -> str:
        return f"in the run:\n\n{self.args[0]}"


def rebuild(failure: RemoteFailure, codec: Codec, *, where: str) -> BaseException:
    """Return a run's failure as an exception: the user's own type where it can be, with the run's traceback under it."""
    error = _unpickled(failure, codec) or _own_error(failure)
    if error is None or isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        ended = errors.WorkerDiedError if isinstance(error, SystemExit) else errors.RemoteError
        error = ended(f"{where} ended with {_what(failure)}.")
    if failure.traceback:
        _innermost(error).__cause__ = RemoteTracebackError(failure.traceback)
    return error


def _what(failure: RemoteFailure) -> str:
    """Return in words what ended a run, where its own exception is not raised here."""
    if failure.exit_code == 0:
        return f"exit code 0{_NOT_RETURNED}"
    if failure.exit_code is not None:
        words = "" if failure.message == str(failure.exit_code) else failure.message
        return (
            f"exit code {failure.exit_code}: it called sys.exit({words!r})"
            if words
            else f"exit code {failure.exit_code}"
        )
    kind = failure.type.removeprefix("builtins.")
    if kind == "KeyboardInterrupt" and not failure.message:
        return f"{kind}{_INTERRUPTED}"
    return f"{failure.type}: {failure.message}" if failure.message else f"{kind}, which has no text"


def _innermost(error: BaseException) -> BaseException:
    """Return the first cause of all: the causes that the user's code has given stay between."""
    seen = [error]
    while (cause := seen[-1].__cause__) is not None and cause not in seen:
        seen.append(cause)
    return seen[-1]


def _unpickled(failure: RemoteFailure, codec: Codec) -> BaseException | None:
    if failure.pickle is None:
        return None
    try:
        error = codec.unpickle_failure(base64.b64decode(failure.pickle))
    except Exception:  # noqa: BLE001 - its module may be gone or changed; its text is still there
        return None
    return error if isinstance(error, BaseException) else None


def _own_error(failure: RemoteFailure) -> MlfnError | None:
    module, _, name = failure.type.rpartition(".")
    kind = getattr(errors, name, None) if module == "mlfn.errors" else None
    return kind(failure.message) if isinstance(kind, type) and issubclass(kind, MlfnError) else None
