"""What hosts refuse in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.backends.hosts.base import ServiceRecord
from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.errors import NotFoundError, OptionError
from mlfn.spec.plan import Plan


def refuse_other_triggers(plan: Plan) -> None:
    """Refuse triggers that the embedded server has no client for, and retries with more memory."""
    kind = Nuclio(**plan.kind.options)
    if plan.retry is not None and plan.retry.mem is not None:
        raise OptionError(
            f"{plan.name} has Retry(mem={plan.retry.mem!r}), and kind='nuclio' runs in a service, which has the memory that it was "
            "deployed with: raise mem=, or leave Retry(mem=) out."
        )
    for name, trigger in kind.named_triggers.items():
        if trigger.KIND not in ("http", "cron", "mqtt", "nats"):
            raise OptionError(
                f"{plan.name} has the trigger {name!r} (mlfn.{type(trigger).__name__}), which needs Nuclio itself: the embedded server "
                "has mlfn.Http, mlfn.Cron, mlfn.Mqtt and mlfn.Nats. Test it with mock().event(...)."
            )
        if trigger.KIND != "http" and (trigger.workers or 1) > 1:
            raise OptionError(
                f"{plan.name} has mlfn.{type(trigger).__name__}(workers={trigger.workers}), which needs Nuclio itself: the embedded server "
                "handles the events of all triggers but mlfn.Http one after another. Leave workers= out, or give it more replicas."
            )


def refuse_others(live: Mapping[str, Any], plan: Plan, taken: str) -> None:
    """Refuse to deploy over an object of a cluster that is not the function's own; `taken` names that object."""
    annotations = live["metadata"].get("annotations") or {}
    there = (annotations.get("mlfn.io/project"), annotations.get("mlfn.io/function"))
    if there != (plan.project, plan.name):
        owner = "/".join(filter(None, there)) or "what mlfn has not made"
        raise OptionError(
            f"{plan.name} would be {taken}, which is {owner}: give the function another name, "
            f"as in with_options(name={plan.name + '_2'!r})."
        )


def refuse_other_version(plan: Plan, record: ServiceRecord) -> None:
    """Refuse a run of another version than the one that is deployed."""
    if record.version.hash != plan.function:
        raise OptionError(
            f"{plan.name} is deployed in another version ({record.version.hash[:8]}) than this one "
            f"({plan.function[:8]}), and goes on answering: deploy() this one first, or give it another name, as in "
            f"with_options(name={plan.name + '_trial'!r})."
        )


def not_found(project: str, name: str, known: list[str]) -> NotFoundError:
    """Return the error for a service that is not there."""
    there = f"There: {', '.join(known)}." if known else "None is deployed there."
    return NotFoundError(f"No service {name!r} is deployed in project {project!r}. {there}")
