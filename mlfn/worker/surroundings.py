"""What a handler finds around it in its process, and may change: put back after each run of a worker that is used again.

Each function of `_PARTS` notes one part as it is, and returns what puts that back. Modules keep their own globals: what they have
imported, cached or registered is theirs.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import io
import locale
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from mlfn.worker.context import annotated

Restore = Callable[[], None]


class Surroundings:
    """What surrounds `function` in this process, as it is now."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._restores: list[Restore] = []
        for note in _PARTS:
            with suppress(Exception):  # the working folder may be gone
                self._restores.append(note())
        self._restores.append(_noted_defaults(function))

    def restore(self) -> None:
        """Put back what has changed since; what cannot be put back stays."""
        for restore in self._restores:
            with suppress(Exception):
                restore()


def _working_folder() -> Restore:
    folder = os.getcwd()

    def restore() -> None:
        try:
            is_there = os.getcwd() == folder
        except OSError:  # it was removed
            is_there = False
        if not is_there:
            os.chdir(folder)

    return restore


def _environment() -> Restore:
    # As `environ_mark`: what lies below is compared in a hundredth of the time.
    def now() -> dict[bytes, bytes]:
        return dict(getattr(os.environ, "_data", os.environb))

    noted = now()

    def restore() -> None:
        if getattr(os.environ, "_data", None) == noted:
            return
        found = now()
        for name in found.keys() - noted.keys():
            del os.environb[name]
        for name, value in noted.items():
            if found.get(name) != value:
                os.environb[name] = value
        if found.get(b"TZ") != noted.get(b"TZ"):
            time.tzset()

    return restore


_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def _streams() -> Restore:
    noted = {name: getattr(sys, name) for name in _STREAMS}
    settings = {name: (stream.encoding, stream.errors) for name, stream in noted.items()}

    def restore() -> None:
        for name, (encoding, errors) in settings.items():
            stream = noted[name]
            if _is_unusable(stream):
                # `sys.stdout` and `sys.__stdout__` are one stream, also when it is another one.
                stream = noted[name] = _same(noted, name) or _opened(name, encoding, errors)
            elif (stream.encoding, stream.errors) != (encoding, errors):
                stream.reconfigure(encoding=encoding, errors=errors)
            setattr(sys, name, stream)

    return restore


def _is_unusable(stream: Any) -> bool:
    try:
        return bool(stream.closed)
    except ValueError:  # its buffer was detached
        return True


def _same(streams: dict[str, Any], name: str) -> Any:
    other = streams[name.strip("_") if name.startswith("_") else f"__{name}__"]
    return None if _is_unusable(other) else other


def _opened(name: str, encoding: str, errors: str) -> io.TextIOWrapper:
    number = ("stdin", "stdout", "stderr").index(name.strip("_"))
    raw = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115 - it stays open
    return io.TextIOWrapper(raw, encoding, errors, line_buffering=number > 0)


def _import_path() -> Restore:
    noted = list(sys.path)
    installed = tuple(f"{path}{os.sep}" for path in noted if path.endswith("-packages"))

    def restore() -> None:
        if sys.path == noted:
            return
        # A package that has added a folder of its own, as setuptools does, is imported once.
        own = [path for path in sys.path if path not in noted and str(path).startswith(installed)]
        sys.path[:] = [*noted, *own]

    return restore


# All but those that no process can handle. The functions of `signal` itself make an enum of each answer: 1 us each.
_SIGNALS = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_handler_of: Callable[[int], Any] = signal._signal.getsignal  # type: ignore[attr-defined]


def _signal_handlers() -> Restore:
    noted = list(map(_handler_of, _SIGNALS))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def restore() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that is still to come would reach the next run
        if (found := list(map(_handler_of, _SIGNALS))) != noted:
            for timer in (
                signal.ITIMER_VIRTUAL,
                signal.ITIMER_PROF,
            ):  # without a handler, their end is that of the process
                signal.setitimer(timer, 0)
            for number, handler, before in zip(_SIGNALS, found, noted, strict=True):
                if handler is not before and before is not None:
                    signal.signal(number, before)
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()) != blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    return restore


def _warning_filters() -> Restore:
    filters, show, form = list(warnings.filters), warnings.showwarning, warnings.formatwarning

    def restore() -> None:
        if warnings.showwarning is not show:
            logging.captureWarnings(False)
            warnings.showwarning = show
        warnings.formatwarning = form
        if warnings.filters != filters:
            warnings.filters = list(filters)
        with warnings.catch_warnings():
            pass  # what one run has been warned of, the next one is warned of again

    return restore


def _loggers() -> Restore:
    noted = {logger: _set_up(logger) for logger in _all_loggers()}
    disabled = logging.root.manager.disable

    def restore() -> None:
        if logging.root.manager.disable != disabled:
            logging.disable(disabled)
        for logger in _all_loggers():
            before = noted.get(logger)
            if before is None and not _belongs_to_module(logger.name):
                before = _SetUp()
            if before is not None and _set_up(logger) != before:
                before.put_back(logger)

    return restore


def _all_loggers() -> Iterator[logging.Logger]:
    yield logging.root
    for found in list(logging.root.manager.loggerDict.values()):
        if isinstance(found, logging.Logger):
            yield found


def _belongs_to_module(name: str) -> bool:
    """Return whether an imported module has this logger for its own, and will not set it up again."""
    first = name.partition(".")[0]
    return first != "__main__" and first in sys.modules


