"""A file that is touched as a sign of life: its time of change is the last one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

LAPSE_BEATS = 3  # heartbeats without a beat after which a heartbeat has lapsed


def start_beating(path: Path, every: float) -> None:
    """Touch a file every so many seconds while this process lives."""
    threading.Thread(target=_beat, args=(path, every), daemon=True).start()


def _beat(path: Path, every: float) -> None:
    path.touch(mode=0o600)
    while True:
        time.sleep(every)
        with contextlib.suppress(OSError):
            os.utime(path)
