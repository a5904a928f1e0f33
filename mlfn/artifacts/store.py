"""Content-addressed artifacts, each under its own run: ``<run>/<key>/<sha256><suffix>`` below a root.

Content is hashed while it is copied, and named when it is whole: a reader never sees half of it, the same content put twice
is one file, and no run writes into another's folder. What several runs are given may be one file with a path in the folder
of each. Files are 0600, folders 0700. A root is a folder, or a URL of an object store.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mlfn.artifacts.content import Stored
from mlfn.artifacts.folder_root import FolderRoot
from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.formats.base import Packed
from mlfn.errors import OutputError, StoreCorruptError
from mlfn.host.frozen import frozen

if TYPE_CHECKING:
    from mlfn.artifacts.url_root import UrlRoot

_HOME = re.compile(r"of-[0-9a-f]{16}/")
_NOTE = """Artifacts of mlfn: <run>/<output>/<sha256 of the content>. They belong to one data folder on {host}.
`mlfn gc` removes there what no run claims any more. Copy the whole root to move it, and set MLFN_ARTIFACTS to the copy.
"""
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16}){0,2}")


@frozen
class Artifact:
    """One output of one run in the store: `path` relative to the store's root, `uri` whole, for people."""

    key: str
    sha256: str
    size: int
    uri: str
    path: str
    packer: str
    type: str


class ArtifactStore:
    """Puts packed values under a root, and finds them again.

    A root that a user has chosen may be shared: what this data folder puts there lies in a folder of its own, `home`, which
    the path of each artifact begins with. `former` is where what has no home was put, before a root was chosen.

    `options` go to the fsspec file system of a URL. Content of a URL is read from a copy in a temporary folder that
    lives as long as the store does; StoreCorruptError says that it is not what was put.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        home: str = "",
        former: Path | str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.location = {"root": str(root), "home": home, "former": None if former is None else str(former)}
        self._options = options or {}
        self._home = home
        self._former = FolderRoot(Path(former)) if former is not None else None

    @functools.cached_property
    def root(self) -> FolderRoot | UrlRoot:
        """What artifacts are put into; opened when it is first needed.

        Raises:
            SettingsError: a URL of a scheme that is not known.
            MissingExtraError: the package of the scheme is not installed.

        """
        return _open_root(self.location["root"] or "", self._options)

    def put(self, run_id: str, key: str, packed: Packed, *, shared: bool = False) -> Artifact:
        """Copy a packed value to the run's own folder; an inline one becomes a JSON file.

        With `shared`, bytes that were put for another run before are linked to, in a folder of this machine.

        Raises:
            OutputError: the run id, key or suffix is no name, or a file to copy cannot be read.
            StorageError: a disk that is full, read-only or unreachable; nothing is left of the file.

        """
        folder = f"{_name('run id', run_id)}/{_name('artifact key', key)}"
        if self._home:
            folder = f"{self._home}/{folder}"
        source, suffix = _source(packed)
        if isinstance(source, Path) and source.is_dir():
            try:
                path, summed = self.root.put_tree(folder, source)
            finally:
                if packed.is_temporary:
                    import shutil

                    shutil.rmtree(source, ignore_errors=True)
        elif shared and isinstance(source, bytes) and isinstance(self.root, FolderRoot):
            path, summed = self.root.put_shared(folder, source, suffix)
        else:
            path, summed = self.root.put_file(folder, source, suffix)
        return Artifact(key, summed.sha256, summed.size, self.root.uri(path), path, packed.packer, packed.type)

    def adopt(self, path: str, content: bytes) -> None:
        """Keep a file that a run elsewhere has put under its own root, at the same path; one that is there is left alone."""
        self.root.adopt(_inner_path(path), content)

    def path(self, artifact: Artifact) -> Path:
        """Return a local path to the file or folder; raise NotFoundError where it is gone."""
        path = _checked_path(artifact)
        return self._root_of(path).local(path, artifact.sha256)

    def open(self, artifact: Artifact) -> BinaryIO:
        """Open a file for reading its beginning; its content is not checked."""
        path = _checked_path(artifact)
        return self._root_of(path).open(path)

    def uri(self, path: str) -> str:
        """Return where an artifact lies, or its folder, for people: without a password."""
        return self._root_of(path).uri(path)

    def folder_of(self, run_id: str) -> str:
        """Return the folder that a run's artifacts are put into, for people."""
        return self.root.uri(f"{self._home}/{run_id}" if self._home else run_id)

    def check(self) -> None:
        """Write a note for those who find the folder; raise StorageError where this root cannot be written."""
        import socket

        self.root.put_note(f"{self._home}/README.txt", _NOTE.format(host=socket.gethostname()).encode())

    def runs(self) -> Iterator[Stored]:
        """Yield what this data folder has put under a chosen root, run by run."""
        if self._home:
            yield from self.root.folders(self._home)

    def files(self) -> Iterator[tuple[Hashable, int]]:
        """Yield which file and how large, for what this data folder has put under a chosen root."""
        return self.root.files(self._home)

    def remove(self, run: str) -> None:
        """Remove all that this data folder has put under a chosen root for a run."""
        self.root.remove(f"{self._home}/{_name('run id', run)}")

    def _root_of(self, path: str) -> FolderRoot | UrlRoot:
        """Return the root that has an artifact. One without a home may have been copied from the data folder to the root."""
        if self._former is not None and not is_at_home(path) and self._former.exists(path):
            return self._former
        return self.root


