"""From a call to a stored run: parameters packed, function and plan stored, the run given to its place."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlfn.artifacts.codec import Codec
from mlfn.artifacts.nested import NESTED, stand_ins
from mlfn.artifacts.summaries import brief, is_whole
from mlfn.backends.kinds.base import Command
from mlfn.backends.places.base import Capabilities
from mlfn.backends.registry import capabilities, engine_class, engine_name, injected_by, launch_of
from mlfn.dispatch.in_caller import InlineRunner
from mlfn.dispatch.inflight import InflightRun
from mlfn.dispatch.planner import Prepared, PreparedBefore
from mlfn.dispatch.session import Session
from mlfn.dispatch.signature import Signature, check_stand_ins, existing_input
from mlfn.errors import (
    MlfnError,
    OptionError,
    OutputError,
    ParameterError,
    SettingsError,
    UnpicklableError,
    nearest,
)
from mlfn.host.identity import new_id, now
from mlfn.settings import current as settings
from mlfn.settings.masking import Masker
from mlfn.spec.data_item import DataItem
from mlfn.spec.plan import Plan, left_out
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.worker import context as user_context
from mlfn.worker.execution import resolve_secrets
from mlfn.worker.fitting import short

Submission = tuple[RunRecord, InflightRun | None]  # as stored; inflight unless it has ended
logger = logging.getLogger("mlfn")
_LARGEST_IN_BRIEF = 64 * 1024  # bytes of a pickle: the repr of a larger one may take long
_honoured: set[str] = set()  # plans whose options their place can honour


def submit(session: Session, prepared: Prepared, function: Callable[..., Any], params: Mapping[str, Any]) -> Submission:
    """Store a new run and start it; inline, return when it is terminal."""
    plan = prepared.plan
    refuse_missing_secrets(plan)
    session.register()
    session.once(plan.hash, lambda: keep(session, prepared))
    submitted = _submitted(session, plan, params, labels=prepared.spec.labels)
    return _start(session, submitted, plan, lambda: function)


def resubmit(session: Session, record: RunRecord, params: Mapping[str, Any]) -> Submission:
    """Submit a stored run's function version again, with some parameters changed."""
    refuse_part(record, "submitted again")
    plan = session.store.get_plan(record.plan)
    params = _checked(session, record, plan, params)
    refuse_unmet(plan)
    refuse_missing_secrets(plan)
    session.register()
    submitted = _submitted(session, plan, params, labels=record.labels, same=record.params)
    return _start(session, submitted, plan, lambda: stored_function(session, plan))


def refuse_part(record: RunRecord, what: str) -> None:
    """Refuse what cannot be done to a child that a handler opened: it is a part of another run."""
    if record.part_of is not None:
        raise ParameterError(
            f"{record.name} ({record.id[:8]}) is child {record.iteration} of {(record.parent or '')[:8]}, opened within a "
            f"run, and cannot be {what} alone: it is a part of run {record.part_of[:8]}, which can."
        )


