"""``python -m mlfn.worker FOLDER``."""

from __future__ import annotations

from mlfn.worker.rank import main

if __name__ == "__main__":
    main()
