"""From a call to a stored run: parameters packed, function and plan kept, the run handed to its place."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlfn import settings, user_context
from mlfn.client import Client
from mlfn.codec import Codec
from mlfn.errors import MlfnError, OutputError, ParameterError, UnpicklableError, nearest
from mlfn.execution import Calling, resolve_secrets
from mlfn.identity import new_id, now
from mlfn.inline import run_here
from mlfn.inputs import DataItem
from mlfn.masker import Masker
from mlfn.packers.briefs import brief, is_whole, left_out
from mlfn.planner import Plan, as_text
from mlfn.registry import place_class
from mlfn.signature import Signature, existing_input, refuse_run, short
from mlfn.spec.canonical import canonical
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.ticket import Ticket

Submission = tuple[RunRecord, Ticket | None]  # what was stored, and the ticket of what still runs
logger = logging.getLogger("mlfn")
_LARGEST_IN_BRIEF = 64 * 1024  # bytes of a pickle: the repr of a larger one may take long
_told: set[str] = set()


def submit(
    client: Client, plan: Plan, payload: bytes, function: Callable[..., Any], params: Mapping[str, Any]
) -> Submission:
    """Store a new run of `plan` and start it; inline, return when it is over."""
    refuse_missing_secrets(plan.body)
    _wait_for_parents(plan.body, params)
    client.register()
    client.once(plan.hash, lambda: keep(client, plan, payload))
    submitted = _submitted(client, plan.hash, plan.body, params, labels=plan.spec.get("labels", {}))
    return _start(client, submitted, plan.body, lambda: function)


def resubmit(client: Client, record: RunRecord, params: Mapping[str, Any]) -> Submission:
    """Submit a stored run's function version again, some parameters changed."""
    refuse_part(record, "submitted again")
    body = client.store.plan(record.plan)
    params = _checked(client, record, body, params)
    tell_limits(body)
    refuse_missing_secrets(body)
    _wait_for_parents(body, params)
    client.register()
    submitted = _submitted(client, record.plan, body, params, labels=record.labels, same=record.params)
    return _start(client, submitted, body, lambda: stored_function(client, body))


def refuse_part(record: RunRecord, what: str) -> None:
    """Refuse what cannot be done to a child that a handler opened: it is no run of its own."""
    if record.part_of is not None:
        raise ParameterError(
            f"{record.name} ({record.id[:8]}) is child {record.iteration} of {(record.parent or '')[:8]}, opened by a "
            f"handler, and cannot be {what} alone: it is a part of run {record.part_of[:8]}, which can."
        )


