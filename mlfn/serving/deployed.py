"""The module that Nuclio calls where an image holds its processor and mlfn, and the code comes with the deployment."""

from __future__ import annotations

from typing import Any

from mlfn.serving.processor import Service

service = Service()


def init_context(context: Any) -> None:
    """Begin the function, in each worker once."""
    service.start(context)


def handler(context: Any, event: Any) -> Any:
    """Return the function's answer to an event."""
    return service.handle(context, event)
