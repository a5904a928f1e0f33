"""What IPython shows of an error of mlfn's: its sentence and the user's own lines, without the library's frames."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from mlfn.errors import MlfnError

_PACKAGE = str(Path(__file__).parents[1])
_OTHERS = tuple({_PACKAGE, *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))})


def install(shell: Any) -> None:
    """Have a shell of IPython's show errors of mlfn's by the frames of the user's own code."""

    def rendered(error: MlfnError) -> list[str]:
        with _users_frames_alone(error):
            lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
            return lines

    # IPython asks an exception for this method.
    MlfnError._render_traceback_ = rendered  # type: ignore[attr-defined]


@contextmanager
def _users_frames_alone(error: BaseException) -> Iterator[None]:
    """Leave the user's frames in the tracebacks of an error and of those before it, while the block lasts.

    One before it that has none is left out; where the error itself has none, all stay.
    """
    before: list[Any] = []
    one: BaseException | None = error
    while one is not None and not any(one is known for known, *_ in before):
        before.append((one, one.__traceback__, one.__cause__, one.__context__, one.__suppress_context__))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    if _users(error.__traceback__) is None:
        yield
        return
    try:
        for known, traceback, *_ in before:
            known.__traceback__ = _users(traceback)
        for (known, *_), (earlier, *_) in pairwise(before):
            if earlier.__traceback__ is None:
                known.__cause__, known.__context__ = None, None
        yield
    finally:
        for known, traceback, cause, context, suppressed in before:
            known.__traceback__, known.__cause__, known.__context__ = traceback, cause, context
            known.__suppress_context__ = suppressed


def _users(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback of the user's own frames."""
    if traceback is None:
        return None
    below = _users(traceback.tb_next)
    if not _is_users(traceback.tb_frame):
        return below
    return TracebackType(below, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)


def _is_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return not file.startswith(("<frozen", *_OTHERS))
