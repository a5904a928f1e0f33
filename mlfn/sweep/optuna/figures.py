"""Optuna's figures of a study: by plotly, or by matplotlib where no browser is to be had."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import SweepError
from mlfn.sweep.optuna.loading import quiet
from mlfn.sweep.optuna.study import importances, of_one, study_of
from mlfn.sweep.space import Space
from mlfn.sweep.strategy import Told

if TYPE_CHECKING:
    from optuna.study import Study

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


class Figures:
    """Draws what came of a sweep; `objective` is the place of the metric that counts, None for all of several."""

    def __init__(
        self,
        tolds: Sequence[Told],
        spaces: Mapping[str, Space],
        directions: Sequence[str],
        metrics: Sequence[str],
        *,
        objective: int | None,
    ) -> None:
        self._tolds, self._spaces, self._directions, self._metrics = tolds, spaces, directions, metrics
        if objective is not None and len(directions) > 1:
            self._tolds, at = of_one(tolds, objective), slice(objective, objective + 1)
            self._directions, self._metrics = directions[at], metrics[at]

    def draw(self, kind: str, *, params: Sequence[str] | None, static: bool) -> Any:
        """Return a plotly Figure, or with `static` one of matplotlib."""
        given: dict[str, Any] = {}
        tolds = self._tolds
        if kind == "importance":
            self._need_two_values()
        if kind == "contour":
            tolds = thinned(tolds, MOST_IN_CONTOUR)
            params = self._most_important(params)
        if kind == "intermediate":
            tolds = thinned([told for told in tolds if told.series], MOST_SERIES)
        if kind in _WITH_PARAMS:
            given["params"] = None if params is None else list(params)
        if kind in _WITH_NAME:
            given["target_name"] = self._metrics[0]
        # Numbers as the children have them, and not from 0.
        study = study_of(tolds, self._spaces, self._directions, metrics=self._metrics, first=1)
        figure = _called(kind, study, given, static=static)
        notes = []
        if kind == "contour" and len({key for told in tolds for key in told.params}) > len(params or ()):
            notes.append(f"the parameters {', '.join(params or ())}")
        if len(tolds) < len(self._tolds) and kind != "intermediate":
            notes.append(f"{len(tolds):,} of {len(self._tolds):,} children, evenly from the worst to the best")
        columns = len(params or {key for told in tolds for key in told.params}) if kind in ("slice", "contour") else 0
        if static:
            return _finished_static(figure, notes, columns, rows=columns if kind == "contour" else 1)
        return _finished(figure, notes)

    def _need_two_values(self) -> None:
        values = {told.values for told in self._tolds if told.values}
        if len(values) < 2:
            raise SweepError(
                f"Importance compares children: two at least must have succeeded with different values, and here "
                f"{'none has' if not values else 'all have the same'}. plot('history') shows what there is."
            )

    def _most_important(self, params: Sequence[str] | None) -> Sequence[str]:
        names = list(params or dict.fromkeys(key for told in self._tolds for key in told.params))
        if params is not None or len(names) <= MOST_PARAMS:
            return names
        found = importances(self._tolds, self._spaces, self._directions)
        return [*found, *(name for name in names if name not in found)][:MOST_PARAMS]


def thinned(tolds: Sequence[Told], most: int) -> Sequence[Told]:
    """Return children evenly from the lowest first value to the highest, in the order of their numbers."""
    if len(tolds) <= most:
        return tolds
    ranked = sorted(tolds, key=lambda told: told.values or ())
    kept = [ranked[round(place * (len(ranked) - 1) / (most - 1))] for place in range(most)]
    return sorted(kept, key=lambda told: told.iteration)


def _called(kind: str, study: Study, given: Mapping[str, Any], *, static: bool) -> Any:
    import optuna

    home = optuna.visualization.matplotlib if static else optuna.visualization
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a figure is experimental is no news to a sweep's user
        return getattr(home, _NAMES[kind])(study, **given)


def _finished(figure: Any, notes: Sequence[str]) -> Any:
    """Say "child" where Optuna says "Trial", and what was left out."""
    figure.for_each_trace(_renamed)
    figure.for_each_xaxis(lambda axis: axis.update(title_text=_child(axis.title.text), exponentformat="power"))
    figure.for_each_yaxis(lambda axis: axis.update(exponentformat="power"))
    title = "<br>".join([str(figure.layout.title.text), *(f"<sup>{note}</sup>" for note in notes)])
    figure.update_layout(title_text=title)
    return figure


def _renamed(trace: Any) -> None:
    if trace.name is not None:
        trace.update(name=_child(trace.name))
    bar = getattr(getattr(trace, "marker", None), "colorbar", None)
    if bar is not None and bar.title.text:
        trace.marker.colorbar.title.text = _child(bar.title.text)


def _finished_static(found: Any, notes: Sequence[str], columns: int, *, rows: int) -> Any:
    """Return the figure of what Optuna returned, its one axes or several; words and room as they should be."""
    every = list(found.ravel()) if hasattr(found, "ravel") else [found]
    figure = every[0].figure
    for axes in figure.axes:
        axes.set_xlabel(_child(axes.get_xlabel()))
        axes.set_ylabel(_child(axes.get_ylabel()))
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
