"""The children of a run, as a sequence that counts as they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from mlfn.errors import NotFoundError
from mlfn.handles.outputs import AnyRun
from mlfn.spec.record import RunRecord
from mlfn.store.sweeps import ChildRow

H = TypeVar("H")  # the handle of a child


class Children(Sequence[H], Generic[H]):
    """A run's children, counted from 1 as their iterations are; iterated, the first one first."""

    def __init__(self, parent: AnyRun, rows: Sequence[ChildRow], handle: Callable[[RunRecord], H]) -> None:
        self._parent = parent
        self._store = parent.__mlfn_session__.store
        self._rows = list(rows)
        self._handle = handle

    def __getitem__(self, iteration: Any) -> Any:
        if isinstance(iteration, slice):
            wanted = self._range(iteration)
            return self._readable([row.run for row in self._rows if row.iteration in wanted])
        run = next((row.run for row in self._rows if row.iteration == iteration), None)
        if run is None and isinstance(iteration, int):  # one that cannot be read is not among the rows
            run = self._store.child_at(self._parent.id, iteration)
        if run is not None:
            return self._handle(self._store.get_run(run))
        raise NotFoundError(
            f"{self._parent.name} has no child {iteration!r}: "
            + (f"numbers go from 1 to {self._last} so far." if self._rows else "it has none so far.")
        )

    def __iter__(self) -> Iterator[H]:
        for row in self._rows:
            yield from self._readable([row.run])

    def _readable(self, runs: Sequence[str]) -> list[H]:
        return [self._handle(record) for record in self._store.readable_runs(runs).values()]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        counts = Counter(row.state.value for row in self._rows)
        return f"<{len(self)} children: {', '.join(f'{n} {state}' for state, n in counts.items()) or 'none yet'}>"

    @property
    def _last(self) -> int:
        return self._rows[-1].iteration if self._rows else 0

    def _range(self, wanted: slice) -> range:
        return range(wanted.start or 1, self._last + 1 if wanted.stop is None else wanted.stop, wanted.step or 1)
