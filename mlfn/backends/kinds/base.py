"""The protocol of kinds, and what a kind asks its place to create."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Any, ClassVar, Protocol

from mlfn.backends.places.base import Capabilities
from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.worker.task import Extras, Task

WORKER = ("{python}", "-m", "mlfn.worker", "{folder}")
"""The command line of one rank. The place fills in the braces: its interpreter, and the folder of the assignment."""


@frozen
class Pooled:
    """A worker process of the place's own calls the handler; with `fresh`, one that runs nothing else.

    `env` is added to its environment. With `activated` the kind prepares the process for each run. With `single` all runs of a
    plan take place in one process, which is kept for a while.
    """

    fresh: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    activated: bool = False
    single: bool = False

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"worker": {"fresh": self.fresh, **({"env": dict(self.env)} if self.env else {})}}


@frozen
class Command:
    """A command that starts `WORKER` once for each rank, waits for all, and ends with an exit code other than 0 if one failed.

    It inherits the environment, with `env` added, and must hand it on to each rank. To stop it, its ranks are sent SIGTERM, or
    itself where none has begun. `needs` says by module or program what to type where one is missing.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ranks: int = 1
    needs: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"command": {"argv": list(self.argv), "env": dict(self.env), "ranks": self.ranks}}


@frozen
class Pod:
    """Stands where the template of a pod goes: of the main one, in which the function runs, or of one that runs mlfn with `argv`.

    `ports` are those that it opens, by their names; it is ready once the first is open. `account` is the service account whose token its processes get, where the user names
    none. It `restarts` where it belongs to a Deployment. `resources` replace those of the function. The fields in `beside` stand
    beside those of the template. One that is `plain` is no part of a run: it runs `argv` as it stands, without mlfn.
    """

    role: str
    argv: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    account: str | None = None
    restarts: bool = False
    resources: Mapping[str, Any] | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False


@frozen
class Companion:
    """One more object of an engine that a `Manifest` needs; it goes with the main one.

    With `asked`, which says what it is made for, it belongs to no run: it is made once, and kept by its name for all that ask for
    the same.
    """

    api_version: str
    kind: str
    plural: str
    name: str
    spec: Mapping[str, Any]
    asked: Mapping[str, Any] | None = None


@frozen
class Manifest:
    """One object of an engine, which makes pods of it; in the main one the command starts.

    Without a command the handler is called there, in a process that the kind prepares. In `spec`, a `Pod` stands wherever a
    pod's template goes, and ``{execution}`` in a text for the object's name. `requirements` are installed in pods whose image
    lacks them. `companions` are created too. `install` is what an administrator types once where the cluster knows none of this.
    """

    api_version: str
    kind: str
    plural: str
    spec: Mapping[str, Any]
    command: Command | None = None
    requirements: tuple[str, ...] = ()
    companions: tuple[Companion, ...] = ()
    install: str | None = None

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"kind": self.kind, **(self.command.shown() if self.command else {})}


@frozen
class ClusterTask:
    """A task of a cluster, which the engine connects to or starts, with these options of the kind."""

    cluster: Mapping[str, Any]

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"task": {"cluster": dict(self.cluster)}}


@frozen
class ServiceCall:
    """A call of a deployed service; `configuration` is what its engine takes to deploy it."""

    configuration: Mapping[str, Any]

    def shown(self) -> dict[str, Any]:
        """Return what would be created, as a plan shows it."""
        return {"service": dict(self.configuration)}


Launch = Pooled | Command | Manifest | ClusterTask | ServiceCall


class Kind(Protocol):
    """What runs. A kind is the class of its own options, and pure: it does no I/O but in `activate`.

    A kind whose runs no process of the user's place holds names what does, an engine, by place, in a class attribute
    ``ENGINES: ClassVar[Mapping[str, str]] = {"local": "dask"}``; it then runs at these places alone. A place may stand for
    itself, as in ``{"inline": "inline"}``. Without the attribute each place holds the kind's runs itself.
    """

    INJECTS: ClassVar[Mapping[str, str]]
    """What `activate` supplies, by the type that asks for it, as in ``{"package.module.Class": "name"}``; may be left out.

    A handler's parameter with this annotation is no parameter of the run: it is filled with ``Extras.supplied["name"]``.
    """

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return what to create for a run; raise OptionError, by field, for what cannot be honoured there."""
        ...

    def check_machine(self, environ: Mapping[str, str]) -> None:
        """Raise MlfnError where this machine lacks what a run needs, saying what to install; may be left out."""
        ...

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Prepare the process that calls the handler: a rank of a `Command`, the main pod's without one, and where `Pooled` says so."""
        ...
