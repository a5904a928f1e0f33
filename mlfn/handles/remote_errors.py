"""A stored failure -> the exception that a caller gets."""

from __future__ import annotations

import base64

from mlfn import errors
from mlfn.artifacts.codec import Codec
from mlfn.errors import MlfnError
from mlfn.spec.record import RemoteFailure

_NOT_RETURNED = ": it called sys.exit(), and a run has succeeded only when its function returns"


class RemoteTracebackError(Exception):
    """The traceback of the run, as text, under the exception that it ended with."""

    def __str__(self) -> str:
        return f"in the run:\n\n{self.args[0]}"


def rebuild(failure: RemoteFailure, codec: Codec, *, where: str) -> BaseException:
    """Return a run's failure as an exception: the user's own type where it can be, with the run's traceback under it."""
    error = _unpickled(failure, codec) or _own_error(failure)
    if error is None or isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        what = f"{failure.type}: {failure.message}" if failure.exit_code is None else f"exit code {failure.exit_code}"
        ended = errors.WorkerDiedError if isinstance(error, SystemExit) else errors.RemoteError
        error = ended(f"{where} ended with {what}{_NOT_RETURNED if failure.exit_code == 0 else ''}.")
    if failure.traceback:
        error.__cause__ = RemoteTracebackError(failure.traceback)
    return error


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
