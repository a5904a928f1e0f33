"""`logging` as the caller's script has set it up: described there as plain JSON, set up again in a worker.

In a run everything is written to its log: a handler to stdout or stderr is one there too, with its level and format. A handler to
anything else, a file above all, is not made again, as many workers would write one file; a logger that has no other writes to
stderr in its place. Filters stay behind. Loggers of installed packages keep what their package sets up; a level goes along.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

_STYLES = {
    logging.PercentStyle: "%",
    logging.StrFormatStyle: "{",
    logging.StringTemplateStyle: "$",
}
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"  # in place of one that needs what only the script has


def describe_logging(is_own: Callable[[str], bool]) -> dict[str, Any]:
    """Return how the loggers are set up, as JSON by name; empty where nobody has. `is_own` says which packages are the user's."""
    root = logging.root
    described = {"": _described(root, is_own=True)}
    for name, logger in sorted(root.manager.loggerDict.items()):
        first = name.partition(".")[0]
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers) and first != "mlfn":
            described[name] = _described(logger, is_own=is_own(first))
    found: dict[str, Any] = {name: facts for name, facts in described.items() if facts}
    return {"loggers": found, "disable": root.manager.disable} if found or root.manager.disable else {}


def set_up_logging(described: Mapping[str, Any]) -> None:
    """Set the loggers up as they were described, but no second handler where one is."""
    if not described:
        return
    logging.disable(described["disable"])
    for name, facts in described["loggers"].items():
        logger = logging.getLogger(name or None)
        logger.setLevel(facts.get("level", logger.level))
        logger.propagate, logger.disabled = facts.get("propagate", True), facts.get("disabled", False)
        if all(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            for handler in facts.get("handlers", ()):
                logger.addHandler(_handler(**handler))


def _described(logger: logging.Logger, *, is_own: bool) -> dict[str, Any]:
    usual = logging.WARNING if logger is logging.root else logging.NOTSET
    facts: dict[str, Any] = {} if logger.level == usual else {"level": logger.level}
    handlers = [handler for handler in logger.handlers if not isinstance(handler, logging.NullHandler)]
    if not is_own:
        return {} if handlers else facts
    if shown := _on_console(handlers):
        facts["handlers"] = shown
    more = {"propagate": (logger.propagate, True), "disabled": (logger.disabled, False)}
    return {**facts, **{name: value for name, (value, its_usual) in more.items() if value != its_usual}}


def _on_console(handlers: list[logging.Handler]) -> list[dict[str, Any]]:
    streams = [(handler, _stream_of(handler)) for handler in handlers]
    written = [(handler, stream) for handler, stream in streams if stream in ("stdout", "stderr")]
    written = written or [(handler, "stderr") for handler, stream in streams if stream is None][:1]
    return [{"stream": stream, "level": handler.level, **_format_of(handler)} for handler, stream in written]


def _stream_of(handler: logging.Handler) -> str | None:
    """Return ``"stdout"`` or ``"stderr"``; an empty text for a stream of the script's own, None for what is no stream."""
    if isinstance(handler, logging.FileHandler):
        return "" if handler.baseFilename == os.devnull else None
    if not isinstance(handler, logging.StreamHandler):
        return None
    stream = handler.stream
    for name in ("stdout", "stderr"):
        if stream in (getattr(sys, name), getattr(sys, f"__{name}__")) or getattr(stream, "name", "") == f"<{name}>":
            return name
    return ""


def _format_of(handler: logging.Handler) -> dict[str, Any]:
    formatter = handler.formatter
    if formatter is None:
        return {}
    facts = {"fmt": formatter._fmt, "datefmt": formatter.datefmt, "style": _STYLES.get(type(formatter._style), "%")}
    with suppress(Exception):  # a formatter of the script's own may ask for fields of its own
        logging.Formatter(**facts).format(logging.LogRecord("", 0, "", 0, "", (), None))  # type: ignore[arg-type]
        return facts
    return {"fmt": _FORMAT, "datefmt": None, "style": "%"}


def _handler(stream: str, level: int, **of_formatter: Any) -> logging.Handler:
    handler = logging.StreamHandler(getattr(sys, stream))
    handler.setLevel(level)
    if of_formatter:
        handler.setFormatter(logging.Formatter(**of_formatter))
    return handler
