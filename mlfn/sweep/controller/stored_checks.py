"""Checks the children of a sweep whose code is here only as it was stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mlfn.dispatch.session import Session
from mlfn.dispatch.signature import Signature
from mlfn.dispatch.submit import stored_signature
from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.sweep.spec import SweepBody


@frozen
class StoredCheck:
    """Converts parameters as the handler's annotations ask; loads the code only where a value needs it.

    Most was checked when the sweep was submitted. But a text may name a file to read, a mapping stand for a model, and a
    name be one of ``**kwargs``.
    """

    session: Session
    plan: Plan
    body: SweepBody
    decode: Callable[[Any], Any]

    def __call__(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a child's own parameters as they are submitted."""
        varkw = self.plan.shape.varkw
        own = {name: value for name, value in params.items() if name in self.plan.accepts}
        more = {name: value for name, value in params.items() if name not in own}
        if more and varkw is not None:
            shared = self.body.fixed.get(varkw)
            more = {varkw: {**(self.decode(shared) if shared is not None else {}), **more}}
        own.update(more)
        wanting = {name: value for name, value in own.items() if self._needs_code(name, value)}
        if not wanting or self._signature is None:
            return own
        return {**own, **self._signature.check(wanting)}

    def _needs_code(self, name: str, value: Any) -> bool:
        return (isinstance(value, str) and name in self.plan.inputs) or isinstance(value, Mapping)

    @cached_property
    def _signature(self) -> Signature | None:
        return stored_signature(self.session, self.plan)
