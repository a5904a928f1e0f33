"""Figures of plotly that are seen in an exported notebook, too: beside plotly's own data a picture is kept."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

from mlfn.sweep.results import figures

logger = logging.getLogger(__name__)
_DATA, _PICTURE = "application/vnd.plotly.v1+json", "image/png"


def seen_in_exports(figure: Any, draw: Callable[[], Any]) -> None:
    """Have a figure show itself with a picture that `draw` makes by matplotlib, for readers that run no script."""
    shown_by_plotly = figure._ipython_display_

    def shown() -> None:
        data = figure._repr_mimebundle_() or {}
        if _DATA not in data or "text/html" in data or _PICTURE in data:
            shown_by_plotly()
            return
        from IPython.display import display

        display({**data, **_picture(draw)}, raw=True)  # type: ignore[no-untyped-call]

    figure._ipython_display_ = shown


def _picture(draw: Callable[[], Any]) -> dict[str, bytes]:
    written = io.BytesIO()
    try:
        with figures.undisturbed():
            draw().savefig(written, format="png", dpi=110, bbox_inches="tight")
    except Exception:  # whatever has no picture is still shown by plotly
        logger.debug("a figure could not be drawn as a picture", exc_info=True)
        return {}
    return {_PICTURE: written.getvalue()}
