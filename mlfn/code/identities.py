"""By what two processes know a class of the user's as the same."""

from __future__ import annotations

from mlfn.code.hashing.function import definition_digest, value_digest


def identity_of(cls: type) -> str:
    """Return where a class is defined, and the digest of all that it uses."""
    return f"{cls.__module__}:{cls.__qualname__}:{value_digest(cls).hex()}"


def is_same_class(cls: type, identity: str, definition: str | None) -> bool:
    """Return whether a class has this identity, or at least this definition.

    The identity is another where a script has not come to all that the class uses yet, or where that has been changed.
    """
    return identity_of(cls) == identity or definition_digest(cls).hex() == definition
