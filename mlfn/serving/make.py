"""From a declared function to its mock."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.errors import SecretNotFoundError
from mlfn.serving.adapter import adapter_of
from mlfn.serving.mock import Mock
from mlfn.settings import current as settings
from mlfn.settings.secrets import Secret, read_secret
from mlfn.spec.options import Options


def make_mock(
    function: Callable[..., Any],
    options: Options,
    *,
    kind: Nuclio,
    name: str,
    outputs: tuple[str, ...],
    secrets: Mapping[str, str] | None,
) -> Mock:
    """Return the mock of a function; the secrets that it names are read here, but for those that are given."""
    given = {**_found(options.secrets), **(secrets or {})}
    project = options.project or settings.current().project
    return Mock(adapter_of(function, name=name, project=project, outputs=outputs, secrets=given), kind)


def _found(secrets: tuple[Secret, ...]) -> dict[str, str]:
    """Return those secrets that this machine has; a test need not have them all."""
    found = {}
    for secret in secrets:
        try:
            found[secret.key or secret.name] = read_secret(secret, environ=os.environ, file=settings.secrets_file())
        except SecretNotFoundError:
            continue
    return found
