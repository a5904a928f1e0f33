"""Deploying functions, and finding what was deployed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mlfn.backends.hosts.base import Host, ServiceRecord
from mlfn.backends.hosts.checks import not_found
from mlfn.backends.registry import host_class
from mlfn.dispatch.planner import Prepared, check_place
from mlfn.dispatch.session import Session, current_session
from mlfn.dispatch.submit import keep, refuse_missing_secrets
from mlfn.handles.service import Service
from mlfn.settings.members import targets
from mlfn.spec.plan import Plan, Selected

logger = logging.getLogger("mlfn")


def deploy(session: Session, prepared: Prepared, *, again: bool = False) -> Service:
    """Deploy a prepared function, and return its service once it is ready."""
    plan = prepared.plan
    refuse_missing_secrets(plan)
    session.once(plan.hash, lambda: keep(session, prepared))
    return deploy_plan(session, plan, again=again)


def deploy_plan(session: Session, plan: Plan, *, again: bool = False) -> Service:
    """Deploy a stored plan."""
    host = _host(session, plan.place)
    record, is_new = host.deploy(plan, again=again)
    if not is_new:
        logger.warning("%s is deployed in this version already, at %s: nothing was to be done", plan.name, record.url)
    return _handle(session, host, record, is_new=is_new)


def service(name: str, *, project: str | None = None, on: str | None = None, **options: Any) -> Service:
    """Return the service of a deployed function, from any process; raises NotFoundError where there is none.

    `project` is that of the settings unless it is given; ``"project/name"`` says both. `on` is the place, with its options, as
    `Function.on` takes them.
    """
    session = current_session()
    chosen, _, plain = name.rpartition("/")
    where = chosen or project or session.settings.project
    host = _host(session, _chosen(session, on, options))
    record = host.find(where, plain)
    if record is None:
        raise not_found(where, plain, [item.name for item in host.list_services() if item.project == where])
    return _handle(session, host, record)


def services(*, project: str | None = None, on: str | None = None, **options: Any) -> list[Service]:
    """Return all services of this machine's data folder, or of the place `on`; or those of one project."""
    session = current_session()
    host = _host(session, _chosen(session, on, options))
    found = host.list_services()
    return [_handle(session, host, record) for record in found if project in (None, record.project)]


def _chosen(session: Session, on: str | None, options: Mapping[str, Any]) -> Selected:
    # Where a place without services is that of runs, they are on this machine.
    place = on or (session.settings.on if session.settings.on in targets("host") else "local")
    check_place(place, options)
    return Selected(place, options)


def _host(session: Session, place: Selected) -> Host:
    host: Host = host_class(place.name)(session.place_config(), **place.options)
    return host


def _handle(session: Session, host: Host, record: ServiceRecord, **more: Any) -> Service:
    return Service(record, host, session.store.get_plan, **more)
