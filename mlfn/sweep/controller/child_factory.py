"""Makes child runs of the points that a strategy chose, and finds finished runs whose outcome they can reuse."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mlfn.dispatch.session import Session
from mlfn.host.identity import new_id, now
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.store.sweeps import ChildRow
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.spec import SweepBody


def submitted_like(
    record: RunRecord, session: Session, params: Mapping[str, Any], *, run: str, **more: Any
) -> Submitted:
    """Return a new run of the function, plan and place of another one."""
    return Submitted(
        run=run,
        name=record.name,
        project=record.project,
        function=record.function,
        plan=record.plan,
        place=record.place,
        owner=session.id,
        params=params,
        time=now(),
        labels=record.labels,
        **more,
    )


class ChildFactory:
    """Makes the children of one sweep, under the lease of one driver."""

    def __init__(self, session: Session, record: RunRecord, body: SweepBody, points: PointCodec) -> None:
        self._session, self._record, self._body, self._points = session, record, body, points

    def make(self, iteration: int, point: Mapping[str, Any]) -> Submitted:
        """Return the child of this number, ready to be stored."""
        run, record, body = new_id(), self._record, self._body
        params = self._points.checked(body, point)
        stored = self._points.encode(run, point)
        # A value that checking has changed, such as a text that names a file, is submitted as what it became.
        made = {key: value for key, value in params.items() if key not in stored or value is not point[key]}
        encoded = {**body.fixed, **{key: stored[key] for key in params if key in stored and key not in made}}
        encoded.update(self._points.encode(run, made))
        return submitted_like(
            record,
            self._session,
            encoded,
            run=run,
            parent=record.id,
            iteration=iteration,
            point=stored,
            memo=self._points.memo(encoded) if body.memo else None,
            driver=record.attempt,
        )

    def find_reusable(self, child: Submitted) -> str | None:
        """Return a run that succeeded with the same function and parameters, where its outcome may be reused."""
        former = self._former.get(child.iteration)
        if former is not None and former.point == child.point:
            return former.reused or former.run
        return self._session.store.find_finished(child.function, child.memo) if child.memo else None

    @cached_property
    def _former(self) -> Mapping[int, ChildRow]:
        """The children that succeeded in the sweep that this one repeats."""
        if self._body.after is None:
            return {}
        return {
            row.iteration: row for row in self._session.store.children(self._body.after, states=(RunState.SUCCEEDED,))
        }
