"""What the children of a stored sweep are checked by, in a process that has its code only as it was stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from mlfn.client import Client
from mlfn.signature import Signature
from mlfn.submission import stored_signature
from mlfn.sweep.body import SweepBody


class StoredCheck:
    """Makes of parameters what the handler's annotations ask for; the code is loaded only where a value needs it.

    What can be known before was checked when the sweep was submitted. A text may still name a file to read, a mapping
    stand for a model, and a name be one of ``**kwargs``.
    """

    def __init__(self, client: Client, plan: Mapping[str, Any], body: SweepBody, decode: Callable[[Any], Any]) -> None:
        self._client = client
        self._plan = plan
        self._body = body
        self._decode = decode

    def __call__(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a child's own parameters as they are submitted."""
        varkw = self._plan["shape"]["varkw"]
        own = {name: value for name, value in params.items() if name in self._plan["accepts"]}
        more = {name: value for name, value in params.items() if name not in own}
        if more and varkw is not None:
            shared = self._body.fixed.get(varkw)
            own[varkw] = {**(self._decode(shared) if shared is not None else {}), **more}
        elif more:
            own.update(more)
        wanting = {name: value for name, value in own.items() if self._wants_code(name, value)}
        if not wanting or self._signature is None:
            return own
        return {**own, **self._signature.check(wanting)}

    def _wants_code(self, name: str, value: Any) -> bool:
        return (isinstance(value, str) and name in self._plan["inputs"]) or isinstance(value, Mapping)

    @cached_property
    def _signature(self) -> Signature | None:
        return stored_signature(self._client, self._plan)