def is_at_home(path: str) -> bool:
    """Return whether an artifact's path begins with the folder of a data folder, below a root that was chosen."""
    return _HOME.match(path) is not None


def run_of(path: str) -> str:
    """Return the run whose artifact lies at a path."""
    return _HOME.sub("", path).partition("/")[0]


def _open_root(root: Path | str, options: Mapping[str, Any]) -> FolderRoot | UrlRoot:
    if isinstance(root, Path) or "://" not in root:
        return FolderRoot(Path(root))
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(root)
    if parts.scheme == "file":
        return FolderRoot(Path(unquote(parts.path)))
    from mlfn.artifacts.url_root import UrlRoot

    return UrlRoot(root, options)


def _source(packed: Packed) -> tuple[bytes | Path, str]:
    if _SUFFIX.fullmatch(packed.suffix) is None:
        raise OutputError(f"{packed.suffix!r} is no suffix of an artifact. Allowed: a dot and letters or digits.")
    if packed.content is None:
        return tagged_json.dumps(packed.inline).encode("ascii"), ".json"
    return packed.content, packed.suffix


def _name(what: str, name: str) -> str:
    from mlfn.spec.values import ANY_SCRIPT, is_name  # readers of a store put nothing there

    if not is_name(name, signs="._-", first="_-"):
        raise OutputError(
            f"{name!r} is no {what}. Allowed: {ANY_SCRIPT}, '.', '_' and '-', 1 to 128 of them (240 bytes of UTF-8), "
            "not starting with a dot."
        )
    return name


def _inner_path(path: str) -> str:
    """Return the path of an artifact, or of a file in one that is a folder; refuse one that would lead elsewhere."""
    home = _HOME.match(path)
    run_id, key, *rest = path[home.end() if home else 0 :].split("/")
    if not rest or any(part in ("", ".", "..") or "\0" in part for part in rest):
        raise StoreCorruptError(f"{path!r} is no path of an artifact.")
    return "/".join([f"{home[0] if home else ''}{_name('run id', run_id)}", _name("artifact key", key), *rest])


def _checked_path(artifact: Artifact) -> str:
    """Return the path of an artifact; refuse one that was tampered with in the store."""
    home = _HOME.match(artifact.path)
    run_id, _, rest = artifact.path[home.end() if home else 0 :].partition("/")
    key, _, name = rest.partition("/")
    suffix = name.removeprefix(artifact.sha256)
    if re.fullmatch(r"[0-9a-f]{64}", artifact.sha256) is None or suffix == name or not _SUFFIX.fullmatch(suffix):
        raise StoreCorruptError(f"{artifact.path!r} is no path of an artifact with sha256 {artifact.sha256!r}.")
    return f"{home[0] if home else ''}{_name('run id', run_id)}/{_name('artifact key', key)}/{name}"
