"""A function version promoted from a run: the run's parameters are its defaults, the run's outputs belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from mlfn.artifacts.codec import PinnedCodec
from mlfn.artifacts.inputs import read_input
from mlfn.artifacts.nested import is_late
from mlfn.dispatch import hooks
from mlfn.dispatch.dependencies import resolve
from mlfn.dispatch.session import Session
from mlfn.dispatch.submit import refuse_part, signature_of, stored_function
from mlfn.errors import NotFoundError, ParameterError, nearest
from mlfn.handles.outputs import AnyRun, Outputs
from mlfn.host.identity import now
from mlfn.spec.canonical import canonical, spec_hash
from mlfn.spec.data_item import DataItem
from mlfn.spec.options import check_name
from mlfn.spec.record import RunState
from mlfn.store.queries import TagRow
from mlfn.worker import context as user_context

H = TypeVar("H", bound=AnyRun)  # the handle of the promoted run


class Version(Generic[H]):
    """A promoted run, under its tag: found again by ``mlfn.get_function("project/name:tag")``."""

    def __init__(self, run: H, tag: str, function: str, *, session: Session) -> None:
        self._session = session
        self.run = run  # that it was promoted from
        self.tag = tag
        self.hash = function

    @property
    def name(self) -> str:
        """The function's name."""
        return self.run.name

    @property
    def project(self) -> str:
        """The project that it belongs to."""
        return self.run.project

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters that its runs have by default."""
        codec = self._session.codec()
        return {name: codec.decode(value) for name, value in self.spec["defaults"].items()}

    @property
    def outputs(self) -> Outputs:
        """What belongs to it: ``version.outputs["model"]``."""
        return self.run.outputs

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its canonical spec."""
        return self._session.store.get_function(self.hash)

    def __call__(self, /, *args: Any, **params: Any) -> Any:
        """Call its function in this process, with its run's parameters, some of them changed: no run, no worker."""
        session, record = self._session, self.run.record
        plan = session.store.get_plan(record.plan)
        function = stored_function(session, plan)
        signature = signature_of(plan, function)
        changed, varkw = signature.check(signature.bind_partly(args, params)), plan.shape.varkw
        if varkw in changed and varkw in record.params:
            changed[varkw] = {**session.codec().decode(record.params[varkw]), **changed[varkw]}
        kept = {name: stored for name, stored in record.params.items() if name not in changed}
        resolved, _ = resolve(session.store, plan.name, kept, session.codec)
        codec = PinnedCodec(session.key, session.artifacts)
        values = {name: codec.decode(stored) for name, stored in resolved.items()}
        values |= {name: _read(value) for name, value in changed.items()}
        positional, named = plan.shape.arguments(values, user_context.context())
        return function(*positional, **named)

    def submit(self, /, *args: Any, **params: Any) -> H:
        """Submit it with its parameters, some of them changed."""
        if args:
            plan = self._session.store.get_plan(self.run.record.plan)
            params = signature_of(plan, stored_function(self._session, plan)).bind_partly(args, params)
        submitted: H = self.run.rerun(**params)
        return submitted

    def grid(self, points: Any = None, /, **values: Any) -> Any:
        """Describe a sweep of it, as `mlfn.Function.grid`: a child has its parameters where nothing else is swept or given."""
        return self._described("grid", points, values)

    def zip(self, points: Any = None, /, **values: Any) -> Any:
        """Describe a sweep of it, as `mlfn.Function.zip`."""
        return self._described("zip", points, values)

    def random(
        self,
        points: Mapping[str, Any] | None = None,
        /,
        *,
        n: int,
        seed: int | None = None,
        method: str = "random",
        **spaces: Any,
    ) -> Any:
        """Describe a sweep of it, as `mlfn.Function.random`."""
        return self._described("random", points, spaces, n=n, seed=seed, method=method)

    def search(
        self,
        points: Mapping[str, Any] | None = None,
        /,
        *,
        n: int,
        sampler: Any = "tpe",
        pruner: Any = None,
        seed: int | None = None,
        first: Sequence[Mapping[str, Any]] = (),
        **spaces: Any,
    ) -> Any:
        """Describe a sweep of it, as `mlfn.Function.search`."""
        options = {"n": n, "sampler": sampler, "pruner": pruner, "seed": seed, "first": first}
        return self._described("search", points, spaces, **options)

    def sweep(self, points: Any, /) -> Any:
        """Describe a sweep of it, as `mlfn.Function.sweep`."""
        return self._described("sweep", points)

    def map(self, /, *lists: Any, **values: Any) -> Any:
        """Describe a sweep of it, as `mlfn.Function.map`."""
        return self._described("map", lists, values)

    def _described(self, method: str, /, *arguments: Any, **options: Any) -> Any:
        assert hooks.sweep_description is not None  # mlfn/__init__.py installs it
        return hooks.sweep_description(self, method, *arguments, **options)

    def __repr__(self) -> str:
        return f"<mlfn.Version {self.project}/{self.name}:{self.tag} {self.hash[:8]} of run {self.run.id[:8]}>"


def _read(value: Any) -> Any:
    return read_input(Path(value.url), value.type) if isinstance(value, DataItem) else value


def promote(run: H, tag: str, *, session: Session) -> Version[H]:
    """Store a version of a run's function with that run's parameters as its defaults, and move a tag to it."""
    check_name(tag, what="tag")
    record = run.record
    refuse_part(record, "promoted")
    if record.state is not RunState.SUCCEEDED:
        raise ParameterError(
            f"{record.name} ({record.id[:8]}) is {record.state}: only a run that succeeded can be promoted; "
            f"wait() for it, or choose another."
        )
    spec = dict(session.store.get_function(record.function))
    chosen = {key.partition(".")[0] for key in record.point} if record.point else record.params.keys()
    spec["defaults"] = {
        name: value
        for name, value in record.params.items()
        if name in chosen and "packer" in value and not is_late(value)
    }
    spec["promoted"] = {"run": record.id, "sweep": record.parent, "iteration": record.iteration}
    digest = spec_hash(spec)
    moment = now()
    session.store.add_function(digest, project=record.project, name=record.name, spec=canonical(spec), time=moment)
    session.store.move_tag(TagRow(record.project, record.name, tag, digest, record.id), time=moment)
    return Version(run, tag, digest, session=session)


def tagged(session: Session, reference: str) -> TagRow:
    """Return what ``project/name:tag`` names, or raise NotFoundError that lists what is near."""
    path, colon, tag = str(reference).partition(":")
    project, slash, name = path.rpartition("/")
    if not colon or not name or not tag:
        raise ParameterError(f"get_function({reference!r}): 'project/name:tag' or 'name:tag' is allowed.")
    project = project if slash else session.settings.project
    rows = session.store.tags()
    found = [row for row in rows if (row.project, row.name, row.tag) == (project, name, tag)]
    if not found:
        known = [f"{row.project}/{row.name}:{row.tag}" for row in rows]
        raise NotFoundError(f"No function version {project}/{name}:{tag}: {nearest(f'{project}/{name}:{tag}', known)}")
    return found[0]
