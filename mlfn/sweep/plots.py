"""`SweepRun.plot`: figures of what came of a sweep, for grids as for searches."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError, NotFoundError, OptionError, SweepError, nearest
from mlfn.identity import now
from mlfn.spec.record import RunState
from mlfn.store.families import ChildRow
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.picture import Lines, arrange
from mlfn.sweep.selection import best
from mlfn.sweep.space import Space
from mlfn.sweep.standing import Standing
from mlfn.sweep.strategy import Told

if TYPE_CHECKING:
    from mlfn.sweep.sweep_run import SweepRun

KINDS: Mapping[str, str] = {
    "parallel": "a line a child across its parameters and the metric",
    "history": "the metric by number, and the best so far",
    "importance": "how much each parameter matters, by PED-ANOVA",
    "slice": "the metric by each parameter",
    "contour": "the metric over each two of the parameters, the four most important where there are more",
    "pareto": "two or three metrics against each other",
    "timeline": "when each child ran",
    "edf": "which share of the children is at least so good",
    "intermediate": "the series of the metric, a line a child",
}
_OF_ALL = ("pareto", "importance")  # where several metrics are shown beside each other
_MOST_LINES = 10_000
_STATIC = (".png", ".svg", ".pdf")
_COLOURS = {
    RunState.SUCCEEDED: "#3079a8",
    RunState.RUNNING: "#8ab4d8",
    RunState.FAILED: "#c0392b",
    RunState.PRUNED: "#d9902f",
    RunState.CANCELLED: "#8a939c",
}


def plot(
    sweep: SweepRun[Any],
    kind: str,
    *,
    params: str | Sequence[str] | None,
    metric: str | None,
    path: str | os.PathLike[str] | None,
    static: bool,
) -> Any:
    """Return a figure, and write it to `path` where one is given."""
    if isinstance(params, str):
        params = (params,)
    if kind not in KINDS:
        raise OptionError(f"plot({kind!r}): {nearest(str(kind), KINDS)}")
    target = None if path is None else Path(path)
    suffix = "" if target is None else target.suffix.lower()
    if target is not None and suffix not in (*_STATIC, ".html"):
        raise OptionError(f"plot(path={str(target)!r}): a name that ends in .png, .svg, .pdf or .html is allowed.")
    if target is not None and not target.parent.is_dir():
        raise OptionError(f"plot(path={str(target)!r}): there is no folder {str(target.parent)!r}; make it first.")
    if target is not None:
        static = suffix in _STATIC
    _need("matplotlib" if static else "plotly", kind)
    with _aside(static=static):
        if kind == "timeline":
            figure = _timeline(sweep, static=static)
        elif kind == "parallel":
            lines = _lines(sweep, params, metric)
            figure = _static_lines(lines) if static else _plotly_lines(lines)
        else:
            figure = _drawn(sweep, kind, params, metric, static=static)
        if target is not None and static:
            figure.savefig(target, dpi=150, bbox_inches="tight")
        elif target is not None:
            figure.write_html(target)
    return figure


def tolds_of(sweep: SweepRun[Any], *, series: bool = False) -> list[Told]:
    """Return a sweep's children as a strategy is told of them."""
    client, body = sweep._client, sweep._body
    selectors = sweep._selectors
    rows = client.store.children(sweep.id)
    conditions = sweep._subject_to
    standing = Standing(client.store, selectors, conditions, series=selectors[0].name if series else body.judged)
    points = PointCodec(client.codec(), sweep.id)
    children = standing.children(rows, client.store.family_scores(sweep.id))
    return [
        Told(
            child.iteration,
            points.point(row.point),
            child.state if child.state.is_terminal else RunState.RUNNING,
            child.numbers,
            child.series,
            child.constraints,
        )
        for row, child in zip(rows, children, strict=True)
    ]


def spaces_of(sweep: SweepRun[Any]) -> dict[str, Space]:
    """Return the spaces that a sweep draws from, by key; none of a grid."""
    points = PointCodec(sweep._client.codec(), sweep.id)
    listed = sweep._body.strategy["data"].get("spaces", ())
    return {key: Space.from_json(data, points.decode) for key, data in listed}


