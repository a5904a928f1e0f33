"""What the threads of a place tell the one that decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.backends.places.base import EventsReceived
from mlfn.host.frozen import frozen


@frozen
class Created:
    """An execution was created, or is there; with `error`, it was not."""

    execution: str
    error: Exception | None = None


@frozen
class PodSeen:
    """A pod, as the API server has it; the last of it where it was deleted."""

    pod: Mapping[str, Any]
    is_deleted: bool = False


@frozen
class PodsListed:
    """All pods that there are, by name, at a moment: others that were seen before are gone."""

    names: frozenset[str]


@frozen
class JobSeen:
    """A Job, as it was asked for; None where there is none. `words` say why it has no pod.

    The pods of the units `deleted` were gone before it was asked for.
    """

    execution: str
    job: Mapping[str, Any] | None
    words: str | None = None
    deleted: frozenset[int] = frozenset()


@frozen
class MountSeen:
    """What keeps a unit's pod from mounting something; None where nothing does."""

    execution: str
    index: int
    words: str | None


@frozen
class LogRead:
    """Some of a unit's log: its files and output are written."""

    events: EventsReceived

    @property
    def execution(self) -> str:
        """Whose."""
        return self.events.execution


@frozen
class LogEnded:
    """A unit's log is read to its end: so many lines of its journal."""

    execution: str
    index: int
    lines: int


@frozen
class Deleted:
    """An execution is gone as it was asked for."""

    execution: str


@frozen
class Held:
    """No other unit of an execution begins from now on."""

    execution: str


@frozen
class NotDone:
    """Something that was asked for could not be done; it is asked for again."""

    execution: str
    error: Exception


OfExecution = Created | JobSeen | MountSeen | LogRead | LogEnded | Deleted | Held | NotDone
Message = OfExecution | PodSeen | PodsListed
