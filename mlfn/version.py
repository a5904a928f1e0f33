"""A version of a function that came of a run: its parameters as defaults, its outputs as what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfn.client import Client
from mlfn.errors import NotFoundError, ParameterError, nearest
from mlfn.identity import now
from mlfn.spec.canonical import canonical, spec_hash
from mlfn.spec.options import check_name
from mlfn.spec.record import RunState
from mlfn.store.families import TagRow
from mlfn.submission import refuse_part

if TYPE_CHECKING:
    from mlfn.handle import Run
    from mlfn.outputs import Outputs


class Version:
    """A promoted run, under its tag: found again by ``mlfn.get_function("project/name:tag")``."""

    def __init__(self, run: Run[Any], tag: str, function: str, *, client: Client) -> None:
        self._run = run
        self._client = client
        self.tag = tag
        self.hash = function

    @property
    def name(self) -> str:
        """The function's name."""
        return self._run.name

    @property
    def project(self) -> str:
        """The project that it belongs to."""
        return self._run.project

    @property
    def run(self) -> Run[Any]:
        """The run that it was promoted from."""
        return self._run

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters that it has where nobody gives others."""
        stored = self._client.store.function(self.hash)["defaults"]
        codec = self._client.codec()
        return {name: codec.decode(value) for name, value in stored.items()}

    @property
    def outputs(self) -> Outputs:
        """What belongs to it: ``version.outputs["model"]``."""
        return self._run.outputs

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its canonical spec."""
        return self._client.store.function(self.hash)

    def submit(self, **params: Any) -> Run[Any]:
        """Submit it with its parameters, some of them changed."""
        return self._run.rerun(**params)

    def __repr__(self) -> str:
        return f"<mlfn.Version {self.project}/{self.name}:{self.tag} {self.hash[:8]} of run {self._run.id[:8]}>"


def promote(run: Run[Any], tag: str, *, client: Client) -> Version:
    """Store a version of a run's function with that run's parameters as its defaults, and move a tag to it."""
    check_name(tag, what="tag")
    record = run.record
    refuse_part(record, "promoted")
    if record.state is not RunState.SUCCEEDED:
        raise ParameterError(
            f"{record.name} ({record.id[:8]}) is {record.state}: only a run that succeeded can be promoted; "
            f"wait() for it, or choose another."
        )
    spec = dict(client.store.function(record.function))
    chosen = {key.partition(".")[0] for key in record.point} if record.point else record.params.keys()
    spec["defaults"] = {name: value for name, value in record.params.items() if name in chosen and "packer" in value}
    spec["promoted"] = {"run": record.id, "sweep": record.parent, "iteration": record.iteration}
    digest = spec_hash(spec)
    moment = now()
    client.store.add_function(digest, project=record.project, name=record.name, spec=canonical(spec), time=moment)
    client.store.move_tag(TagRow(record.project, record.name, tag, digest, record.id), time=moment)
    return Version(run, tag, digest, client=client)


def tagged(client: Client, reference: str) -> TagRow:
    """Return what ``project/name:tag`` names, or raise NotFoundError that lists what is near."""
    path, colon, tag = reference.partition(":")
    project, slash, name = path.rpartition("/")
    if not colon or not name or not tag:
        raise ParameterError(f"get_function({reference!r}): 'project/name:tag' or 'name:tag' is allowed.")
    project = project if slash else client.settings.project
    rows = client.store.tags()
    found = [row for row in rows if (row.project, row.name, row.tag) == (project, name, tag)]
    if not found:
        known = [f"{row.project}/{row.name}:{row.tag}" for row in rows]
        raise NotFoundError(f"No function version {project}/{name}:{tag}: {nearest(f'{project}/{name}:{tag}', known)}")
    return found[0]
