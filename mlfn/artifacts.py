"""Content-addressed artifacts, each under its own run: ``<root>/<run>/<key>/<sha256><suffix>``.

Content is hashed while it is copied, and gets its name when it is whole: a reader never sees half of one, the
same content put twice is one file, and no run writes where another does. Files are 0600, folders 0700.

A root is a folder, or a URL of an object store; this is the only file that imports fsspec.
"""

from __future__ import annotations

import contextlib
import functools
import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlfn import content
from mlfn.errors import (
    MissingExtraError,
    MlfnError,
    NotFoundError,
    OutputError,
    SettingsError,
    StorageError,
    StoreCorruptError,
)
from mlfn.packers import tagged
from mlfn.packers.base import Packed

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16}){0,2}")

# Scheme -> package. fsspec knows more, some of which mount, cache or run things: a root is one of these.
_PACKAGES = {"abfs": "adlfs", "az": "adlfs", "gcs": "gcsfs", "gs": "gcsfs", "memory": "fsspec", "s3": "s3fs"}


@dataclass(frozen=True)
class Artifact:
    """Where one output of one run lies: `path` relative to the store's root, `uri` whole, for people."""

    key: str
    sha256: str
    size: int
    uri: str
    path: str
    packer: str
    type: str


class ArtifactRoot(Protocol):
    """Where artifacts lie: a folder here, or an object store."""

    def put_file(self, folder: str, source: bytes | Path, suffix: str) -> tuple[str, content.Summed]:
        """Copy bytes or a file below the folder; return its path and what was copied."""
        ...

    def put_tree(self, folder: str, source: Path) -> tuple[str, content.Summed]:
        """Copy a folder below the folder; return its path and what was copied."""
        ...

    def local(self, path: str, sha256: str) -> Path:
        """Return a local path of the content; raise NotFoundError where there is none."""
        ...

    def check(self, path: str, sha256: str) -> None:
        """Read the content again; raise StoreCorruptError where it is another."""
        ...

    def uri(self, path: str) -> str:
        """Return the whole address."""
        ...


class ArtifactStore:
    """Puts packed values under a root, and finds them again.

    `options` go to the fsspec file system of a URL. What is read from a URL is copied to a temporary folder
    that lives as long as the store does.

    Raises:
        SettingsError: a URL of a scheme that is not known.
        MissingExtraError: the package of the scheme is not installed.

    """

    def __init__(self, root: Path | str, *, options: Mapping[str, Any] | None = None) -> None:
        self._root = _open_root(root, options or {})

    def put(self, run_id: str, key: str, packed: Packed) -> Artifact:
        """Copy what was packed to the run's own folder; what is inline becomes a JSON file.

        Raises:
            OutputError: the run id, key or suffix is no name, or a file to copy cannot be read.
            StorageError: a disk that is full, read-only or unreachable; nothing is left of the file.

        """
        folder = f"{_name('run id', run_id)}/{_name('artifact key', key)}"
        source, suffix = _source(packed)
        if isinstance(source, Path) and source.is_dir():
            path, summed = self._root.put_tree(folder, source)
        else:
            path, summed = self._root.put_file(folder, source, suffix)
        uri = self._root.uri(path)
        return Artifact(key, summed.sha256, summed.size, uri, path, packed.packer, packed.type)

    def path(self, artifact: Artifact) -> Path:
        """Return a local path to the file or folder; raise NotFoundError where it is gone."""
        return self._root.local(_checked_path(artifact), artifact.sha256)

    def verify(self, artifact: Artifact) -> None:
        """Read it again; raise StoreCorruptError where it is another, NotFoundError where it is gone."""
        self._root.check(_checked_path(artifact), artifact.sha256)


