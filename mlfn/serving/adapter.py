"""Which adapter a function gets: that of Nuclio's own form, or that of a typed function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlfn.serving.answers import Answer
from mlfn.serving.classic import ClassicAdapter
from mlfn.serving.events import Event
from mlfn.serving.in_service import ServiceReporter
from mlfn.serving.typed import TypedAdapter
from mlfn.worker.classic import is_classic


class Adapter(Protocol):
    """Calls one function for events; never raises for what the function does."""

    name: str
    is_async: bool
    reporter: ServiceReporter

    def start(self) -> None:
        """Begin, once in each process, before the first event; raises what the user's own beginning raises."""
        ...

    def stop(self) -> None:
        """End, after the last event."""
        ...

    def handle(self, event: Event) -> Answer:
        """Return the answer to an event."""
        ...

    async def handle_async(self, event: Event) -> Answer:
        """Return the answer to an event, where `is_async`."""
        ...


def adapter_of(
    function: Callable[..., Any],
    *,
    name: str,
    project: str = "",
    outputs: tuple[str, ...] = (),
    secrets: Mapping[str, str] | None = None,
    worker: int = 0,
) -> Adapter:
    """Return the adapter of a function."""
    if is_classic(function):
        return ClassicAdapter(function, name=name, worker=worker)
    return TypedAdapter(function, name=name, project=project, outputs=outputs, secrets=secrets)
