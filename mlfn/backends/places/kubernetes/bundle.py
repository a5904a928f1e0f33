"""mlfn itself, as it travels into an image that does not have it, with cloudpickle and what starts a pod."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from mlfn.backends.places.bundle import package_files, zipped
from mlfn.host.installation import ROOT

_ENTRY = "mlfn/worker/pod/entry.py"


@functools.cache
def worker_bundle() -> tuple[str, bytes]:
    """Return the digest of the archive and the archive."""
    return zipped(_files())


def _files() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", (Path(ROOT) / _ENTRY).read_bytes()
    yield from package_files()
    package = importlib.util.find_spec("cloudpickle")
    assert package is not None and package.origin is not None
    for path in sorted(Path(package.origin).parent.glob("*.py")):
        yield f"cloudpickle/{path.name}", path.read_bytes()
