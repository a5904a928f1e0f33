"""View models as HTML: plain, self-contained, every text escaped, styled under one class, without scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfn.ui.html.sparklines import sparkline
from mlfn.ui.views.run import RunView, flattened
from mlfn.ui.views.values import in_a_line
from mlfn.ui.wording import amount, clean, duration, moment, number, plural

if TYPE_CHECKING:
    from jinja2 import Environment

    from mlfn.ui.views.description import DescriptionView
    from mlfn.ui.views.function import FunctionView
    from mlfn.ui.views.listing import ListingView
    from mlfn.ui.views.service import ServiceView
    from mlfn.ui.views.sweep import SweepView
    from mlfn.ui.views.values import Value

_LOOKS = {"ready": "succeeded", "failed": "failed", "gone": "failed", "ended": "cancelled", "deleted": "cancelled"}
"""The state of a run that looks like the state of a service."""
_LONGEST_WORD = 24
_LONGEST_PART = 16
_BETWEEN_PARTS = re.compile(r"(?<=[_/,=:])(?![_/,=:])|(?<=[A-Za-z])(?=[.-][A-Za-z])")


def run_card(run: RunView) -> str:
    """Return a run's card."""
    return _rendered("run", kind=run.state, run=run, branches=flattened(run.branches))


def outputs_card(run: RunView) -> str:
    """Return a run's outputs."""
    return _excerpt(run, outputs=True)


def metrics_card(run: RunView) -> str:
    """Return a run's metrics."""
    return _excerpt(run, series=True)


def version_card(run: RunView, *, title: str, subtitle: str, defaults: Sequence[Value]) -> str:
    """Return a promoted version: what it is called, its parameters and the outputs of its run."""
    return _excerpt(run, title=title, subtitle=subtitle, defaults=defaults, outputs=True)


def _excerpt(run: RunView, **shown: Any) -> str:
    known = {"title": "", "subtitle": "", "defaults": (), "outputs": False, "series": False}
    return _rendered("excerpt", kind=run.state, run=run, **{**known, **shown})


def sweep_card(sweep: SweepView) -> str:
    """Return a sweep's card."""
    from mlfn.sweep.results.parallel_coordinates import STYLE
    from mlfn.ui.html.pictures import picture

    names = list(dict.fromkeys(value.name for row in sweep.rows for value in row.params))
    return _rendered(
        "sweep", kind=sweep.state, sweep=sweep, names=names, picture=picture(sweep), lines_style=_markup(STYLE)
    )


def function_card(function: FunctionView) -> str:
    """Return a function's card."""
    return _rendered("function", function=function)


def description_card(sweep: DescriptionView) -> str:
    """Return what a sweep will run: its size, its options and its first children."""
    return _rendered("description", sweep=sweep)


def service_card(service: ServiceView) -> str:
    """Return a service's card."""
    return _rendered("service", kind=_LOOKS[service.state], service=service)


def runs_table(listing: ListingView) -> str:
    """Return a listing of runs."""
    return notice_card(listing.note) if listing.note else _rendered("listing", listing=listing)


def notice_card(text: str) -> str:
    """Return a card with one sentence."""
    return _rendered("notice", text=text)


def _rendered(template: str, *, kind: str = "", **context: Any) -> str:
    return _environment().get_template(f"{template}.html").render(kind=kind, **context)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        finalize=_finalized,
    )
    environment.filters |= {
        "amount": amount,
        "breakable": _breakable,
        "duration": lambda seconds: duration(seconds, exact=True),
        "in_a_line": in_a_line,
        "moment": moment,
        "number": number,
        "plural": plural,
        "sparkline": lambda values: _markup(sparkline(values)),
    }
    return environment


def _breakable(text: Any) -> Any:
    """Return a text whose long words may break: between their parts, and within a part that no card has room for."""
    from markupsafe import Markup

    words = re.split(r"(\s+)", clean(str(text)))
    return Markup("").join(Markup("<wbr>").join(_parts(word)) for word in words)


def _parts(word: str) -> list[str]:
    if len(word) <= _LONGEST_WORD:
        return [word]
    parts = _BETWEEN_PARTS.split(word)
    return [part[at : at + _LONGEST_PART] for part in parts for at in range(0, len(part), _LONGEST_PART)]


def _finalized(value: Any) -> Any:
    """Return what an expression of a template shows: text without what a browser would obey."""
    return value if hasattr(value, "__html__") else clean(str(value))


def _markup(html: str) -> Any:
    from markupsafe import Markup

    return Markup(html)  # noqa: S704 - drawn here, of numbers alone
