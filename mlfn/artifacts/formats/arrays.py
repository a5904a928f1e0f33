"""NumPy arrays, as .npy without pickle. NumPy's scalars are tagged JSON."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from mlfn.artifacts.formats.base import Packed, Stored, UnfitError

# numpy.load refuses longer headers than 10,000 characters; the rest of the header is short.
_MAX_DESCRIPTION = 9_000


class NumpyPacker:
    """An array of any dtype without Python objects; subclasses such as masked arrays are left to pickle."""

    name = "numpy"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is an array, and no subclass of one."""
        return type(value) is getattr(sys.modules.get("numpy"), "ndarray", None)

    def pack(self, value: Any, /) -> Packed:
        """Write .npy; unfit where the dtype has objects or no name there."""
        import numpy as np

        _refuse_inexact(value.dtype)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, value, allow_pickle=False)
        content = buffer.getvalue()
        return Packed("numpy", "numpy.ndarray", content=content, suffix=".npy", size=len(content))

    def unpack(self, stored: Stored, /) -> Any:
        """Read .npy, never a pickle."""
        return read_npy(stored.file)


def read_npy(path: Path) -> Any:
    """Read one array, and never a pickle."""
    import numpy as np

    # numpy.load would also open an archive of several arrays, if that is what the file holds.
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _refuse_inexact(dtype: Any) -> None:
    import numpy as np

    if dtype.hasobject or dtype.metadata:
        raise UnfitError("its dtype has objects or metadata")
    description = np.lib.format.dtype_to_descr(dtype)
    # bfloat16 and similar dtypes describe themselves as raw bytes, and would come back as raw bytes.
    same = np.lib.format.descr_to_dtype(description)
    if same != dtype or same.isalignedstruct != dtype.isalignedstruct or type(same) is not type(dtype):
        raise UnfitError(f".npy has no name for its dtype {dtype}")
    if len(repr(description)) > _MAX_DESCRIPTION:
        raise UnfitError("its dtype has too many fields")