class _SetUp(NamedTuple):
    level: int = logging.NOTSET
    propagate: bool = True
    disabled: bool = False
    handlers: tuple[tuple[logging.Handler, int, logging.Formatter | None], ...] = ()
    filters: tuple[Any, ...] = ()

    def put_back(self, logger: logging.Logger) -> None:
        logger.setLevel(self.level)
        logger.propagate, logger.disabled, logger.filters = self.propagate, self.disabled, list(self.filters)
        kept = [handler for handler, _, _ in self.handlers]
        added = [handler for handler in logger.handlers if handler not in kept]
        logger.handlers = kept
        for handler, level, formatter in self.handlers:
            handler.setLevel(level)
            handler.setFormatter(formatter)
        for handler in added:
            handler.close()


def _set_up(logger: logging.Logger) -> _SetUp:
    handlers = tuple((handler, handler.level, handler.formatter) for handler in logger.handlers)
    return _SetUp(logger.level, logger.propagate, logger.disabled, handlers, tuple(logger.filters))


def _locale() -> Restore:
    noted = locale.setlocale(locale.LC_ALL)

    def restore() -> None:
        if locale.setlocale(locale.LC_ALL) != noted:
            locale.setlocale(locale.LC_ALL, noted)

    return restore


def _umask() -> Restore:
    noted = os.umask(0o77)
    os.umask(noted)

    def restore() -> None:
        os.umask(noted)

    return restore


def _randomness() -> Restore:
    return _seed


def _seed() -> None:
    """Give the default random states a new beginning: nothing that a run has seeded or drawn shows in the next one."""
    if (python := sys.modules.get("random")) is not None:
        python.seed(int.from_bytes(os.urandom(16), "little"))
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed(memoryview(os.urandom(16)).cast("I").tolist())


def _interpreter() -> Restore:
    arguments, depth, interval = list(sys.argv), sys.getrecursionlimit(), sys.getswitchinterval()
    of_sys = sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook
    of_threads = threading.excepthook
    timeout, collects = socket.getdefaulttimeout(), gc.isenabled()

    def restore() -> None:
        sys.argv, sys.excepthook, sys.displayhook = list(arguments), *of_sys[:2]
        sys.unraisablehook, sys.breakpointhook = of_sys[2:]
        threading.excepthook = of_threads
        if sys.getrecursionlimit() != depth:
            sys.setrecursionlimit(depth)
        if sys.getswitchinterval() != interval:
            sys.setswitchinterval(interval)
        socket.setdefaulttimeout(timeout)
        (gc.enable if collects else gc.disable)()

    return restore


def _limits() -> Restore:
    noted = {limit: resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)}

    def restore() -> None:
        for limit, before in noted.items():
            if resource.getrlimit(limit) != before:
                with suppress(OSError, ValueError):  # a hard limit may have been lowered
                    resource.setrlimit(limit, before)

    return restore


def _temporary_folder() -> Restore:
    # 5 ms to import.
    noted = getattr(sys.modules.get("tempfile"), "tempdir", None)

    def restore() -> None:
        module: Any = sys.modules.get("tempfile")
        if module is not None:
            module.tempdir = noted

    return restore


_PARTS: tuple[Callable[[], Restore], ...] = (
    _signal_handlers,
    _streams,
    _working_folder,
    _environment,
    _import_path,
    _loggers,
    _warning_filters,
    _locale,
    _umask,
    _limits,
    _temporary_folder,
    _randomness,
    _interpreter,
)


def _noted_defaults(function: Callable[..., Any]) -> Restore:
    """Note the default arguments of a handler, and of the functions beside it, that a call can change."""
    seen: set[int] = set()
    contents = [_contents(value, seen) for found in _functions_of(function) for value in _defaults_of(found)]
    changing = [refill for refill in contents if refill is not None]

    def restore() -> None:
        for refill in changing:
            refill()

    return restore


def _functions_of(handler: Callable[..., Any]) -> Iterator[types.FunctionType]:
    function: Any = annotated(handler)
    while (wrapped := getattr(function, "__wrapped__", None)) is not None:
        function = wrapped
    function = getattr(function, "__func__", function)
    if isinstance(function, types.FunctionType):
        yield function
        for found in list(function.__globals__.values()):
            if isinstance(found, types.FunctionType) and found.__globals__ is function.__globals__:
                yield found


def _defaults_of(function: types.FunctionType) -> Iterator[Any]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def _contents(value: Any, seen: set[int]) -> Restore | None:
    """Return what fills a container again, in its place, with what is in it now; None for what is none, or was `seen`.

    It stays the same object: a default may be known by its identity.
    """
    if id(value) in seen:
        return None
    seen.add(id(value))
    inner: Any
    if isinstance(value, (list, deque, bytearray)):
        inner, fill = list(value), functools.partial(_refill_sequence, value, type(value)(value))
    elif isinstance(value, dict):
        inner, fill = list(value.values()), functools.partial(_refill, value, dict(value))
    elif isinstance(value, set):
        inner, fill = [], functools.partial(_refill, value, set(value))
    elif isinstance(value, tuple):
        inner, fill = list(value), None
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        inner, fill = list(vars(value).values()), functools.partial(_refill, vars(value), dict(vars(value)))
    else:
        return None
    parts = [fill, *(_contents(item, seen) for item in inner)]
    fills = [part for part in parts if part is not None]
    return functools.partial(_call_all, fills) if fills else None


def _refill_sequence(value: Any, noted: Any) -> None:
    value.clear()
    value.extend(noted)


def _refill(value: Any, noted: Any) -> None:
    value.clear()
    value.update(noted)


def _call_all(fills: list[Restore]) -> None:
    for fill in fills:
        fill()
