"""The results of one sweep, read from the store for its handle, its plots and its comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

from mlfn.dispatch.session import Session
from mlfn.errors import NotFoundError, nearest
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord
from mlfn.store.sweeps import ChildRow
from mlfn.sweep.conditions.grammar import Selector
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.results.child import Child
from mlfn.sweep.results.selection import best
from mlfn.sweep.results.standing import Standing, report_of, standing_of
from mlfn.sweep.results.table import Table, make_table
from mlfn.sweep.spaces.distributions import Space
from mlfn.sweep.spec import SweepBody
from mlfn.sweep.strategy import Told


@frozen
class SweepResults:
    """Reads the children of a sweep anew at each call."""

    session: Session
    record: RunRecord
    body: SweepBody

    @property
    def label(self) -> str:
        """The function's name and the start of the sweep's id, for messages."""
        return f"{self.record.name} ({self.record.id[:8]})"

    @cached_property
    def selectors(self) -> tuple[Selector, ...]:
        """The selectors; the first one decides which child is the best."""
        return self._standing.selectors

    def rows(self) -> list[ChildRow]:
        """Return the children's rows, in the order of their numbers."""
        return self.session.store.children(self.record.id)

    def children(self) -> list[Child]:
        """Return the children with their numbers that count."""
        return self._standing.children(self.rows(), self.session.store.child_scores(self.record.id))

    def best(self) -> Child | None:
        """Return the best child so far; None where there is none, or no selector."""
        return best(self.children(), self.selectors) if self.selectors else None

    def table(self) -> Table:
        """Return one row a child."""
        rows, scores = self.rows(), self.session.store.child_scores(self.record.id)
        return make_table(rows, scores, self._points.decode, self.body.keys, self._standing.children(rows, scores))

    def reports(self, *, series: bool = False) -> list[Told]:
        """Return the children as a strategy receives them, with `series` the points of the first metric too."""
        rows, standing = self.rows(), self._standing
        if series:
            standing = Standing(self.session.store, self.selectors, standing.subject_to, series=self.selectors[0].name)
        children = standing.children(rows, self.session.store.child_scores(self.record.id))
        return [report_of(child, self._points.point(row.point)) for row, child in zip(rows, children, strict=True)]

    def spaces(self) -> Mapping[str, Space]:
        """Return the spaces that a random sweep or a search draws from, by key; none of another."""
        if self.body.strategy["name"] not in ("random", "search"):
            return {}
        return {key: Space.from_json(data, self._points.decode) for key, data in self.body.strategy["data"]["spaces"]}

    def need_selectors(self, what: str) -> None:
        """Refuse something that a sweep without a selector does not have."""
        if not self.body.select:
            raise NotFoundError(
                f"{self.label} has no {what}: it was submitted without select=; say which child is the best, "
                "as in with_options(select='max.accuracy')."
            )

    @cached_property
    def _standing(self) -> Standing:
        return standing_of(self.session.store, self.body)

    @cached_property
    def _points(self) -> PointCodec:
        return PointCodec(self.session.codec(), self.record.id)


def refuse_unknown(params: Sequence[str] | None, known: Collection[str]) -> None:
    """Refuse a parameter that is not swept."""
    for name in params or ():
        if name not in known:
            raise NotFoundError(f"plot(params={list(params or ())!r}): {name!r} is not swept. {nearest(name, known)}")
