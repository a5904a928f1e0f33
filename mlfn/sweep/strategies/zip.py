"""Lists in step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.errors import ParameterError
from mlfn.sweep.strategies.cells import ListedCells


class Zip(ListedCells):
    """The first value of each key, then the second of each, and so on.

    >>> list(Zip({"depth": [4, 8], "lr": [0.3, 0.1]}))
    [{'depth': 4, 'lr': 0.3}, {'depth': 8, 'lr': 0.1}]
    """

    name = "zip"

    def __init__(self, values: Mapping[str, Sequence[Any]]) -> None:
        super().__init__(values)
        lengths = {key: len(items) for key, items in self.values.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} has {count}" for key, count in lengths.items())
            raise ParameterError(
                f"Lists that are zipped must be equally long: {shown}. Correct the lists, or write grid for every combination."
            )

    @property
    def _whole_size(self) -> int:
        return len(next(iter(self.values.values())))

    def _params(self, position: int) -> dict[str, Any]:
        return {key: items[position] for key, items in self.values.items()}
