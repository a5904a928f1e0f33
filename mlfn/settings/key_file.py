"""The file of the user's signing key."""

from __future__ import annotations

import secrets
from pathlib import Path

from mlfn.errors import StorageError
from mlfn.host.private_files import ensure_folder, locked, read_private, replace

KEY_SIZE = 32


def obtain_key(folder: Path) -> bytes:
    """Return the key in `folder`, made at first use; processes that ask at once agree on one.

    Raises StorageError where it cannot be kept or read, or is damaged.
    """
    path = folder / "key"
    try:
        if not path.exists():
            ensure_folder(folder, setting="XDG_CONFIG_HOME")
            with locked(path):
                if not path.exists():  # else another process was first
                    replace(path, secrets.token_bytes(KEY_SIZE))
        key = read_private(path)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"Cannot keep the signing key in {str(path)!r}: {error.strerror or error}.") from error
    if len(key) != KEY_SIZE:
        raise StorageError(
            f"The signing key {str(path)!r} is damaged: {len(key)} bytes, not {KEY_SIZE}. "
            "Delete it to get a new one; payloads signed with the old one will be refused."
        )
    return key
