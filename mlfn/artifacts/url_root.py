"""Artifacts in an object store; this is the only file that imports fsspec."""

from __future__ import annotations

import contextlib
import datetime
import functools
import weakref
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from mlfn.artifacts import content
from mlfn.errors import (
    MissingExtraError,
    MlfnError,
    NotFoundError,
    OutputError,
    SettingsError,
    StorageError,
    StoreCorruptError,
)
from mlfn.settings.declarations import PROTOCOLS
from mlfn.settings.sources import without_password

_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_HEAD = 64 * 1024
_AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials; for a server of your own AWS_ENDPOINT_URL"
_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`"
_AZURE = "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
_CREDENTIALS = {
    **dict.fromkeys(("s3", "s3a"), _AWS),
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("az", "abfs", "abfss"), _AZURE),
}


class UrlRoot:
    """An object store that fsspec reaches: an object appears there when it is written whole.

    A folder is its files' objects below ``<sha256>/`` and its index at ``<sha256>.tree``, which is written
    last.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._system, self.base = _open_url(url.rstrip("/"), options)
        self.url = without_password(url.rstrip("/"))
        credentials = _CREDENTIALS.get(url.partition("://")[0], "fsspec's own configuration of this protocol")
        advice = f"Check MLFN_ARTIFACTS and the credentials ({credentials})"
        self._remedy = content.Remedy(advice, urlsplit(url).password or "")

    def put_file(self, folder: str, source: bytes | Path, suffix: str) -> tuple[str, content.Summed]:
        """Hash first, as the name contains the hash; then upload the file unless it is there."""
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

    def adopt(self, path: str, content_: bytes) -> None:
        """Upload a file to a path that another root had given it."""
        self._upload(path, content_, content.sum_up(content_))

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

    def open(self, path: str) -> BinaryIO:
        """Open an object."""
        with _loading(self.uri(path), self._remedy):
            opened: BinaryIO = self._system.open(f"{self.base}/{path}", "rb", block_size=_HEAD)
            return opened

    def put_note(self, path: str, text: bytes) -> None:
        """Write a small file that is no artifact."""
        with content.storing(self.uri(path), len(text), self._remedy):
            self._system.pipe_file(f"{self.base}/{path}", text)

    def folders(self, path: str) -> Iterator[content.Stored]:
        """Yield what each folder in a folder holds."""
        found: dict[str, tuple[int, list[float | None]]] = {}
        for name, info in self._listing(path).items():
            folder, _, rest = name.removeprefix(f"{self.base}/{path}/").partition("/")
            if rest:
                size, times = found.setdefault(folder, (0, []))
                found[folder] = (size + int(info.get("size") or 0), [*times, _written(info)])
        for folder, (size, times) in sorted(found.items()):
            known = [time for time in times if time is not None]
            yield content.Stored(folder, size, max(known) if len(known) == len(times) else None)

    def files(self, path: str) -> Iterator[tuple[Hashable, int]]:
        """Yield which object and how large, for each below a folder; folder by folder, as the caller may not want all."""
        with _loading(self.uri(path), self._remedy):
            for _, _, found in self._system.walk(f"{self.base}/{path}", detail=True):
                yield from ((str(info["name"]), int(info.get("size") or 0)) for info in found.values())

    def remove(self, path: str) -> None:
        """Remove all objects of a folder; nothing where there are none."""
        names = [*self._listing(path)]
        with content.storing(self.uri(path), 0, self._remedy):
            if names:
                self._system.rm(names)

    def _listing(self, path: str) -> dict[str, dict[str, Any]]:
        with _loading(self.uri(path), self._remedy):
            found = self._system.find(f"{self.base}/{path}", detail=True)
            return {str(name): info for name, info in found.items()}

    def uri(self, path: str) -> str:
        """Return the URL."""
        return f"{self.url}/{path}"

    @functools.cached_property
    def _copies(self) -> Path:
        import shutil
        import tempfile

        # A TemporaryDirectory would warn where the store is dropped without being closed.
        made = Path(tempfile.mkdtemp(prefix="mlfn-artifacts-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made

    def _upload(self, path: str, source: bytes | Path, summed: content.Summed) -> None:
        where = f"{self.base}/{path}"
        with content.storing(self.uri(path), summed.size, self._remedy):
            if self._exists(path) and self._system.size(where) == summed.size:
                return
            with self._removing_on_failure(where):
                with self._system.open(where, "wb") as file:
                    written = content.copy(source, file.write)
                if written != summed:
                    raise OutputError(f"{source!r} changed while it was copied to {self.uri(path)}.")

    @contextlib.contextmanager
    def _removing_on_failure(self, where: str) -> Iterator[None]:
        # fsspec commits a half-written object when an exception leaves its file.
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
            for entry in _read_index(index_path, self.uri(path)):
                copy = temporary / entry.relative
                content.make_folders(copy if entry.sha256 is None else copy.parent)
                if entry.sha256 is not None:
                    self._download(f"{path}/{entry.relative}", copy, entry.sha256)
            content.move_tree(temporary, target)

    def _download(self, path: str, target: Path, sha256: str) -> None:
        import shutil

        uri = self.uri(path)
        with content.temporary_file(target.parent) as (file, temporary):
            with _loading(uri, self._remedy), self._system.open(f"{self.base}/{path}", "rb") as remote:
                shutil.copyfileobj(remote, file)
            file.close()
            found = content.sum_up(temporary).sha256
            if found != sha256:
                raise StoreCorruptError(
                    f"Artifact {uri} is not what was put: its sha256 is {found}, not {sha256}. Run its run again."
                )
            temporary.replace(target)

    def _exists(self, path: str) -> bool:
        with _loading(self.uri(path), self._remedy):
            return bool(self._system.exists(f"{self.base}/{path}"))


def _open_url(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    package = PROTOCOLS.get(scheme)
    if package is None:
        known = ", ".join(PROTOCOLS)
        raise SettingsError(
            f"Artifacts cannot lie at {without_password(url)}: its scheme is not known. Allowed: {known}, or a path."
        )
    try:
        import fsspec

        # Listings are cached by default, and would hide other processes' artifacts; instances too, and would keep old credentials.
        system, base = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        missing = error.name if error.name == "fsspec" else package
        raise MissingExtraError(f"Artifacts at {scheme}:// need {missing}: pip install {missing}") from error
    return system, str(base).rstrip("/")


def _read_index(path: Path, uri: str) -> list[content.IndexEntry]:
    try:
        return content.load_index(path.read_bytes())
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreCorruptError(f"The index of artifact {uri} cannot be read: {error}.") from error


def _written(info: Mapping[str, Any]) -> float | None:
    """Return when an object was written, which each file system calls otherwise."""
    found = next((info[name] for name in _TIMES if info.get(name)), None)
    if isinstance(found, datetime.datetime):
        return found.timestamp() if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc).timestamp()
    if isinstance(found, str):
        return datetime.datetime.fromisoformat(found.replace("Z", "+00:00")).timestamp()
    return found if isinstance(found, (int, float)) else None


@contextlib.contextmanager
def _loading(uri: str, remedy: content.Remedy) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(
            f"There is no artifact at {uri}: it was deleted, or its root has moved: set MLFN_ARTIFACTS to where it lies now."
        ) from error
    except (MlfnError, MemoryError):
        raise
    except Exception as error:  # each object store's client has errors of its own
        raise StorageError(f"Cannot read {uri}: {remedy.reason(error)}. {remedy.advice}.") from error