class FolderRoot:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._path = root.absolute()

    def put_file(self, folder: str, source: bytes | Path, suffix: str) -> tuple[str, content.Summed]:
        """Write to a temporary name, then rename; a damaged file of that name is mended by it."""
        with (
            self._folder(folder, _size(source)) as target,
            content.temporary_file(target) as (file, temporary),
        ):
            summed = content.copy(source, file.write)
            file.close()
            temporary.replace(target / f"{summed.sha256}{suffix}")
        return f"{folder}/{summed.sha256}{suffix}", summed

    def put_tree(self, folder: str, source: Path) -> tuple[str, content.Summed]:
        """Copy to a temporary folder, then rename."""
        with self._folder(folder, _size(source)) as target, content.temporary_folder(target) as temporary:
            index = content.copy_tree(source, temporary)
            sha256 = content.sum_up(content.dump_index(index)).sha256
            _settle(temporary, target / sha256)
        return f"{folder}/{sha256}", content.Summed(sha256, sum(entry.size for entry in index))

    def local(self, path: str, sha256: str) -> Path:
        """Return where it lies."""
        found = self._inside(path)
        if not found.exists():
            raise NotFoundError(f"There is no artifact at {found}: it was deleted, or the root has moved.")
        return found

    def check(self, path: str, sha256: str) -> None:
        """Hash the file or folder where it lies."""
        found = self.local(path, sha256)
        try:
            again = content.sha256_of(found)
        except OutputError as error:  # a link or device planted in a folder
            raise StoreCorruptError(f"Artifact {found} is not what was put: {error}") from error
        _compare(self.uri(path), again, sha256)

    def uri(self, path: str) -> str:
        """Return the path."""
        return str(self._path / path)

    @contextlib.contextmanager
    def _folder(self, folder: str, size: int) -> Iterator[Path]:
        with _storing(self.uri(folder), size):
            target = self._inside(folder)
            content.make_folders(target)
            yield target

    def _inside(self, path: str) -> Path:
        """Compare with the root after links are followed: a link planted in the store leads nowhere."""
        root = self._path.resolve()
        found = (root / path).resolve()
        if not found.is_relative_to(root) or found == root:
            raise StorageError(f"{self._path / path} leads out of the artifact root {root}; remove the link.")
        return found


