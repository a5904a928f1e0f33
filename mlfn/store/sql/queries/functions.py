"""Queries about function versions, their plans and their tags."""

from __future__ import annotations

from typing import Any

from mlfn.errors import NotFoundError, StoreCorruptError
from mlfn.spec.plan import Plan
from mlfn.store.queries import TagRow
from mlfn.store.rows import warn_skipped
from mlfn.store.sql import shapes
from mlfn.store.sql.connection import Connected


class FunctionQueries(Connected):
    """Functions, plans, tags."""

    def get_function(self, digest: str) -> dict[str, Any]:
        rows = self.connection.read("SELECT spec FROM functions WHERE hash = ?", (digest,))
        if not rows:
            raise NotFoundError(f"No function version {digest!r} in the store {self.connection.engine.label}.")
        return _parse(rows[0][0], digest, "function version")

    def resolve_function(self, prefix: str) -> str:
        wanted = prefix.lower()
        rows = self.connection.read(
            "SELECT hash FROM functions WHERE hash >= ? AND hash <= ? ORDER BY hash LIMIT 5", (wanted, wanted + "g")
        )
        found = [row[0] for row in rows]
        if len(found) > 1 and wanted not in found:
            some = ", ".join(str(digest)[: len(wanted) + 4] for digest in found)
            raise NotFoundError(
                f"{prefix!r} begins the hashes of several function versions ({some}): give more digits."
            )
        if not found:
            raise NotFoundError(
                f"No function version {prefix!r} in the store {self.connection.engine.label}; `mlfn show ID` names a run's."
            )
        return wanted if wanted in found else str(found[0])

    def get_plan(self, digest: str) -> Plan:
        rows = self.connection.read("SELECT body FROM plans WHERE hash = ?", (digest,))
        if not rows:
            raise StoreCorruptError(
                f"The store {self.connection.engine.label} lacks the plan {digest}; was it restored in part?"
            )
        try:
            return Plan.of_body(_parse(rows[0][0], digest, "plan"), hash=digest)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable("plan", digest, repr(error)) from error

    def find_plan(self, function: str) -> Plan | None:
        rows = self.connection.read("SELECT hash FROM plans WHERE function = ? ORDER BY hash LIMIT 1", (function,))
        return self.get_plan(rows[0][0]) if rows else None

    def payload_digests(self) -> set[str] | None:
        rows = self.connection.read("SELECT hash, body FROM plans")
        try:
            return {_parse(body, digest, "plan")["payload"] for digest, body in rows}
        except StoreCorruptError as error:
            warn_skipped(error)
            return None

    def tags(self) -> list[TagRow]:
        rows = self.connection.read("SELECT project, name, tag, function, run FROM tags ORDER BY project, name, tag")
        return [TagRow(*row) for row in rows]


def _parse(text: Any, digest: str, what: str) -> dict[str, Any]:
    try:
        return shapes.parse_object(text)
    except (ValueError, TypeError) as error:
        raise _unreadable(what, digest, str(error)) from error


def _unreadable(what: str, digest: str, why: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"The {what} {digest} cannot be read ({why}); restore the store from a copy, or submit the same "
        "function with the same options again, which stores it anew."
    )
