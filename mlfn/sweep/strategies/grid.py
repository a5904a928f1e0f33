"""Every combination of lists."""

from __future__ import annotations

import math
from typing import Any

from mlfn.sweep.strategies.cells import ListedCells


class Grid(ListedCells):
    """Every combination of the values; the first key varies fastest.

    >>> list(Grid({"depth": [4, 8], "lr": [0.3, 0.1]}))
    [{'depth': 4, 'lr': 0.3}, {'depth': 8, 'lr': 0.3}, {'depth': 4, 'lr': 0.1}, {'depth': 8, 'lr': 0.1}]
    """

    name = "grid"

    @property
    def _whole_size(self) -> int:
        return math.prod(map(len, self.values.values()))

    def _params(self, position: int) -> dict[str, Any]:
        params = {}
        for key, items in self.values.items():
            position, index = divmod(position, len(items))
            params[key] = items[index]
        return params
