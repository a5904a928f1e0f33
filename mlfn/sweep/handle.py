"""`SweepRun`: a submitted sweep, from any process that sees its store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from mlfn.artifacts.nested import result_of
from mlfn.backends.logs import numbered
from mlfn.dispatch.inflight import InflightRun
from mlfn.errors import ParameterError, SweepError, SweepHeldError
from mlfn.handles.outputs import Outputs
from mlfn.handles.run import Run
from mlfn.spec.record import RunState
from mlfn.sweep.controller.ownership import find_driver, repeat_sweep, resume_sweep
from mlfn.sweep.options import SweepOptions
from mlfn.sweep.results.selection import pareto
from mlfn.sweep.results.sweep_results import SweepResults
from mlfn.sweep.spec import SweepBody

if TYPE_CHECKING:
    import pandas as pd

    from mlfn.handles.version import Version

R = TypeVar("R")
_POLL = 0.05  # seconds between polls for ended children


class SweepRun(Run[R]):
    """A run that fans out into child runs. `mlfn.run(id)` finds it again from any process.

    It is over when all its children are, or one of its limits was reached; it then carries the best child's outputs.
    """

    __mlfn_reference__ = True

    _is_selected_anew = False

    def __mlfn_encoded__(self) -> dict[str, Any]:
        if self._is_selected_anew:
            self.wait()
            return result_of(self.best.id, children=False)
        return result_of(self.id, children=not self._body.select)

    def refuse_unknown(self, where: str) -> None:
        """Accept it as a parameter of another run, which waits for it."""

    @property
    def best(self) -> Run[R]:
        """The best child so far, by the first selector: of those that succeeded, are feasible and reported a finite number.

        Ties go to the lower number. Children that were pruned do not count, as in Optuna.
        """
        self._results.need_selectors("best")
        child = self._leader()
        if child is None:
            raise SweepError(
                f"{self.name} ({self.id[:8]}) has no best child: none has succeeded yet with a finite {self._body.select[0]!r}; "
                f"table() shows what they came to."
            )
        return child

    @property
    def best_iteration(self) -> int:
        """The number of the best child so far."""
        return self.best.iteration

    @property
    def pareto(self) -> list[Run[R]]:
        """The children that no other is better than in every selector, in the order of their numbers."""
        results = self._results
        results.need_selectors("pareto")
        return self._children([child.run for child in pareto(results.children(), results.selectors)])

    def select(self, *selectors: str) -> SweepRun[R]:
        """Return the same sweep with its best child, front and result by other selectors, as ``select("max.f1")``.

        Nothing is stored, and nothing runs: `best`, `pareto`, `table`, `plot` and `result` look at what the children reported.
        """
        chosen: SweepRun[R] = SweepRun(self._record, self._inflight, session=self._session)
        select = SweepOptions().changed({"select": selectors}).select
        chosen._body = replace(self._body, select=select, mapped=False)
        chosen._is_selected_anew = True
        return chosen

    @property
    def outputs(self) -> Outputs:
        """Those of its best child, and its own artifacts; only the best child's where `select` has chosen that."""
        return self.best.outputs if self._is_selected_anew else super().outputs

    @property
    def stop_reason(self) -> str | None:
        """Why it ended before all its children had; None where it did not."""
        found = (self.progress or {}).get("stopped")
        return None if found is None else str(found)

    def table(self) -> pd.DataFrame:
        """Return a DataFrame with one row a child: iteration, parameters, numbers it reported, state, seconds, first digits of its id."""
        return (
            self._results.table()
            .with_short_ids()
            .to_pandas(otherwise="The same rows are in the artifact 'iteration_results' as CSV.")
        )

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
        from mlfn.sweep.results.plots import plot

        return plot(self._results, kind, params=params, metric=metric, path=path, static=static)

    def compare(self, *others: int | Run[Any], everything: bool = False) -> pd.DataFrame:
        """Return a DataFrame with a column for each of `others`, and a row for each parameter and result that differs.

        ``compare(1, 5, 9)`` takes children of this sweep by number; runs of any origin may stand beside them. With other
        sweeps, ``compare(before)``, this one is the first column, and each has its best child's values. `everything`
        keeps what is the same.
        """
        from mlfn.sweep.results.compare import compare_children, compare_sweeps

        sweeps = [other for other in others if isinstance(other, SweepRun)]
        if sweeps and len(sweeps) < len(others):
            raise ParameterError(
                "compare() sets children beside each other, or sweeps: not one of them with the other."
            )
        if sweeps:
            compared = [(one._results, one._leader()) for one in dict.fromkeys([self, *sweeps])]
            return compare_sweeps(compared, everything=everything)
        children = self.children
        runs = [children[other] if type(other) is int else other for other in others]
        return compare_children(self._results, runs, everything=everything)

    def result(self, timeout: float | None = None) -> R:
        """Return what the best child returned; without a selector, a list of what all returned, in order.

        Where a condition or a timeout has ended the sweep (see `stop_reason`), of all that succeeded until then.

        Raises what the sweep failed with; without a selector, the exception of the first child that failed.
        """
        body = self._body
        if self._is_selected_anew and self.wait(timeout):
            return self.best.result()
        if body.select:
            return super().result(timeout)
        if not self.wait(timeout):
            return super().result(0)  # says that it still runs
        failure = self._exception()
        if failure is not None and (self.state is not RunState.FAILED or not body.mapped):
            raise failure
        states = () if self.stop_reason is None else (RunState.SUCCEEDED,)
        rows = self._session.store.children(self.id, states=states, strict=True)
        return cast("R", [self._child(row.run).result() for row in rows])

    def to_optuna(self, storage: str, *, name: str | None = None) -> str:
        """Copy the sweep into a storage of Optuna's, for optuna-dashboard and its kin; return the study's name.

        Parameters
        ----------
        storage: an URL, as in ``"sqlite:///sweep.db"``.
        name: the study's name, by default ``NAME-ID``.
        """
        from mlfn.sweep.optuna import to_optuna

        results = self._results
        results.need_selectors("study")
        directions = tuple(selector.direction for selector in results.selectors)
        metrics = tuple(str(selector) for selector in results.selectors)
        study = name or f"{self.name}-{self.id[:8]}"
        return to_optuna(results.reports(), results.spaces(), directions, storage, name=study, metrics=metrics)

    def resume(self) -> SweepRun[R]:
        """Resume a sweep whose process died: ended children are not run again, those that still run are followed to their end.

        A cancelled or failed sweep stays as it is: a new one is returned, which reuses the results of the children that
        succeeded. Raises SweepHeldError where a living process drives it.
        """
        state = self.state
        if state is RunState.SUCCEEDED:
            return self
        if state.is_terminal:
            return SweepRun(*repeat_sweep(self._session, self.record), session=self._session)
        # In the caller's own thread the sweep is terminal once it has been driven.
        if self._session.inflight(self.id) is None and self._driven() is None and not self.state.is_terminal:
            held = find_driver(self._session, self.record)
            if held is not None:
                raise SweepHeldError(
                    f"{self.name} ({self.id[:8]}) is driven by {held}: wait() for it here, or end that process first."
                )
        return self

    def rerun(self, /, **params: Any) -> Run[R]:
        """Refuse: a sweep is resumed, or described and submitted again; a child can be rerun."""
        raise ParameterError(
            f"{self.name} ({self.id[:8]}) is a sweep, and rerun() repeats single runs: resume() continues it (`mlfn "
            "sweep resume ID`), submit() of its description begins it anew, and each of its children can be rerun."
        )

    def promote(self, tag: str) -> Version[Run[R]]:
        """Refuse: a version repeats one call, and a sweep is many; promote one of its children."""
        raise ParameterError(
            f"{self.name} ({self.id[:8]}) is a sweep: promote one of its children, as in "
            f"sweep.best.promote(tag={tag!r}), or sweep.children[1].promote(tag={tag!r})."
        )

    @overload
    def logs(self, *, follow: Literal[False] = ..., attempt: int | None = ..., rank: int | None = ...) -> str: ...
    @overload
    def logs(self, *, follow: Literal[True], attempt: int | None = ..., rank: int | None = ...) -> Iterator[str]: ...
    def logs(self, *, follow: bool = False, attempt: int | None = None, rank: int | None = None) -> Iterator[str] | str:
        """Return what its children wrote, in the order of their numbers, each line after its child's: ``[3] epoch 1``.

        With `follow`, an iterator that yields each child's log as that ends. A sweep itself writes nothing.
        """
        for option, value in (("attempt", attempt), ("rank", rank)):
            if value is not None:
                raise ParameterError(
                    f"{self.name} ({self.id[:8]}) is a sweep: logs({option}={value!r}) is of one child, as in "
                    f"sweep.children[1].logs({option}={value!r})."
                )
        if follow:
            return self._logs_of(self._as_they_end())
        return "".join(self._logs_of(self._children([row.run for row in self._session.store.children(self.id)])))

    def _logs_of(self, children: Iterable[Run[R]]) -> Iterator[str]:
        for child in children:
            yield from numbered([child.logs()], child.iteration)

    def __iter__(self) -> Iterator[Any]:
        """Yield its children as they end; of a map, what they returned, in order."""
        return self._in_order() if self._body.mapped else self._as_they_end()

    def __len__(self) -> int:
        """How many children it will have, or has where that is unknown."""
        size = self._body.size
        return size if size is not None else len(self._session.store.children(self.id))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        counts = self._session.store.child_counts(self.id)
        counted = ", ".join(f"{count} {state}" for state, count in counts.items())
        return f"<mlfn.SweepRun {self.id[:8]} {self.name} {self.state}: {counted or 'no children yet'}>"

    def _exception(self) -> BaseException | None:
        error = super()._exception()
        if type(error) is SweepError and error.__cause__ is None:
            first = next(iter(self._session.store.children(self.id, states=[RunState.FAILED])), None)
            error.__cause__ = self._child(first.run).exception() if first is not None else None
        return error

    @cached_property
    def _body(self) -> SweepBody:
        return SweepBody.from_json(self._session.store.get_sweep_body(self.id))

    def _driven(self) -> InflightRun | None:
        self._session.reconcile()
        record = self.record
        if record.state.is_terminal or (record.state is RunState.RUNNING and self._session.owner_lives(record.owner)):
            return None
        return resume_sweep(self._session, record)

    @property
    def _results(self) -> SweepResults:
        return SweepResults(self._session, self.record, self._body)

    def _leader(self) -> Run[R] | None:
        leader = self._results.best()
        return None if leader is None else self._child(leader.run)

    def _as_they_end(self) -> Iterator[Run[R]]:
        seen: set[str] = set()
        while True:
            over = self.done()  # before reading, so that no child is missed
            for row in self._session.store.children(self.id):
                if row.state.is_terminal and row.run not in seen:
                    seen.add(row.run)
                    yield from self._children([row.run])
            if over:
                return
            self.wait(_POLL)

    def _in_order(self) -> Iterator[R]:
        number = yielded = 0
        while True:
            over = self.done()
            rows = self._session.store.children(self.id, strict=True)
            while number < len(rows) and rows[number].state.is_terminal:
                if rows[number].state is RunState.CANCELLED:
                    if not over:
                        break  # the reason is known when the sweep is over
                    if self.stop_reason is not None:
                        number += 1
                        continue
                number, yielded = number + 1, yielded + 1
                yield self._child(rows[number - 1].run).result()
            if over:
                failure = self._exception()
                if failure is not None and yielded < len(self):
                    raise failure
                return
            self.wait(_POLL)
