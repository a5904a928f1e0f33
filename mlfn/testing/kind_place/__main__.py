"""``python -m mlfn.testing.kind_place MODULE PAGE`` writes the table of a module's pairs into a page."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from mlfn.testing.kind_place.table import pairs_of, with_table

if __name__ == "__main__":
    module, page = importlib.import_module(sys.argv[1]), Path(sys.argv[2])
    page.write_text(with_table(page.read_text(encoding="utf-8"), pairs_of(module)), encoding="utf-8")