def _checked(session: Session, record: RunRecord, plan: Plan, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changed parameters, checked as `submit` does; by name alone where the code cannot be loaded."""
    varkw = plan.shape.varkw
    extra = {name: value for name, value in params.items() if name not in plan.accepts}
    if varkw is None:
        for name, value in extra.items():
            raise ParameterError(
                f"{record.name}() has no parameter {name!r} (value {short(value)}): {nearest(name, plan.accepts)}"
            )
    given = {name: value for name, value in params.items() if name not in extra}
    if extra and varkw is not None:
        before = session.codec().decode(record.params[varkw]) if varkw in record.params else {}
        given[varkw] = {**before, **given.get(varkw, {}), **extra}
    signature = stored_signature(session, plan) if given else None
    if signature is not None:
        return signature.check(given)
    return {name: _as_input(record.name, name, value, plan.inputs.get(name)) for name, value in given.items()}


def stored_signature(session: Session, plan: Plan) -> Signature | None:
    """Return the signature of a stored plan's function; None where that cannot be loaded here."""
    try:
        return signature_of(plan, stored_function(session, plan))
    except Exception:  # noqa: BLE001 - its imports may be missing here; the worker may have them
        return None


def signature_of(plan: Plan, function: Callable[..., Any]) -> Signature:
    """Return the signature of a plan's function."""
    return Signature(function, plan.name, injected_by(plan.kind.name))


def stored_defaults(session: Session, record: RunRecord) -> dict[str, Any]:
    """Return the defaults that a run used, as far as they can be loaded here."""
    plan = session.store.get_plan(record.plan)
    kept = left_out(plan, record)
    known = {name: session.codec().decode(value) for name, value in kept.items() if is_whole(value)}
    if len(known) < len(kept) and (signature := stored_signature(session, plan)) is not None:
        known = {**signature.defaults(), **known}
    return {name: known[name] for name in kept if name in known}


def _as_input(function: str, name: str, value: Any, kind: str | None) -> Any:
    if isinstance(value, (str, os.PathLike)) and kind is not None:
        value = DataItem(os.fspath(value))
    if isinstance(value, DataItem):
        return existing_input(value, kind, f"{function}({name}=...)")
    check_stand_ins(function, stand_ins(value, name))
    return value


def warn_of_large(large: Iterable[tuple[str, int]]) -> None:
    """Warn once of each large value that travels with a function's code."""
    for path, size in large:
        _warn_once(f"{path} ({size / 2**20:.1f} MiB) travels with the code: pass it as a parameter instead")


def refuse_unmet(plan: Plan) -> None:
    """Refuse an option that the place cannot honour; say once of one that a run does without harm without."""
    if plan.hash in _honoured:
        return
    place, name = plan.place.name, plan.name
    engine = engine_name(plan.kind.name, place)
    engine_class(engine).check_plan(plan)
    can = capabilities(engine)
    if isinstance(launch_of(plan), Command) and not can.commands:
        raise OptionError(
            f"{name} has kind={plan.kind.name!r}, which runs in processes of its own: on={place!r} starts none. Use on='local'."
        )
    for option, why in can.unsupported.items():
        if _asks(plan, option):
            raise OptionError(
                f"{name} asks for {option}={_shown(plan, option)}, which on={place!r} cannot honour: {why}. "
                f"Or leave it out: with_options({option}=mlfn.UNSET)."
            )
    unmet = [f"{option}={_shown(plan, option)}" for option in can.ignored if _asks(plan, option)]
    if unmet:
        _warn_once(f"{name} asks for {', '.join(unmet)}: on={place!r} runs it without")
    _honoured.add(plan.hash)


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def _can(plan: Plan) -> Capabilities:
    return capabilities(engine_name(plan.kind.name, plan.place.name))


def refuse_missing_secrets(plan: Plan) -> None:
    """Raise SecretNotFoundError before anything starts, where the run reads its secrets on this machine."""
    if plan.secrets and _can(plan).secrets_of_caller:
        resolve_secrets(plan.secrets, os.environ, settings.secrets_file())


def _shown(plan: Plan, option: str) -> str:
    value = getattr(plan, option)
    return repr(list(value) if isinstance(value, tuple) else value)


def _asks(plan: Plan, option: str) -> bool:
    if option == "requirements" and plan.requirements:
        from mlfn.backends.places.local.environments import is_satisfied

        return not all(is_satisfied(item) for item in plan.requirements)
    return bool(getattr(plan, option))


def keep(session: Session, prepared: Prepared | PreparedBefore) -> None:
    """Store what all runs of a plan share, unless it is there."""
    plan = prepared.plan
    if isinstance(prepared, PreparedBefore):
        return
    session.once(
        f"artifact root at {engine_name(plan.kind.name, plan.place.name)}",
        functools.partial(_check_root, session, plan),
    )
    session.keep_payload(plan.payload, prepared.payload)
    session.store.add_function(
        plan.function, project=plan.project, name=plan.name, spec=prepared.spec.to_json(), time=now()
    )
    session.store.add_plan(plan.hash, function=plan.function, body=prepared.body)


def _check_root(session: Session, plan: Plan) -> None:
    """Refuse a chosen artifact root that cannot be written before anything runs, and not when its result is there."""
    root = session.settings.artifacts
    if not root:
        return
    if root.startswith("memory:") and not _can(plan).in_caller:
        raise SettingsError(
            f"artifacts={root!r} is in the memory of this process, which a run on={plan.place.name!r} does not see: run it inline, or set "
            "another root, as MLFN_ARTIFACTS=s3://bucket/path."
        )
    session.artifacts.check()


def _submitted(
    session: Session,
    plan: Plan,
    params: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    same: Mapping[str, Any] | None = None,
) -> Submitted:
    run = new_id()
    codec = session.codec()
    in_words = words(plan)
    encoded = dict(same or {})
    for name, value in params.items():
        stored = _encoded(codec, run, f"{plan.name}({name}=...)", name, value)
        encoded[name] = {**stored, **in_words(value, stored)}
    return Submitted(
        run=run,
        name=plan.name,
        project=plan.project,
        function=plan.function,
        plan=plan.hash,
        place=plan.place.name,
        owner=session.id,
        params=encoded,
        time=now(),
        labels=labels,
        parent=user_context.current_run(),
    )


def _encoded(codec: Codec, run: str, where: str, name: str, value: Any) -> dict[str, Any]:
    try:
        return codec.encode(run, name, value)
    except OutputError as error:
        raise UnpicklableError(
            f"{where} got a {type(value).__qualname__} that cannot travel: {error.__cause__ or error} "
            "Pass plain values, or what it is made from."
        ) from error


def words(plan: Plan) -> Callable[[Any, Mapping[str, Any]], dict[str, str]]:
    """Return a function that describes a small pickled value in a few words, secrets masked."""
    maskers: list[Masker] = []  # the one, once it is needed

    def masker() -> Masker:
        if not maskers:
            maskers.append(Masker(resolve_secrets(plan.secrets, os.environ, settings.secrets_file()).values()))
        return maskers[0]

    # A secret that is kept elsewhere could not be masked.
    can_mask = not plan.secrets or _can(plan).secrets_of_caller

    def described(value: Any, encoded: Mapping[str, Any]) -> dict[str, str]:
        packer = encoded.get("packer")
        is_small = packer == "pickle" and encoded["size"] <= _LARGEST_IN_BRIEF
        if not can_mask or not (is_small or packer == NESTED):
            return {}
        try:
            text = brief(value, masker())
        except MlfnError:  # a secret is missing here: the driver of a sweep need not have it
            return {}
        return {} if text is None else {"shown": text}

    return described


def _start(session: Session, submitted: Submitted, plan: Plan, load: Callable[[], Callable[..., Any]]) -> Submission:
    if _can(plan).in_caller:
        InlineRunner(session, plan, load).run(submitted)
        return session.store.get_run(submitted.run), None
    [inflight] = session.dispatcher(plan).submit([submitted], plan)
    return _record(submitted), inflight


def _record(submitted: Submitted) -> RunRecord:
    return RunRecord(
        id=submitted.run,
        name=submitted.name,
        project=submitted.project,
        function=submitted.function,
        plan=submitted.plan,
        place=submitted.place,
        state=RunState.PENDING,
        attempt=0,
        params=submitted.params,
        created=submitted.time,
        owner=submitted.owner,
        labels=submitted.labels,
        parent=submitted.parent,
    )


def stored_function(session: Session, plan: Plan) -> Callable[..., Any]:
    """Return the function of a stored plan; the payload's signature is checked before it is unpickled."""
    from mlfn.code.payload import unpack

    function: Callable[..., Any] = unpack((session.folder / "payloads" / plan.payload).read_bytes(), key=session.key)
    return function