class UrlRoot:
    """An object store that fsspec reaches: an object appears there when it is written whole.

    A folder is its files' objects below ``<sha256>/`` and its index at ``<sha256>.tree``, which is written
    last.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url.rstrip("/")
        self._system, self._base = _open_url(self._url, options)

    def put_file(self, folder: str, source: bytes | Path, suffix: str) -> tuple[str, content.Summed]:
        """Hash first, as the name must be known; then upload what is not there yet."""
        summed = content.sum_up(source)
        path = f"{folder}/{summed.sha256}{suffix}"
        self._upload(path, source, summed)
        return path, summed

    def put_tree(self, folder: str, source: Path) -> tuple[str, content.Summed]:
        """Upload the files, then the index."""
        tree = content.entries(source)
        index = content.index_of(tree)
        text = content.dump_index(index)
        summed = content.sum_up(text)
        path = f"{folder}/{summed.sha256}"
        for entry, line in zip(tree, index, strict=True):
            if line.sha256 is not None:
                self._upload(f"{path}/{line.relative}", entry.source, content.Summed(line.sha256, line.size))
        self._upload(f"{path}.tree", text, summed)
        return path, content.Summed(summed.sha256, sum(line.size for line in index))

    def local(self, path: str, sha256: str) -> Path:
        """Download once to the store's temporary folder, and check the hashes."""
        target = self._copies / path
        if target.exists():
            return target
        content.make_folders(target.parent)
        if path.endswith(sha256) and self._exists(f"{path}.tree"):
            self._download_tree(path, target, sha256)
        else:
            self._download(path, target, sha256)
        return target

    def check(self, path: str, sha256: str) -> None:
        """Download it anew."""
        _remove(self._copies / path)
        self.local(path, sha256)

    def uri(self, path: str) -> str:
        """Return the URL."""
        return f"{self._url}/{path}"

    @functools.cached_property
    def _copies(self) -> Path:
        import shutil
        import tempfile

        # A TemporaryDirectory would warn where the store is dropped without being closed.
        made = Path(tempfile.mkdtemp(prefix="mlfn-artifacts-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made

    def _upload(self, path: str, source: bytes | Path, summed: content.Summed) -> None:
        where = f"{self._base}/{path}"
        with _storing(self.uri(path), summed.size):
            if self._exists(path) and self._system.size(where) == summed.size:
                return
            with self._removing_on_failure(where):
                with self._system.open(where, "wb") as file:
                    written = content.copy(source, file.write)
                if written != summed:
                    raise OutputError(f"{source!r} changed while it was copied to {self.uri(path)}.")

    @contextlib.contextmanager
    def _removing_on_failure(self, where: str) -> Iterator[None]:
        # fsspec commits what was written so far when an exception leaves its file.
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                self._system.rm_file(where)
            raise

    def _download_tree(self, path: str, target: Path, sha256: str) -> None:
        index_path = target.with_name(f"{target.name}.tree")
        self._download(f"{path}.tree", index_path, sha256)
        with content.temporary_folder(target.parent) as temporary:
            for entry in _index(index_path.read_bytes(), self.uri(path)):
                copy = temporary / entry.relative
                content.make_folders(copy if entry.sha256 is None else copy.parent)
                if entry.sha256 is not None:
                    self._download(f"{path}/{entry.relative}", copy, entry.sha256)
            _settle(temporary, target)

    def _download(self, path: str, target: Path, sha256: str) -> None:
        import shutil

        with content.temporary_file(target.parent) as (file, temporary):
            with _loading(self.uri(path)), self._system.open(f"{self._base}/{path}", "rb") as remote:
                shutil.copyfileobj(remote, file)
            file.close()
            _compare(self.uri(path), content.sum_up(temporary).sha256, sha256)
            temporary.replace(target)

    def _exists(self, path: str) -> bool:
        with _loading(self.uri(path)):
            return bool(self._system.exists(f"{self._base}/{path}"))


def _open_root(root: Path | str, options: Mapping[str, Any]) -> ArtifactRoot:
    if isinstance(root, Path) or "://" not in root:
        return FolderRoot(Path(root))
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(root)
    if parts.scheme == "file":
        return FolderRoot(Path(unquote(parts.path)))
    return UrlRoot(root, options)


def _open_url(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    package = _PACKAGES.get(scheme)
    if package is None:
        known = ", ".join(sorted([*_PACKAGES, "file"]))
        raise SettingsError(f"Artifacts cannot lie at {url}: its scheme is not known. Allowed: {known}, or a path.")
    try:
        import fsspec

        # Listings are cached by default: another process's artifacts would not be seen.
        system, base = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except ImportError as error:
        missing = error.name if error.name == "fsspec" else package
        raise MissingExtraError(f"Artifacts at {scheme}:// need {missing}: pip install {missing}") from error
    return system, str(base).rstrip("/")


def _source(packed: Packed) -> tuple[bytes | Path, str]:
    if _SUFFIX.fullmatch(packed.suffix) is None:
        raise OutputError(f"{packed.suffix!r} is no suffix of an artifact. Allowed: a dot and letters or digits.")
    if packed.content is None:
        return tagged.dumps(packed.inline).encode("ascii"), ".json"
    return packed.content, packed.suffix


def _name(what: str, name: str) -> str:
    if _NAME.fullmatch(str(name)) is None:
        raise OutputError(
            f"{name!r} is no {what}. Allowed: 1 to 128 letters, digits, '.', '_' and '-', not starting with a dot."
        )
    return name


def _checked_path(artifact: Artifact) -> str:
    """Return the path of an artifact that may have been written to the store by anybody."""
    run_id, _, rest = artifact.path.partition("/")
    key, _, name = rest.partition("/")
    suffix = name.removeprefix(artifact.sha256)
    if re.fullmatch(r"[0-9a-f]{64}", artifact.sha256) is None or suffix == name or not _SUFFIX.fullmatch(suffix):
        raise StoreCorruptError(f"{artifact.path!r} is no path of an artifact with sha256 {artifact.sha256!r}.")
    return f"{_name('run id', run_id)}/{_name('artifact key', key)}/{name}"


def _size(source: bytes | Path) -> int:
    """Return the size to name in an error; what cannot be measured fails when it is read."""
    if isinstance(source, bytes):
        return len(source)
    if source.is_dir():
        return sum(entry.size for entry in content.entries(source))
    with contextlib.suppress(OSError):
        return source.stat().st_size
    return 0


def _settle(temporary: Path, target: Path) -> None:
    """Rename a whole folder into place. One that is there is kept where it is whole, else replaced."""
    if target.exists() and _is_whole(target):
        return
    _remove(target)
    try:
        temporary.rename(target)
    except OSError:
        # Another attempt may have put the same content meanwhile.
        if not target.exists():
            raise


def _is_whole(tree: Path) -> bool:
    try:
        return content.sha256_of(tree) == tree.name
    except OutputError:  # a link or device planted in it
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _index(text: bytes, uri: str) -> list[content.IndexEntry]:
    try:
        return content.load_index(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreCorruptError(f"The index of artifact {uri} cannot be read: {error}.") from error


def _compare(uri: str, found: str, expected: str) -> None:
    if found != expected:
        raise StoreCorruptError(
            f"Artifact {uri} is not what was put: its sha256 is {found}, not {expected}. Run its run again."
        )


@contextlib.contextmanager
def _storing(uri: str, size: int) -> Iterator[None]:
    try:
        yield
    except (MlfnError, MemoryError):
        raise
    except Exception as error:  # each object store's client has errors of its own
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StorageError(
            f"Cannot write {size:,} bytes to {uri}: {reason}. Free space or set another artifact root; "
            "nothing was left of it."
        ) from error


@contextlib.contextmanager
def _loading(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no artifact at {uri}: it was deleted, or the root has moved.") from error
    except (MlfnError, MemoryError):
        raise
    except Exception as error:  # each object store's client has errors of its own
        raise StorageError(f"Cannot read {uri}: {error}. Check the address and the credentials.") from error
