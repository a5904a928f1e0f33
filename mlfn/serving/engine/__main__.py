"""``python -m mlfn.serving.engine FOLDER``: keep a processor as a process of its own, which outlives the one that starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from mlfn.serving.engine.keeper import keep
from mlfn.serving.server.__main__ import detach

if __name__ == "__main__":
    detach()
    sys.exit(keep(Path(sys.argv[1])))
