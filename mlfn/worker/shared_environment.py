"""The environment of a process in which several runs go on side by side, each in a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_environment_lock = threading.Lock()
_variables_set: list[Mapping[str, str]] = []  # by the runs that go on, in the order in which they started
_variables_before: dict[str, str | None] = {}  # what they were before the first of these runs


@contextmanager
def temporary_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set the variables of one run in this process's environment, and restore it at the end.

    Threads share one environment: of runs that set the same variable, the last to start wins. In whatever order they end,
    the last one restores the value from before the first.
    """
    with _environment_lock:
        _variables_set.append(variables)
        for name, value in variables.items():
            _variables_before.setdefault(name, os.environ.get(name))
            os.environ[name] = value
    try:
        yield
    finally:
        with _environment_lock:
            _variables_set[:] = [others for others in _variables_set if others is not variables]
            for name in variables:
                left = [others[name] for others in _variables_set if name in others]
                restored = left[-1] if left else _variables_before.pop(name)
                if restored is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = restored
