"""References to secrets, and where their values are found on this machine.

Travels to the worker: needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from mlfn.errors import OptionError, SecretNotFoundError, StorageError, StoreCorruptError
from mlfn.host.frozen import frozen
from mlfn.host.private_files import ensure_folder, locked, read_private, replace

Value: TypeAlias = "str | dict[str, str]"

MAX_LENGTH = 65536

NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
KEY = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,253}")  # what Kubernetes allows as a key of a Secret
VARIABLE = re.compile(r"(?!MLFN_)[A-Za-z_][A-Za-z0-9_]*")


@frozen
class Secret:
    """A reference to a secret; it never holds the value.

    `key` is the key inside a secret of several values, `env` the environment variable to set for the run.
    Raises OptionError for what cannot be such a name.
    """

    name: str
    key: str | None = None
    env: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, self.key)
        if self.env is not None and not _fits(VARIABLE, self.env):
            raise OptionError(
                f"env={self.env!r} of Secret {self.name!r} is no environment variable for a run: letters, "
                "digits and '_', not a digit first, and not starting with MLFN_."
            )


def _fits(grammar: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and grammar.fullmatch(text) is not None


def _check_name(name: object, key: object = None) -> None:
    if not _fits(NAME, name):
        raise OptionError(
            f"{cut(name)} is no name of a secret: 1 to 253 ASCII letters, digits, '.', '_' or '-', a letter or "
            "digit at both ends, and no '..'."
        )
    if key is not None and not _fits(KEY, key):
        raise OptionError(f"{cut(key)} is no key of a secret: 1 to 253 letters, digits, '.', '_' or '-'.")


def cut(text: object) -> str:
    """Return what stands in the place of a name, for a message."""
    # The user may have put the value where the name belongs: show no more of it than helps.
    if not isinstance(text, str):
        return f"A {type(text).__name__}"
    return repr(text if len(text) <= 12 else text[:8] + "...")


def read_secret(secret: Secret, *, environ: Mapping[str, str], file: Path) -> str:
    """Return the value of `secret`: from the environment, else from the 0600 JSON `file`.

    The variable is the secret's name (followed by ``_`` and the key, where one is given), as it is or in
    capitals with ``_`` for ``-`` and ``.``: ``s3-creds`` is ``S3_CREDS``. An empty one counts as unset.
    Raises SecretNotFoundError.
    """
    for variable in variables_of(secret):
        if environ.get(variable):
            return environ[variable]
    return _pick(secret, _load(file).get(secret.name))


def withhold(secrets: Iterable[Secret]) -> None:
    """Keep the variables of `secrets` out of the environment of processes that are started from now on."""
    _withheld.update(variable for secret in secrets for variable in variables_of(secret))


def withheld() -> frozenset[str]:
    """Return the variables that no process inherits: a run that names the secret is sent its value."""
    return frozenset(_withheld)


def environ_mark() -> int:
    """Return a number that changes with the environment that workers inherit."""
    # The items of os.environ are decoded one by one in Python: 50 us for what takes 2 us on the bytes below.
    return hash((tuple(getattr(os.environ, "_data", os.environ).items()), frozenset(_withheld)))


def values_for(secrets: Iterable[Secret], environ: Mapping[str, str]) -> dict[str, str]:
    """Return those of the variables that `secrets` are read from."""
    return {name: environ[name] for secret in secrets for name in variables_of(secret) if name in environ}


_withheld: set[str] = set()


def variables_of(secret: Secret) -> tuple[str, str]:
    """Return the environment variables that a secret is read from: its name as it is, and in capitals."""
    exact = secret.name if secret.key is None else f"{secret.name}_{secret.key}"
    return exact, re.sub(r"[-.]", "_", exact).upper()


def _pick(secret: Secret, value: Value | None) -> str:
    if isinstance(value, str) and secret.key is None:
        return value
    if isinstance(value, dict) and secret.key in value:
        return value[secret.key]
    if isinstance(value, dict) and secret.key is None:
        raise SecretNotFoundError(
            f"Secret {secret.name!r} holds several values; say which with "
            f"Secret({secret.name!r}, key=...): {', '.join(sorted(value))}."
        )
    raise SecretNotFoundError(_not_found(secret))


def _not_found(secret: Secret) -> str:
    command = f"mlfn secret set {secret.name}" + (f" --key {secret.key}" if secret.key else "")
    what = f"Key {secret.key!r} of secret {secret.name!r}" if secret.key else f"Secret {secret.name!r}"
    variable = variables_of(secret)[1]
    return f"{what} has no value here. Type: {command}   (or set the environment variable {variable})"


def write_secret(name: str, value: str, file: Path, *, key: str | None = None) -> None:
    """Keep `value` as secret `name` in `file`, or as its `key`, beside its other keys.

    Raises OptionError for a value that could not be masked (shorter than 4 characters), passed on in an
    environment variable (a NUL character) or is no secret but a file (over 64 Ki characters).
    """
    _check_name(name, key)
    _check_value(name, value)
    with _locked(file):
        secrets = _load(file)
        _save({**secrets, name: value if key is None else _with_key(name, secrets.get(name), key, value)}, file)


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise OptionError(f"The value of secret {name!r} must be a str, not {type(value).__name__}.")
    from mlfn.settings.masking import MIN_LENGTH  # reading needs none of it

    if len(value.strip()) < MIN_LENGTH:
        count = len(value.strip())
        raise OptionError(
            f"The value of secret {name!r} has {count} character{'s' * (count != 1)}; under "
            f"{MIN_LENGTH} it could not be masked in logs. Use a longer one."
        )
    if len(value) > MAX_LENGTH or "\0" in value:
        raise OptionError(f"The value of secret {name!r} must have at most {MAX_LENGTH} characters, none of them NUL.")


def _with_key(name: str, present: Value | None, key: str, value: str) -> dict[str, str]:
    if isinstance(present, str):
        raise OptionError(
            f"Secret {name!r} holds one value without a key. Type: mlfn secret remove {name}, then set its keys."
        )
    return {**(present or {}), key: value}


def remove_secret(name: str, file: Path) -> None:
    """Remove secret `name`, with all its keys, from `file`; raises SecretNotFoundError."""
    _check_name(name)
    with _locked(file):
        secrets = _load(file)
        if name not in secrets:
            known = ", ".join(sorted(secrets)) or "none"
            raise SecretNotFoundError(f"There is no secret {name!r} to remove. Secrets here: {known}.")
        _save({other: value for other, value in secrets.items() if other != name}, file)


def list_secrets(file: Path) -> list[str]:
    """Return the names of the secrets in `file`, never their values."""
    return sorted(_load(file))


def _locked(file: Path) -> AbstractContextManager[None]:
    ensure_folder(file.parent, setting="XDG_CONFIG_HOME")
    return locked(file)


def _load(file: Path) -> dict[str, Value]:
    """Return the content of `file`; a mode that lets others read it is changed first."""
    try:
        content = json.loads(read_private(file))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"Cannot read the secrets in {str(file)!r}: {error.strerror or error}.") from error
    except ValueError:
        content = None  # and no cause: a JSONDecodeError carries the whole document
    if not isinstance(content, dict) or not all(map(_is_value, content.values())):
        raise StoreCorruptError(
            f"{str(file)!r} is no file of secrets: it must be JSON, name -> value or name -> {{key: value}}. "
            "Mend it, or delete it and set the secrets again."
        )
    return content


def _is_value(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(inner, str) for inner in value.values())
    return isinstance(value, str)


def _save(secrets: Mapping[str, Value], file: Path) -> None:
    try:
        replace(file, json.dumps(secrets, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise StorageError(f"Cannot write the secrets in {str(file)!r}: {error.strerror or error}.") from error
