"""Listed rows: each child has its own mapping of parameters, whose keys may differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import ParameterError
from mlfn.sweep.params.listed import short
from mlfn.sweep.strategies.cells import Cells, checked_point, refuse_overlap

if TYPE_CHECKING:
    from typing_extensions import Self

_SHOWN = 7  # one more than a repr shows


class Rows(Cells):
    """Mappings of parameters, one a child.

    A list is copied, once; another sequence is kept as it is, and read when a row is asked for.

    >>> list(Rows([{"depth": 4}, {"depth": 8, "lr": 0.1}]))
    [{'depth': 4}, {'depth': 8, 'lr': 0.1}]
    """

    name = "rows"

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        is_list = isinstance(rows, (list, tuple))
        self.rows = tuple(_checked(row, number) for number, row in enumerate(rows, 1)) if is_list else rows
        super().__init__(len(rows))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all rows, in the order of their first use."""
        return tuple(dict.fromkeys(key for row in self for key in row))

    @property
    def _whole_size(self) -> int:
        return len(self.rows)

    def _params(self, position: int) -> dict[str, Any]:
        return _checked(self.rows[position], position + 1)

    def _arguments(self) -> Iterator[str]:
        yield short([self.rows[position] for position in range(min(_SHOWN, len(self.rows)))])

    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        # Pairs: a database may not keep the order of an object's keys.
        numbered = enumerate(self.rows, 1)
        return {"rows": [[[key, encode(v)] for key, v in _checked(row, number).items()] for number, row in numbered]}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        return cls([{key: decode(value) for key, value in row} for row in data["rows"]])


def _checked(row: Any, iteration: int) -> dict[str, Any]:
    """Return a copy of a row; raise ParameterError unless it is a mapping by name, of which no two name the same."""
    point = checked_point(row, iteration)
    try:
        refuse_overlap(point)
    except ParameterError as error:
        raise ParameterError(f"child {iteration}: {error}") from None
    return point