def _wait_for_parents(body: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Wait in the caller's own thread for what a run in it needs; elsewhere the dispatcher does."""
    if place_class(body["place"]["name"]).runs_in_caller:
        for value in params.values():
            if getattr(value, "__mlfn_reference__", False):
                value.run.wait()


def _checked(client: Client, record: RunRecord, body: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run is submitted again with, as `submit` would check it; by name alone where the code cannot be loaded."""
    varkw = body["shape"]["varkw"]
    extra = {name: value for name, value in params.items() if name not in body["accepts"]}
    for name, value in extra.items():
        if varkw is None:
            raise ParameterError(
                f"{record.name}() has no parameter {name!r} (value {short(value)}): {nearest(name, body['accepts'])}"
            )
    given = {name: value for name, value in params.items() if name not in extra}
    if extra:
        before = client.codec().decode(record.params[varkw]) if varkw in record.params else {}
        given[varkw] = {**before, **given.get(varkw, {}), **extra}
    signature = stored_signature(client, body) if given else None
    if signature is not None:
        return signature.check(given)
    return {name: _as_input(record.name, name, value, body["inputs"].get(name)) for name, value in given.items()}


def stored_signature(client: Client, body: Mapping[str, Any]) -> Signature | None:
    """Return the signature of a stored plan's function; None where that cannot be loaded here."""
    try:
        return Signature(stored_function(client, body), body["name"])
    except Exception:  # noqa: BLE001 - what it needs may not be here; the run itself may be able to load it
        return None


def stored_defaults(client: Client, record: RunRecord) -> dict[str, Any]:
    """Return what stood for the parameters that a run was not given, as far as it can be known here."""
    body = client.store.plan(record.plan)
    kept = left_out(body, record)
    known = {name: client.codec().decode(value) for name, value in kept.items() if is_whole(value)}
    if len(known) < len(kept) and (signature := stored_signature(client, body)) is not None:
        known = {**signature.defaults(), **known}
    return {name: known[name] for name in kept if name in known}


def _as_input(function: str, name: str, value: Any, kind: str | None) -> Any:
    where = f"{function}({name}=...)"
    refuse_run(value, where)
    if getattr(value, "__mlfn_reference__", False):
        value.refuse_unknown(where)
    if isinstance(value, str) and kind is not None:
        value = DataItem(value)
    return existing_input(value, kind, where) if isinstance(value, DataItem) else value


def tell_large(large: Iterable[tuple[str, int]]) -> None:
    """Say once what of a function's code is large."""
    for path, size in large:
        if f"large {path}" not in _told:
            _told.add(f"large {path}")
            logger.warning("%s (%.1f MiB) travels with the code: pass it as a parameter instead", path, size / 2**20)


def tell_limits(body: Mapping[str, Any]) -> None:
    """Say once what a function asks for that its place lacks; it runs without."""
    place, name = body["place"]["name"], body["name"]
    unmet = [f"{option}={body[option]!r}" for option in place_class(place).LACKS if _is_unmet(option, body.get(option))]
    if unmet and f"limits {name} {place} {unmet}" not in _told:
        _told.add(f"limits {name} {place} {unmet}")
        logger.warning("%s asks for %s: on=%r runs it without", name, ", ".join(unmet), place)


def refuse_missing_secrets(body: Mapping[str, Any]) -> None:
    """Raise SecretNotFoundError before anything starts, where the run would look for its secrets here too."""
    if body["secrets"] and place_class(body["place"]["name"]).secrets_from_caller:
        resolve_secrets(Calling.of(body).secrets, os.environ, settings.secrets_file())


def _is_unmet(option: str, asked: Any) -> bool:
    if option == "requirements" and asked:
        from mlfn.places.environments import is_satisfied

        return not all(is_satisfied(item) for item in asked)
    return bool(asked)


def keep(client: Client, plan: Plan, payload: bytes) -> None:
    """Store what all runs of a plan have in common."""
    client.keep_payload(plan.body["payload"], payload)
    client.store.add_function(
        plan.function, project=plan.project, name=plan.name, spec=canonical(plan.spec), time=now()
    )
    client.store.add_plan(plan.hash, function=plan.function, body=as_text(plan))


def _submitted(
    client: Client,
    digest: str,
    body: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    same: Mapping[str, Any] | None = None,
) -> Submitted:
    run = new_id()
    codec = client.codec()
    encoded = {
        **(same or {}),
        **{name: _encoded(codec, run, f"{body['name']}({name}=...)", name, value) for name, value in params.items()},
    }
    in_words = words(body)
    encoded.update({name: {**encoded[name], **in_words(value, encoded[name])} for name, value in params.items()})
    return Submitted(
        run=run,
        name=body["name"],
        project=body["project"],
        function=body["function"],
        plan=digest,
        place=body["place"]["name"],
        owner=client.id,
        params=encoded,
        time=now(),
        labels=labels,
        parent=user_context.current_run(),
    )


def _encoded(codec: Codec, run: str, where: str, name: str, value: Any) -> dict[str, Any]:
    if getattr(value, "__mlfn_reference__", False):
        return {"output": {"run": value.run.id, "key": value.key}}
    if isinstance(value, DataItem):
        return {"input": value.url, "as": value.type}
    try:
        return codec.encode(run, name, value)
    except OutputError as error:
        raise UnpicklableError(
            f"{where} got a {type(value).__qualname__} that cannot travel: {error.__cause__ or error} "
            "Pass plain values, or what it is made from."
        ) from error


def words(body: Mapping[str, Any]) -> Callable[[Any, Mapping[str, Any]], dict[str, str]]:
    """Return what adds to a small value that only a pickle keeps a few words of what it is, secrets masked."""

    @functools.cache
    def masker() -> Masker:
        return Masker(resolve_secrets(Calling.of(body).secrets, os.environ, settings.secrets_file()).values())

    # A secret that lies elsewhere could not be masked.
    can_mask = not body["secrets"] or place_class(body["place"]["name"]).secrets_from_caller

    def said(value: Any, encoded: Mapping[str, Any]) -> dict[str, str]:
        if not can_mask or encoded.get("packer") != "pickle" or encoded["size"] > _LARGEST_IN_BRIEF:
            return {}
        try:
            text = brief(value, masker())
        except MlfnError:  # a secret is not here: who carries a sweep on need not have it
            return {}
        return {} if text is None else {"shown": text}

    return said


def _start(
    client: Client, submitted: Submitted, body: Mapping[str, Any], load: Callable[[], Callable[..., Any]]
) -> Submission:
    place = body["place"]
    if place_class(place["name"]).runs_in_caller:
        run_here(client, submitted, body, load)
        return client.store.get_run(submitted.run), None
    ticket = client.dispatcher(place["name"], place["options"]).submit(submitted, body)
    return _record(submitted), ticket


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


def stored_function(client: Client, body: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the code of a stored plan; its signature is checked before anything of it is read."""
    from mlfn.payload import unpack

    function: Callable[..., Any] = unpack((client.folder / "payloads" / body["payload"]).read_bytes(), key=client.key)
    return function