def _drawn(sweep: SweepRun[Any], kind: str, params: Sequence[str] | None, metric: str | None, *, static: bool) -> Any:
    from mlfn.sweep.optuna.figures import Figures
    from mlfn.sweep.optuna.loading import require_optuna

    sweep._need_selectors(f"plot of kind {kind!r}")
    require_optuna(f"plot({kind!r})")
    selectors = sweep._selectors
    if kind == "pareto" and metric is not None:
        raise OptionError("plot('pareto', metric=...): all selected metrics are set against each other; leave it out.")
    if kind == "pareto" and len(selectors) not in (2, 3):
        raise SweepError(
            f"plot('pareto') sets two or three metrics against each other, and {sweep.name} ({sweep.id[:8]}) has select="
            f"{list(map(str, selectors))!r}; plot('history') shows one."
        )
    tolds = tolds_of(sweep, series=kind == "intermediate")
    if not any(told.values for told in tolds) and kind != "intermediate":
        raise SweepError(
            f"{sweep.name} ({sweep.id[:8]}) has nothing to plot: no child has succeeded yet with a finite {selectors[0].name!r}."
        )
    if kind == "intermediate" and not any(told.series for told in tolds):
        raise SweepError(
            f"plot('intermediate') draws series, and no child logged {selectors[0].name!r} by ctx.log_metric(..., step=)."
        )
    _refuse_unknown(params, {key for told in tolds for key in told.params})
    figures = Figures(
        tolds,
        spaces_of(sweep),
        [selector.direction for selector in selectors],
        [selector.name for selector in selectors],
        objective=_objective(sweep, metric) if kind in _OF_ALL or metric is not None else 0,
    )
    return figures.draw(kind, params=params, static=static)


def _lines(sweep: SweepRun[Any], params: Sequence[str] | None, metric: str | None) -> Lines:
    """Return parallel coordinates as the stored picture has them."""
    if metric is not None:
        sweep._need_selectors("metric to choose")
    table = sweep._table()
    at = _objective(sweep, metric)
    select = sweep._body.select if at is None else sweep._body.select[at : at + 1]
    if params is not None:
        _refuse_unknown(params, table.params)
        table = replace(table, params=tuple(params))
    lines = arrange(table, select, _best_of(sweep), most=_MOST_LINES)
    if lines is None:
        wanted = repr(sweep._selectors[0].name) if sweep._selectors else "number"
        raise SweepError(
            f"{sweep.name} ({sweep.id[:8]}) has nothing to plot: two children at least must have different parameters, and one "
            f"a finite {wanted}."
        )
    return lines


def _best_of(sweep: SweepRun[Any]) -> int | None:
    try:
        leader = best(sweep._standing_children(), sweep._selectors)
    except OptionError:  # a metric that nobody reports
        return None
    return leader.iteration if leader is not None else None


def _plotly_lines(lines: Lines) -> Any:
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
    low, high = (lines.measured.ticks[0], lines.measured.ticks[-1])
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
            "ticktext": (low[1], high[1]) if lines.rising else (high[1], low[1]),
        },
    }
    figure = go.Figure(go.Parcoords(dimensions=axes, line=color))
    notes = "".join(f"<br><sup>{escape(note)}</sup>" for note in lines.notes[:2])
    return figure.update_layout(title=f"Parallel coordinates{notes}", margin={"t": 140, "l": 90})


def _static_lines(lines: Lines) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 1.7 * len(lines.axes)), 4.8), layout="constrained")
    _draw_lines(figure.subplots(), lines)
    return figure


def _draw_lines(axes: Any, lines: Lines) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    shades = colormaps["viridis_r"]
    leads = [row == lines.best for row in lines.shown]
    order = sorted(range(len(leads)), key=leads.__getitem__)  # the best one on top
    shares = [lines.share(at) for at in order]
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
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for place, axis in enumerate(lines.axes):
        axes.vlines(place, 0, 1, color="#8a939c", linewidth=1, zorder=4)
        for height, text in axis.ticks:
            axes.text(place - 0.03, height, text[:16], ha="right", va="center", fontsize=8, zorder=5, bbox=halo)
        name = f"{axis.name} (log)" if axis.is_log else axis.name
        axes.text(place, 1.05, name if len(name) <= 18 else f"…{name[-17:]}", ha="center", fontweight="bold")
    axes.set(xlim=(-0.5, len(lines.axes) - 0.8), ylim=(-0.04, 1.1))
    axes.axis("off")
    axes.set_title("\n".join(lines.notes[:1]), fontsize=9, y=-0.08)


