"""Value <-> artifact: one file per family of types, safe formats first, pickle last.

This package travels to workers: it needs the standard library alone, and imports pandas, pyarrow or NumPy
only inside the functions that handle a value of theirs.
"""

from __future__ import annotations

from mlfn.packers.base import INLINE_LIMIT, Packed, Packer, Stored, UnfitError
from mlfn.packers.inputs import annotation_name, read_input, wants_input
from mlfn.packers.table import PACKERS, pack, unpack

__all__ = [
    "INLINE_LIMIT",
    "PACKERS",
    "Packed",
    "Packer",
    "Stored",
    "UnfitError",
    "annotation_name",
    "pack",
    "read_input",
    "unpack",
    "wants_input",
]
