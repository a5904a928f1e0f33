"""`SweepRun.plot`: figures of the results of a sweep, for grids as for searches.

Plotly draws them. Matplotlib draws the same for a file such as .png and with `static`: without a browser, plotly writes none.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.errors import MissingExtraError, NotFoundError, OptionError, SweepError, nearest
from mlfn.sweep.results import figures
from mlfn.sweep.results.exports import seen_in_exports
from mlfn.sweep.results.parallel_coordinates import Lines, arrange
from mlfn.sweep.results.sweep_results import SweepResults, refuse_unknown

KINDS = ("parallel", "history", "importance", "slice", "contour", "pareto", "timeline", "edf", "intermediate")
_OF_ALL = ("pareto", "importance")  # where several metrics are shown beside each other
_MOST_LINES = 10_000
_PICTURES = (".png", ".svg", ".pdf")


def plot(
    results: SweepResults,
    kind: str,
    *,
    params: str | Sequence[str] | None,
    metric: str | None,
    path: str | os.PathLike[str] | None,
    static: bool,
) -> Any:
    """Return a figure, and write it to `path` where one is given."""
    params = (params,) if isinstance(params, str) else params
    if kind not in KINDS:
        raise OptionError(f"plot({kind!r}): {nearest(str(kind), KINDS)}")
    if path is not None:
        static = _is_picture(Path(path))
    _need("matplotlib" if static else "plotly", kind)
    with figures.undisturbed() if static else nullcontext():
        figure = _drawn(results, kind, params, metric, static=static)
        if path is not None and static:
            figure.savefig(path, dpi=150, bbox_inches="tight")
        elif path is not None:
            figure.write_html(path)
    if not static and "IPython" in sys.modules and importlib.util.find_spec("matplotlib") is not None:
        seen_in_exports(figure, lambda: _drawn(results, kind, params, metric, static=True))
    return figure


def _is_picture(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in (*_PICTURES, ".html"):
        raise OptionError(f"plot(path={str(path)!r}): a name that ends in .png, .svg, .pdf or .html is allowed.")
    if not path.parent.is_dir():
        raise OptionError(f"plot(path={str(path)!r}): there is no folder {str(path.parent)!r}; make it first.")
    return suffix in _PICTURES


def _need(library: str, kind: str) -> None:
    if importlib.util.find_spec(library) is not None:
        return
    has_other = library == "plotly" and importlib.util.find_spec("matplotlib") is not None
    other = f"; plot({kind!r}, static=True) draws by matplotlib" if has_other else ""
    raise MissingExtraError(f"plot({kind!r}) needs {library}: pip install 'mlfn[plots]'{other}")


def _drawn(results: SweepResults, kind: str, params: Sequence[str] | None, metric: str | None, *, static: bool) -> Any:
    if kind == "timeline":
        bars = figures.timeline_of(results)
        return figures.static_timeline(bars) if static else figures.timeline(bars)
    if kind == "parallel":
        lines = _lines(results, params, metric)
        return figures.static_parallel_coordinates(lines) if static else figures.parallel_coordinates(lines)
    from mlfn.sweep.optuna.figures import draw

    objective = objective_of(results, metric)
    if objective is None and kind not in _OF_ALL:
        objective = 0
    return draw(results, kind, params, objective, static=static)


def _lines(results: SweepResults, params: Sequence[str] | None, metric: str | None) -> Lines:
    """Return parallel coordinates as the stored picture has them."""
    table = results.table()
    at = objective_of(results, metric)
    select = results.body.select if at is None else results.body.select[at : at + 1]
    if params is not None:
        refuse_unknown(params, table.params)
        table = replace(table, params=tuple(params))
    lines = arrange(table, select, _best_iteration(results), most=_MOST_LINES)
    if lines is None:
        wanted = repr(results.selectors[0].name) if results.selectors else "number"
        raise SweepError(
            f"{results.label} has nothing to plot: two children at least must have different parameters, and one "
            f"a finite {wanted}."
        )
    return lines


def _best_iteration(results: SweepResults) -> int | None:
    try:
        leader = results.best()
    except OptionError:  # no child reports the metric
        return None
    return leader.iteration if leader is not None else None


def objective_of(results: SweepResults, metric: str | None) -> int | None:
    """Return the place of a selected metric."""
    if metric is None:
        return None
    results.need_selectors("metric to choose")
    names = [selector.name for selector in results.selectors]
    if metric not in names:
        raise NotFoundError(f"plot(metric={metric!r}): {nearest(metric, names)}")
    return names.index(metric)
