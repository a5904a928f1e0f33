"""Every error that mlfn raises, in one tree.

::

    MlfnError
    ├── DeclarationError (TypeError)          a function that cannot be declared
    │   ├── OptionError (ValueError)          an option unknown, misfitting, or that a kind or place refuses
    │   └── UnknownNameError (KeyError)       a kind, place or strategy that is not registered
    ├── ParameterError (TypeError, ValueError)  an argument that the function does not take
    ├── CaptureError                          code or a value that cannot travel
    │   └── UnpicklableError (TypeError)      ... because pickle refuses it; names the path to it
    ├── PayloadError (ValueError)             bytes that are not a payload, or a damaged one
    │   ├── SignatureError                    signed by another key, or changed since
    │   ├── SkewError                         written by another Python minor
    │   └── RebuildError                      a function or value that cannot be rebuilt here
    ├── OutputError                           a value that cannot be packed or unpacked
    ├── NotFoundError (KeyError)              a run, function, output or artifact that is not there
    │   └── InputNotFoundError (FileNotFoundError)
    ├── SecretNotFoundError (KeyError)
    ├── SettingsError (ValueError)            a setting unknown or misfitting
    ├── EnvironmentBuildError (RuntimeError)  requirements that could not be installed
    ├── MissingExtraError (ImportError)       an optional package that is not installed
    ├── PlaceError (RuntimeError)             a place that cannot be used: no cluster, no permission
    ├── ServiceError (RuntimeError)           a service that is not there, did not begin, or refused
    ├── StoreError
    │   ├── StoreVersionError                 written by a newer mlfn
    │   ├── StoreCorruptError                 a row or file that cannot be read
    │   └── StorageError (OSError)            a disk full, read-only or unreachable
    ├── RunError                              how a run ended, other than with the user's own exception
    │   ├── RemoteError                       the user's exception, where its type cannot be rebuilt here
    │   ├── RunCancelledError
    │   ├── RunTimeoutError (TimeoutError)    the run's own time limit
    │   ├── OutOfMemoryError (MemoryError)
    │   ├── RunLostError                      two witnesses agree that it is gone
    │   ├── WorkerDiedError                   exit code or signal, before an outcome
    │   ├── ParentFailedError                 a run whose output this one waits for did not succeed
    │   ├── RunPrunedError                    a child that its sweep stopped early
    │   └── SweepError                        a sweep whose children failed, or that has no best one
    ├── SweepHeldError (RuntimeError)         a sweep that another process drives
    └── ResultTimeoutError (TimeoutError)     ``result(timeout=)`` ran out; the run goes on

A leaf also inherits the builtin that a caller would catch. A message says what failed, the value, what was
allowed and what to type next.
"""

from __future__ import annotations

from collections.abc import Iterable


class MlfnError(Exception):
    """Root of all errors raised by mlfn."""

    def __str__(self) -> str:
        # KeyError would show repr(message); a message is meant to be read.
        return str(self.args[0]) if self.args else type(self).__doc__ or ""

    def __reduce__(self) -> str | tuple[object, ...]:
        # What has none of its own is made anew without `__init__` where the package tblib is imported, as by Dask.
        return super().__reduce__()


class DeclarationError(MlfnError, TypeError):
    """A function that cannot be declared."""


class OptionError(DeclarationError, ValueError):
    """An option that is unknown, does not fit, or cannot be honoured."""


class UnknownNameError(DeclarationError, KeyError):
    """A kind, place or strategy that is not registered."""


class ParameterError(MlfnError, TypeError, ValueError):
    """An argument that the function does not take."""


class CaptureError(MlfnError):
    """Code or a value that cannot travel to a worker."""


class UnpicklableError(CaptureError, TypeError):
    """A value that pickle refuses; the message names the path to it."""


class PayloadError(MlfnError, ValueError):
    """Bytes that are not a payload, or a damaged one."""


class SignatureError(PayloadError):
    """A payload signed by another key, or changed since."""


class SkewError(PayloadError):
    """A payload written by another Python minor version."""


class RebuildError(PayloadError):
    """A function or value that cannot be rebuilt where it was to be used."""


class OutputError(MlfnError):
    """A value that cannot be packed or unpacked."""


class NotFoundError(MlfnError, KeyError):
    """A run, function, output or artifact that is not there."""


class InputNotFoundError(NotFoundError, FileNotFoundError):
    """An input file that is not there."""


class SecretNotFoundError(MlfnError, KeyError):
    """A secret that has no value where the run runs."""


class SettingsError(MlfnError, ValueError):
    """A setting that is unknown or does not fit."""


class EnvironmentBuildError(MlfnError, RuntimeError):
    """Requirements that could not be installed."""


class MissingExtraError(MlfnError, ImportError):
    """An optional package that is not installed."""


class PlaceError(MlfnError, RuntimeError):
    """A place cannot be used: there is no cluster, or it refuses this user."""


class ServiceError(MlfnError, RuntimeError):
    """A service is not there, did not begin, or answered that it cannot."""


class StoreError(MlfnError):
    """The store refused."""


class StoreVersionError(StoreError):
    """A store written by a newer mlfn."""


class StoreCorruptError(StoreError):
    """A row or file of the store that cannot be read."""


class StorageError(StoreError, OSError):
    """A disk that is full, read-only or unreachable."""


class RunError(MlfnError):
    """How a run ended, other than with the user's own exception."""


class RemoteError(RunError):
    """The user's exception, where its type cannot be rebuilt here."""


class RunCancelledError(RunError):
    """The run was cancelled."""


class RunTimeoutError(RunError, TimeoutError):
    """The run exceeded its own time limit."""


class OutOfMemoryError(RunError, MemoryError):
    """The run needed more memory than it was given."""


class RunLostError(RunError):
    """The run's worker is gone, and how it ended is unknown."""


class WorkerDiedError(RunError):
    """The run's process ended before it reported an outcome."""


class ParentFailedError(RunError):
    """A run whose output this one waits for did not succeed."""


class RunPrunedError(RunError):
    """The run was stopped early by its sweep."""


class SweepError(RunError):
    """A sweep failed: too many of its children did, or none of them is the best."""


class SweepHeldError(MlfnError, RuntimeError):
    """A sweep that another process drives."""


class ResultTimeoutError(MlfnError, TimeoutError):
    """Waiting for a result took longer than asked; the run goes on."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a sentence with the allowed name closest to `name`, or with all of them."""
    names = sorted(allowed)
    return f"{meant(name, names)}Allowed: {', '.join(names) or 'none'}."


def meant(name: str, known: Iterable[str]) -> str:
    """Return a question, and a blank, with the known name closest to `name`; nothing where none is close."""
    import difflib  # 4 ms that only a mistake costs

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}? " if close else ""


def readable(text: str) -> str:
    """Return text that a store, a file and a terminal take: lone surrogates are escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def harmless(text: str) -> str:
    """Return text with control characters spelt out: a terminal obeys none of it, and nothing is lost."""
    import re

    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