def _objective(sweep: SweepRun[Any], metric: str | None) -> int | None:
    names = [selector.name for selector in sweep._selectors]
    if metric is None:
        return None
    if metric not in names:
        raise NotFoundError(f"plot(metric={metric!r}): {nearest(metric, names)}")
    return names.index(metric)


def _refuse_unknown(params: Sequence[str] | None, known: Collection[str]) -> None:
    for name in params or ():
        if name not in known:
            raise NotFoundError(f"plot(params={list(params or ())!r}): {name!r} is not swept. {nearest(name, known)}")


def _timeline(sweep: SweepRun[Any], *, static: bool) -> Any:
    rows = [row for row in sweep._rows() if row.started is not None]
    if not rows:
        raise SweepError(f"{sweep.name} ({sweep.id[:8]}) has no timeline: no child has started yet.")
    bars = _bars(rows)
    title = f"When the children of {sweep.name} ran"
    return _static_timeline(bars, title) if static else _plotly_timeline(bars, title)


Bar = tuple[int, float, float]


def _bars(rows: Sequence[ChildRow]) -> dict[RunState, list[Bar]]:
    """Return (number, start, end) of each child in seconds since the first one started, by state."""
    began = min(row.started for row in rows if row.started is not None)
    bars: dict[RunState, list[Bar]] = {}
    for row in rows:
        if row.started is not None:
            end = row.ended if row.ended is not None else now()
            bars.setdefault(row.state, []).append((row.iteration, row.started - began, end - began))
    return bars


def _plotly_timeline(bars: Mapping[RunState, Sequence[Bar]], title: str) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for state, some in bars.items():
        # One trace a state, its lines apart: ten thousand bars would be ten thousand shapes.
        xs: list[float | None] = []
        ys: list[int | None] = []
        said: list[str] = []
        for number, start, end in some:
            xs += [start, end, None]
            ys += [number, number, None]
            said += [f"child {number}: {start:.3f} to {end:.3f} s, {state}"] * 3
        line = {"width": _thickness(bars), "color": _COLOURS.get(state, "#59636e")}
        figure.add_trace(
            go.Scattergl(x=xs, y=ys, mode="lines", name=str(state), line=line, text=said, hoverinfo="text")
        )
    figure.update_layout(
        title=title, xaxis_title="seconds since the first child started", yaxis_title="child", showlegend=True
    )
    return figure


def _static_timeline(bars: Mapping[RunState, Sequence[Bar]], title: str) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for state, some in bars.items():
        numbers, starts, ends = zip(*some, strict=True)
        axes.hlines(
            numbers, starts, ends, colors=_COLOURS.get(state, "#59636e"), linewidth=_thickness(bars), label=str(state)
        )
    axes.set(title=title, xlabel="seconds since the first child started", ylabel="child")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")  # bars go from lower left to upper right, few begin late and low
    return figure


def _thickness(bars: Mapping[RunState, Sequence[Bar]]) -> float:
    return max(1.0, min(10.0, 220 / sum(map(len, bars.values()))))


def _need(library: str, kind: str) -> None:
    if importlib.util.find_spec(library) is not None:
        return
    other = (
        f"; plot({kind!r}, static=True) draws by matplotlib"
        if library == "plotly" and importlib.util.find_spec("matplotlib") is not None
        else ""
    )
    raise MissingExtraError(f"plot({kind!r}) needs {library}: pip install 'mlfn[plots]'{other}")


@contextmanager
def _aside(*, static: bool) -> Iterator[None]:
    """Leave matplotlib's style as it is, which Optuna sets for all figures, and none open that a notebook would show again."""
    if not static:
        yield
        return
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
