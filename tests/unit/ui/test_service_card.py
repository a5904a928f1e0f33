"""The card of a service, from views of services that are nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlfn.ui.html.cards import service_card
from mlfn.ui.views.service import ServiceView

KNOWN = ServiceView(
    "score", "risk", "ready", "http://127.0.0.1:8080", 2, ((3, "ab" * 32, 1_000_000.0),), more_versions=2
)


def test_a_card_names_the_service_its_address_and_its_versions() -> None:
    card = service_card(KNOWN)

    for text in ("score", "service of project risk", "ready", "http://127.0.0.1:8080", "abababab", "and 2 more"):
        assert text in card


@pytest.mark.parametrize(
    ("state", "look"), [("ready", "succeeded"), ("failed", "failed"), ("gone", "failed"), ("ended", "cancelled")]
)
def test_a_state_has_the_colour_of_a_runs(state: str, look: str) -> None:
    assert service_card(replace(KNOWN, state=state)).startswith(f'<div class="mlfn-card mlfn-{look}">')


def test_nothing_of_a_service_is_markup() -> None:
    evil = ServiceView('<b onload="x">', "<i>", "ready", 'http://"><script>', 1, ())

    card = service_card(evil)

    assert "<script" not in card and "<b onload" not in card and "<i>" not in card
