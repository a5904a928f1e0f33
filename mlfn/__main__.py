"""``python -m mlfn`` is the command line."""

from __future__ import annotations

from mlfn.ui.cli.app import main

if __name__ == "__main__":
    main()
