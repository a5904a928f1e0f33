"""A series as a small SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

_WIDTH, _HEIGHT = 132, 22  # of a sparkline, in pixels


def sparkline(values: Sequence[float]) -> str:
    """Return a series as a line; where a value is no number, the line has a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high, room = min(finite), max(finite), _HEIGHT - 6
    step = (_WIDTH - 6) / max(1, len(values) - 1)
    # Halved, so that the span of two huge numbers is still a number.
    span = high / 2 - low / 2
    lines, x, y = "", 0.0, 0.0
    for is_drawn, stretch in groupby(enumerate(values), key=lambda point: math.isfinite(point[1])):
        if not is_drawn:
            continue
        points = []
        for place, value in stretch:
            height = room * ((value / 2 - low / 2) / span) if span else room / 2
            x, y = round(3 + place * step, 1), round(_HEIGHT - 3 - height, 1)
            points.append(f"{x},{y}")
        if len(points) > 1:
            lines += f'<polyline points="{" ".join(points)}"/>'
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="from {low:.4g} to {high:.4g}"><g fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linejoin="round" stroke-linecap="round">{lines}</g><circle cx="{x}" cy="{y}" r="2.2" fill="currentColor"/></svg>'
    )
