"""The figures of a sweep that are drawn without Optuna: by plotly, or by matplotlib for files and where no browser is at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from mlfn.errors import SweepError
from mlfn.host.frozen import frozen
from mlfn.host.identity import now
from mlfn.host.imports import import_whole
from mlfn.spec.record import RunState
from mlfn.sweep.results.parallel_coordinates import Lines
from mlfn.sweep.results.scales import Axis, cut_end, cut_start
from mlfn.sweep.results.sweep_results import SweepResults

_HALO = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
_COLOURS = {
    RunState.SUCCEEDED: "#3079a8",
    RunState.PENDING: "#59636e",
    RunState.RUNNING: "#8ab4d8",
    RunState.FAILED: "#c0392b",
    RunState.PRUNED: "#d9902f",
    RunState.CANCELLED: "#8a939c",
}


def parallel_coordinates(lines: Lines) -> Any:
    """Return one line a child across its axes."""
    import_whole("plotly")
    import plotly.graph_objects as go

    axes = [
        {
            "label": axis.name,
            "values": axis.places,
            "range": (0, 1),
            "tickvals": [at for at, _ in axis.ticks],
            "ticktext": [text for _, text in axis.ticks],
        }
        for axis in lines.axes
    ]
    shares = [lines.share(at) for at in range(len(lines.shown))]
    ends = (lines.measured.ticks[0][1], lines.measured.ticks[-1][1])
    color = {
        "color": [-0.1 if share is None else share for share in shares],
        "colorscale": "Viridis",
        "reversescale": True,
        "showscale": True,
        "cmin": 0,
        "cmax": 1,
        "colorbar": {
            "title": lines.measured.name,
            "tickvals": (0, 1),
            "ticktext": ends if lines.rising else ends[::-1],
        },
    }
    figure = go.Figure(go.Parcoords(dimensions=axes, line=color))
    notes = "".join(f"<br><sup>{escape(note)}</sup>" for note in lines.notes[:2])
    return figure.update_layout(title=f"Parallel coordinates{notes}", margin={"t": 140, "l": 90})


def static_parallel_coordinates(lines: Lines) -> Any:
    """Return one line a child across its axes, the best one on top."""
    import_whole("matplotlib")
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 1.7 * len(lines.axes)), 4.8), layout="constrained")
    axes = figure.subplots()
    leads = [row == lines.best for row in lines.shown]
    found = [lines.share(at) for at in range(len(leads))]
    order = sorted(range(len(leads)), key=lambda at: (leads[at], -1 if found[at] is None else found[at]))
    shares = [found[at] for at in order]
    shades = colormaps["viridis_r"]
    drawn = LineCollection(  # at once: ten thousand lines, each by itself, take seconds
        [[(place, axis.places[at]) for place, axis in enumerate(lines.axes)] for at in order],
        colors=[
            "#c2410c" if leads[at] else "#bbbbbb" if share is None else shades(share)
            for at, share in zip(order, shares, strict=True)
        ],
        linestyles=["--" if share is None else "-" for share in shares],
        linewidths=[3 if leads[at] else 0.9 for at in order],
    )
    axes.add_collection(drawn)
    for place, axis in enumerate(lines.axes):
        _draw_axis(axes, place, axis)
    axes.set(xlim=(-0.5, len(lines.axes) - 0.8), ylim=(-0.04, 1.1))
    axes.axis("off")
    axes.set_title("\n".join(lines.notes[:1]), fontsize=9, y=-0.08)
    return figure


def _draw_axis(axes: Any, place: int, axis: Axis) -> None:
    axes.vlines(place, 0, 1, color="#8a939c", linewidth=1, zorder=4)
    for height, text in axis.ticks:
        axes.text(place - 0.03, height, cut_end(text, 16), ha="right", va="center", fontsize=8, zorder=5, bbox=_HALO)
    axes.text(place, 1.05, cut_start(axis.title, 18), ha="center", fontweight="bold")


@frozen
class Timeline:
    """The bars by state: (number, start, end) of each child, in seconds since the first one started."""

    title: str
    bars: Mapping[RunState, Sequence[tuple[int, float, float]]]

    @property
    def width(self) -> float:
        """How thick a bar is, in pixels."""
        return max(1.0, min(10.0, 220 / sum(map(len, self.bars.values()))))


def timeline_of(results: SweepResults) -> Timeline:
    """Return the bars of all children that have started."""
    started = [(row, row.started) for row in results.rows() if row.started is not None]
    if not started:
        raise SweepError(f"{results.label} has no timeline: no child has started yet.")
    first = min(start for _, start in started)
    bars: dict[RunState, list[tuple[int, float, float]]] = {}
    for row, start in started:
        end = row.ended if row.ended is not None else now()
        bars.setdefault(row.state, []).append((row.iteration, start - first, end - first))
    return Timeline(f"When the children of {results.record.name} ran", bars)


def timeline(shown: Timeline) -> Any:
    """Return one bar a child."""
    import_whole("plotly")
    import plotly.graph_objects as go

    figure = go.Figure()
    for state, some in shown.bars.items():
        # One trace a state, its lines apart: ten thousand bars would be ten thousand shapes.
        figure.add_scattergl(
            x=[x for _, start, end in some for x in (start, end, None)],
            y=[y for number, _, _ in some for y in (number, number, None)],
            text=[f"child {n}: {start:.3f} to {end:.3f} s, {state}" for n, start, end in some for _ in range(3)],
            mode="lines",
            name=str(state),
            line={"width": shown.width, "color": _COLOURS[state]},
            hoverinfo="text",
        )
    return figure.update_layout(
        title=shown.title, xaxis_title="seconds since the first child started", yaxis_title="child", showlegend=True
    )


def static_timeline(shown: Timeline) -> Any:
    """Return one bar a child."""
    import_whole("matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for state, some in shown.bars.items():
        numbers, starts, ends = zip(*some, strict=True)
        axes.hlines(numbers, starts, ends, colors=_COLOURS[state], linewidth=shown.width, label=str(state))
    axes.set(title=shown.title, xlabel="seconds since the first child started", ylabel="child")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")  # bars go from lower left to upper right, few begin late and low
    return figure


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the style, which Optuna sets for all figures, and close new figures, which a notebook would show again."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that labels were given less room than they would like
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - set(before):
                plt.close(number)
