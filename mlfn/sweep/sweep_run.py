"""`SweepRun`: a submitted sweep, from any process that sees its store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mlfn.errors import NotFoundError, ParameterError, SweepError, SweepHeldError
from mlfn.handle import Run
from mlfn.spec.record import RunState
from mlfn.store.families import ChildRow
from mlfn.sweep.body import SweepBody
from mlfn.sweep.child import Child
from mlfn.sweep.condition import Condition
from mlfn.sweep.conduct import conduct, holder, start_again, strategy_of
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.grammar import Selector, parse_constraint, parse_selector
from mlfn.sweep.selection import best, pareto
from mlfn.sweep.standing import standing_of, told
from mlfn.sweep.strategy import Told
from mlfn.sweep.table import Table, make_table
from mlfn.ticket import Ticket

if TYPE_CHECKING:
    import pandas as pd

    from mlfn.version import Version

R = TypeVar("R")
_LOOK = 0.05  # seconds between looks at which children have ended


class SweepRun(Run[R]):
    """A run that fans out into child runs. `mlfn.run(id)` finds it again from any process.

    It is over when all its children are, or one of its limits was reached; it then carries the best child's outputs.
    """

    @property
    def best(self) -> Run[R]:
        """The best child so far, by the first selector: of those that succeeded, are feasible and reported a finite number.

        Ties go to the lower number. Children that were pruned do not count, as in Optuna.
        """
        self._need_selectors("best")
        child = best(self._standing_children(), self._selectors)
        if child is None:
            raise SweepError(
                f"{self.name} ({self.id[:8]}) has no best child: none has succeeded yet with a finite {self._body.select[0]!r}; "
                f"table() shows what they came to."
            )
        return self._child(child.run)

    @property
    def best_iteration(self) -> int:
        """The number of the best child so far."""
        return self.best.iteration

    @property
    def pareto(self) -> list[Run[R]]:
        """The children that no other is better than in every selector, in the order of their numbers."""
        self._need_selectors("pareto")
        return self._children([child.run for child in pareto(self._standing_children(), self._selectors)])

    @property
    def stop_reason(self) -> str | None:
        """Why it ended before all its children had; None where it did not."""
        found = (self.progress or {}).get("stopped")
        return None if found is None else str(found)

    def table(self) -> pd.DataFrame:
        """Return a DataFrame with one row a child: iteration, state, parameters, numbers it reported, seconds, run."""
        return self._table().to_pandas()

    def plot(
        self,
        kind: str = "parallel",
        *,
        params: str | Sequence[str] | None = None,
        metric: str | None = None,
        path: str | os.PathLike[str] | None = None,
        static: bool = False,
    ) -> Any:
        """Return a figure of plotly; with `static`, or a `path` to a picture, one of matplotlib, for which no browser is needed.

        Parameters
        ----------
        kind: ``"parallel"``, ``"history"``, ``"importance"``, ``"slice"``, ``"contour"``, ``"pareto"``, ``"timeline"``,
            ``"edf"`` or ``"intermediate"``.
        params: which of the swept parameters.
        metric: which of several selected metrics; the first one by default.
        path: a file to write: ``.png``, ``.svg``, ``.pdf`` or, with everything that it needs, ``.html``.
        """
        from mlfn.sweep.plots import plot

        return plot(self, kind, params=params, metric=metric, path=path, static=static)

    def compare(self, *others: int | Run[Any], everything: bool = False) -> pd.DataFrame:
        """Return a DataFrame with a column for each of `others`, and a row for each parameter and result that differs.

        ``compare(1, 5, 9)`` takes children of this sweep by number; runs of any origin may stand beside them. With other
        sweeps, ``compare(before)``, this one is the first column, and each has its best child's values. `everything`
        keeps what is the same.
        """
        from mlfn.sweep.comparing import compare

        return compare(self, others, everything=everything)

    def result(self, timeout: float | None = None) -> R:
        """Return what the best child returned; without a selector, a list of what all returned, in order.

        Where a condition or a timeout has ended the sweep (see `stop_reason`), of all that succeeded until then.

        Raises what the sweep failed with; without a selector, the exception of the first child that failed.
        """
        body = self._body
        if body.select:
            return super().result(timeout)
        if not self.wait(timeout):
            return super().result(0)  # says that it still runs
        failure = self._exception()
        if failure is not None and (self.state is not RunState.FAILED or not body.mapped):
            raise failure
        states = () if self.stop_reason is None else (RunState.SUCCEEDED,)
        rows = self._client.store.children(self.id, states=states, all_or_none=True)
        return cast("R", [self._child(row.run).result() for row in rows])

    def to_optuna(self, storage: str, *, name: str | None = None) -> str:
        """Copy the sweep into a storage of Optuna's, for optuna-dashboard and its kin; return the study's name.

        Parameters
        ----------
        storage: an URL, as in ``"sqlite:///sweep.db"``.
        name: the study's name, by default ``NAME-ID``.
        """
        from mlfn.sweep.optuna import to_optuna

        self._need_selectors("study")
        directions = tuple(selector.direction for selector in self._selectors)
        metrics = tuple(str(selector) for selector in self._selectors)
        study = name or f"{self.name}-{self.id[:8]}"
        return to_optuna(self._tolds(), self._spaces, directions, storage, name=study, metrics=metrics)

    def resume(self) -> SweepRun[R]:
        """Go on with a sweep whose process died: what has ended is not run again, what was in flight is taken over.

        One that was cancelled or has failed stays as it is: then a new sweep is returned, which takes over the results
        of the children that succeeded. Raises SweepHeldError where a living process drives it.
        """
        state = self.state
        if state is RunState.SUCCEEDED:
            return self
        if state.is_terminal:
            return SweepRun(*start_again(self._client, self.record), client=self._client)
        if self._client.ticket(self.id) is None and self._conducted() is None:
            held = holder(self._client, self.record)
            if held is not None:
                raise SweepHeldError(
                    f"{self.name} ({self.id[:8]}) is driven by {held}: wait() for it here, or end that process first."
                )
        return self

    def rerun(self, **params: Any) -> Run[R]:
        """Refuse: a sweep is resumed, or described and submitted again; a child can be rerun."""
        raise ParameterError(
            f"{self.name} ({self.id[:8]}) is a sweep, which rerun() would not know how to repeat: resume() goes on with it "
            "(`mlfn sweep resume ID`), submit() of its description begins it anew, and each of its children can be rerun."
        )

    def promote(self, tag: str) -> Version:
        """Refuse: a sweep is no call that a version could repeat; its best child is, and so is every other."""
        raise ParameterError(
            f"{self.name} ({self.id[:8]}) is a sweep: promote the child that it was made for, as in "
            f"sweep.best.promote(tag={tag!r}), or sweep.children[1].promote(tag={tag!r})."
        )

    def __iter__(self) -> Iterator[Any]:
        """Yield its children as they end; of a map, what they returned, in order."""
        return self._in_order() if self._body.mapped else self._as_they_end()

    def __len__(self) -> int:
        """How many children it will have, or has where that is unknown."""
        size = self._body.size
        return size if size is not None else len(self._rows())

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        counts = self._client.store.child_counts(self.id)
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        return f"<mlfn.SweepRun {self.id[:8]} {self.name} {self.state}: {said or 'no children yet'}>"

    @property
    def _body(self) -> SweepBody:
        found: SweepBody | None = self.__dict__.get("_kept_body")
        if found is None:
            found = self.__dict__["_kept_body"] = SweepBody.from_json(self._client.store.sweep_body(self.id))
        return found

    def _conducted(self) -> Ticket | None:
        self._client.reconcile()
        record = self.record
        if record.state.is_terminal or (record.state is RunState.RUNNING and self._client.owner_lives(record.owner)):
            return None
        return conduct(self._client, record)

    @property
    def _spaces(self) -> Mapping[str, Any] | None:
        """The spaces that were searched or drawn from; None for lists."""
        return getattr(strategy_of(self._body, PointCodec(self._client.codec(), self.id)), "spaces", None)

    def _tolds(self) -> list[Told]:
        """What a strategy is told of the children so far."""
        points = PointCodec(self._client.codec(), self.id)
        children = zip(self._rows(), self._standing_children(), strict=True)
        return [told(child, points.point(row.point)) for row, child in children]

    @property
    def _selectors(self) -> tuple[Selector, ...]:
        return tuple(parse_selector(text) for text in self._body.select)

    @property
    def _subject_to(self) -> tuple[Condition, ...]:
        return tuple(parse_constraint(text) for text in self._body.subject_to)

    def _table(self) -> Table:
        points = PointCodec(self._client.codec(), self.id)
        rows, scores = self._rows(), self._client.store.family_scores(self.id)
        children = standing_of(self._client.store, self._body).children(rows, scores)
        return make_table(rows, scores, points.decode, self._body.keys, children)

    def _rows(self) -> list[ChildRow]:
        return self._client.store.children(self.id)

    def _standing_children(self) -> list[Child]:
        rows = self._rows()
        scores = self._client.store.family_scores(self.id)
        return standing_of(self._client.store, self._body).children(rows, scores)

    def _need_selectors(self, what: str) -> None:
        if not self._body.select:
            raise NotFoundError(
                f"{self.name} ({self.id[:8]}) has no {what}: it was submitted without select=; say which child is the best, "
                "as in with_options(select='max.accuracy')."
            )

    def _as_they_end(self) -> Iterator[Run[R]]:
        seen: set[str] = set()
        while True:
            over = self.done()  # asked before reading: what ended before the end is then read
            for row in self._rows():
                if row.state.is_terminal and row.run not in seen:
                    seen.add(row.run)
                    yield from self._children([row.run])
            if over:
                return
            self.wait(_LOOK)

    def _in_order(self) -> Iterator[R]:
        number = told = 0
        while True:
            over = self.done()
            rows = self._client.store.children(self.id, all_or_none=True)
            while number < len(rows) and rows[number].state.is_terminal:
                if rows[number].state is RunState.CANCELLED:
                    if not over:
                        break  # why it was cancelled is known when the sweep is over
                    if self.stop_reason is not None:
                        number += 1
                        continue
                number, told = number + 1, told + 1
                yield self._child(rows[number - 1].run).result()
            if over:
                failure = self._exception()
                if failure is not None and told < len(self):
                    raise failure
                return
            self.wait(_LOOK)
