"""The children of a run, as a sequence that counts as they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mlfn.errors import NotFoundError
from mlfn.store.families import ChildRow

if TYPE_CHECKING:
    from mlfn.handle import Run

R = TypeVar("R")


class Children(Sequence["Run[R]"]):
    """A run's children, counted from 1 as their iterations are; iterated, the first one first."""

    def __init__(self, parent: Run[R], rows: Sequence[ChildRow]) -> None:
        self._parent = parent
        self._rows = list(rows)

    def __getitem__(self, iteration: Any) -> Any:
        if isinstance(iteration, slice):
            wanted = self._range(iteration)
            return self._parent._children([row.run for row in self._rows if row.iteration in wanted])
        run = next((row.run for row in self._rows if row.iteration == iteration), None)
        if run is None and isinstance(iteration, int):  # one that cannot be read is not among the rows
            run = self._parent._client.store.child_at(self._parent.id, iteration)
        if run is not None:
            return self._parent._child(run)
        raise NotFoundError(
            f"{self._parent.name} has no child {iteration!r}: "
            + (f"numbers go from 1 to {self._last} so far." if self._rows else "it has none so far.")
        )

    def __iter__(self) -> Iterator[Run[R]]:
        for row in self._rows:
            yield from self._parent._children([row.run])

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
