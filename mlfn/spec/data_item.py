"""`data("iris.csv")`: a file to read, where a bare text would be a value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from mlfn.errors import ParameterError

_SCHEMES = "a path, or a URL with file://"


@dataclass(frozen=True)
class DataItem:
    """Something to read where the run runs; never moved, changed or deleted."""

    url: str
    type: str | None = None  # what to read it as, by the name of the annotation

    def local_path(self) -> str:
        """Return the absolute path that the URL names on this machine."""
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(self.url)
        # One letter is a drive, and a colon without slashes belongs to a file's name.
        if "://" not in self.url or len(parts.scheme) <= 1:
            return os.path.abspath(os.path.expanduser(self.url))
        if parts.scheme != "file":
            raise ParameterError(f"{self.url!r} has the scheme {parts.scheme!r}: {_SCHEMES} is allowed.")
        return unquote(parts.path)


def data(url: str | os.PathLike[str]) -> Any:
    """Name a file that a run shall read; typed as Any, so that it goes where a DataFrame is declared."""
    if not isinstance(url, (str, os.PathLike)):
        raise ParameterError(f"data({url!r}): {_SCHEMES} is allowed.")
    return DataItem(os.fspath(url))
