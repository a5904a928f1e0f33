"""mlfn itself, as it travels to where it is not installed: one archive that Python imports from."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlfn.host.installation import ROOT

_LEFT_OUT = ("mlfn/testing/", "mlfn/ui/")
_KINDS = (".py", ".html", ".properties")
_THEN = (2020, 1, 1, 0, 0, 0)  # the same bytes on every machine


@functools.cache
def package_bundle() -> tuple[str, bytes]:
    """Return the digest of the archive of the package alone, and the archive."""
    return zipped(package_files())


def package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the modules that workers may need, and what they read."""
    root = Path(ROOT)
    for path in sorted((root / "mlfn").rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in _KINDS and not name.startswith(_LEFT_OUT):
            yield name, path.read_bytes()


def zipped(files: Iterable[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return the digest of an archive of these files, and the archive."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name, _THEN), content, zipfile.ZIP_DEFLATED)
    content = found.getvalue()
    return hashlib.sha256(content).hexdigest(), content
