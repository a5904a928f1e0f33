"""Sweeps of rows that are listed: each child's parameters by themselves, and not all need have the same keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlfn.errors import ParameterError
from mlfn.sweep.cells import Cells, refuse_overlap
from mlfn.sweep.listing import short

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

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of all rows, in the order in which they come up."""
        return tuple(dict.fromkeys(key for row in self for key in row))

    def _see(self, iterations: range) -> None:
        super()._see(iterations)
        vars(self).pop("keys", None)  # a view has those of its own rows

    @property
    def _whole_size(self) -> int:
        return len(self.rows)

    def _params(self, position: int) -> dict[str, Any]:
        return _checked(self.rows[position], position + 1)

    def _arguments(self) -> Iterator[str]:
        yield short([self.rows[position] for position in range(min(_SHOWN, len(self.rows)))])

    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        # Pairs, for a database may not keep the order of an object's keys.
        numbered = enumerate(self.rows, 1)
        return {"rows": [[[key, encode(v)] for key, v in _checked(row, number).items()] for number, row in numbered]}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        return cls([{key: decode(value) for key, value in row} for row in data["rows"]])


def _checked(row: Any, iteration: int) -> dict[str, Any]:
    """Return a copy of a row; refuse what cannot be one."""
    if not isinstance(row, Mapping) or not all(isinstance(key, str) and all(key.split(".")) for key in row):
        raise ParameterError(
            f"The parameters of child {iteration} are {short(row)}: a mapping by name is allowed, as in {{'depth': 4}}."
        )
    try:
        refuse_overlap(row)
    except ParameterError as error:
        raise ParameterError(f"child {iteration}: {error}") from None
    return dict(row)
