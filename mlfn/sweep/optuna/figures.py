"""Optuna's figures of a study: by plotly, or by matplotlib for files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.errors import OptionError, SweepError
from mlfn.sweep.optuna.loading import quiet, require_optuna
from mlfn.sweep.optuna.study import importances, of_one, study_of
from mlfn.sweep.results.sweep_results import SweepResults, refuse_unknown
from mlfn.sweep.results.table import evenly
from mlfn.sweep.spaces.distributions import Space
from mlfn.sweep.strategy import Told

MOST_IN_CONTOUR = 300  # children: a plane has a cell for each two values that were seen
MOST_SERIES = 200
MOST_PARAMS = 4  # in a contour, which has a plane for each two of them

_NAMES = {
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "slice": "plot_slice",
    "contour": "plot_contour",
    "pareto": "plot_pareto_front",
    "edf": "plot_edf",
    "intermediate": "plot_intermediate_values",
}
_WITH_PARAMS = ("importance", "slice", "contour")
_WITH_NAME = ("history", "slice", "contour", "edf")
_LONGEST_LEGEND = 12


def draw(results: SweepResults, kind: str, params: Sequence[str] | None, objective: int | None, *, static: bool) -> Any:
    """Return a plotly Figure, or with `static` one of matplotlib; `objective` is the place of the selector that counts.

    Without an objective, all the selectors count.
    """
    results.need_selectors(f"plot of kind {kind!r}")
    require_optuna(f"plot({kind!r})")
    ends, selectors, spaces = results.reports(series=kind == "intermediate"), results.selectors, results.spaces()
    _refuse_nothing(results, kind, ends, objective)
    refuse_unknown(params, {key for end in ends for key in end.params})
    if objective is not None and len(selectors) > 1:
        ends, selectors = of_one(ends, objective), selectors[objective : objective + 1]
    directions, metrics = [one.direction for one in selectors], [one.name for one in selectors]
    drawn: Sequence[Told] = ends
    notes = []
    if kind == "importance":
        _need_two_values(ends)
    if kind == "intermediate":
        drawn = _thinned([end for end in ends if end.series], MOST_SERIES)
    names = list(dict.fromkeys(key for end in ends for key in end.params))
    if kind == "contour":
        drawn = _thinned(ends, MOST_IN_CONTOUR)
        if params is None:
            params = names if len(names) <= MOST_PARAMS else _most_important(ends, names, spaces, directions)
        if len(params) < len(names):
            notes.append(f"the parameters {', '.join(params)}")
        if len(drawn) < len(ends):
            notes.append(f"{len(drawn):,} of {len(ends):,} children, evenly from the worst to the best")
    given: dict[str, Any] = {"params": params and list(params)} if kind in _WITH_PARAMS else {}
    if kind in _WITH_NAME:
        given["target_name"] = metrics[0]
    # Numbers as the children have them, and not from 0.
    study = study_of(drawn, spaces, directions, metrics=metrics, first=1)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a figure is experimental
        from optuna import visualization

        figure = getattr(visualization.matplotlib if static else visualization, _NAMES[kind])(study, **given)
    if not static:
        return _finished(figure, notes)
    columns = len(params or names) if kind in ("slice", "contour") else 0
    return _finished_static(figure, notes, columns, rows=columns if kind == "contour" else 1)


def _refuse_nothing(results: SweepResults, kind: str, ends: Sequence[Told], objective: int | None) -> None:
    """Refuse a figure that would have nothing to show."""
    selectors = results.selectors
    if kind == "pareto" and objective is not None:
        raise OptionError("plot('pareto', metric=...): all selected metrics are set against each other; leave it out.")
    if kind == "pareto" and len(selectors) not in (2, 3):
        raise SweepError(
            f"plot('pareto') sets two or three metrics against each other, and {results.label} has select="
            f"{list(map(str, selectors))!r}; plot('history') shows one."
        )
    if kind == "intermediate" and not any(end.series for end in ends):
        raise SweepError(
            f"plot('intermediate') draws series, and no child logged {selectors[0].name!r} by ctx.log_metric(..., step=)."
        )
    if kind != "intermediate" and not any(end.values for end in ends):
        raise SweepError(
            f"{results.label} has nothing to plot: no child has succeeded yet with a finite {selectors[0].name!r}."
        )


def _need_two_values(ends: Sequence[Told]) -> None:
    values = {end.values for end in ends if end.values}
    if len(values) < 2:
        raise SweepError(
            f"Importance compares children: two at least must have succeeded with different values, and here "
            f"{'none has' if not values else 'all have the same'}. plot('history') shows what there is."
        )


def _most_important(
    ends: Sequence[Told], names: Sequence[str], spaces: Mapping[str, Space], directions: Sequence[str]
) -> list[str]:
    found = importances(ends, spaces, directions)
    return [*found, *(name for name in names if name not in found)][:MOST_PARAMS]


def _thinned(ends: Sequence[Told], most: int) -> Sequence[Told]:
    """Return children evenly from the lowest first value to the highest; a study orders them by number."""
    return evenly(sorted(ends, key=lambda end: end.values or ()), most)


def _finished(figure: Any, notes: Sequence[str]) -> Any:
    """Write "child" where Optuna writes "Trial", and the notes below the title."""
    figure.for_each_trace(_renamed)
    figure.for_each_xaxis(lambda axis: axis.update(title_text=_child(axis.title.text), exponentformat="power"))
    figure.for_each_yaxis(lambda axis: axis.update(exponentformat="power"))
    title = "<br>".join([str(figure.layout.title.text), *(f"<sup>{note}</sup>" for note in notes)])
    return figure.update_layout(title_text=title)


def _renamed(trace: Any) -> None:
    if trace.name is not None:
        trace.update(name=_child(trace.name))
    bar = getattr(getattr(trace, "marker", None), "colorbar", None)
    if bar is not None and bar.title.text:
        trace.marker.colorbar.title.text = _child(bar.title.text)


def _finished_static(found: Any, notes: Sequence[str], columns: int, *, rows: int) -> Any:
    """Return the figure of the axes that Optuna returned, one or several; with its words and size adapted."""
    figure = (found.ravel()[0] if hasattr(found, "ravel") else found).figure
    for axes in figure.axes:
        axes.set(xlabel=_child(axes.get_xlabel()), ylabel=_child(axes.get_ylabel()))
        legend = axes.get_legend()
        for text in legend.get_texts() if legend is not None else ():
            text.set_text(_child(text.get_text()))
        if legend is not None and len(legend.get_texts()) > _LONGEST_LEGEND:
            legend.remove()
    if columns:
        figure.set_size_inches(max(6.4, 3.2 * columns), max(4.8, 2.8 * rows))
    if notes:
        figure.text(0.5, 0.005, "; ".join(notes), ha="center", fontsize="small")
    return figure


def _child(text: str | None) -> str | None:
    return None if text is None else re.sub(r"\bTrial ?(\d*)", lambda m: f"Child {m[1]}".strip(), text)
