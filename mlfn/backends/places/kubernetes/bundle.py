"""mlfn itself, as it travels into an image that does not have it: one archive that Python imports from."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mlfn.host.installation import ROOT

_LEFT_OUT = ("mlfn/testing/", "mlfn/ui/")
_ENTRY = "mlfn/worker/pod/entry.py"
_THEN = (2020, 1, 1, 0, 0, 0)  # the same bytes on every machine


@functools.cache
def worker_bundle() -> tuple[str, bytes]:
    """Return the digest of the archive and the archive."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in _files():
            archive.writestr(zipfile.ZipInfo(name, _THEN), content, zipfile.ZIP_DEFLATED)
    content = found.getvalue()
    return hashlib.sha256(content).hexdigest(), content


def _files() -> Iterator[tuple[str, bytes]]:
    root = Path(ROOT)
    yield "__main__.py", (root / _ENTRY).read_bytes()
    for path in sorted((root / "mlfn").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_LEFT_OUT):
            yield name, path.read_bytes()
    package = importlib.util.find_spec("cloudpickle")
    assert package is not None and package.origin is not None
    for path in sorted(Path(package.origin).parent.glob("*.py")):
        yield f"cloudpickle/{path.name}", path.read_bytes()
