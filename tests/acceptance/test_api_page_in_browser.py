"""The page of a service in a real browser: what someone sees and gets who tries it there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn
from tests.browser import Page


@mlfn.function(kind="nuclio")
def price(area: float, rooms: int = 3, city: str = "Łódź <b>") -> dict[str, float]:
    """Estimate the price of a flat & more."""
    return {"price": area * rooms}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """Give the test a browser; services end with the test."""
    shown = Page(tmp_path)
    yield shown
    for service in mlfn.services():
        service.delete()
    shown.close()


def write(page: Page, field: str, text: str) -> None:
    """Type a text into a field of the page."""
    part = f"document.getElementById('{field}')"
    page.evaluate(f"{part}.value = {json.dumps(text)}; {part}.dispatchEvent(new Event('input'))")


def send(page: Page, body: str) -> tuple[str, str]:
    """Type a request and press the button as a reader would; return the status and the answer that the page shows."""
    write(page, "body", body)
    page.evaluate("document.getElementById('answer').hidden = true; document.getElementById('send').click()")
    page.wait_for("!document.getElementById('answer').hidden && !document.getElementById('send').disabled")
    shown = page.evaluate("[document.getElementById('status').innerText, document.getElementById('answer').innerText]")
    return shown[0], shown[1]


def test_the_page_shows_the_function_and_sends_its_example(page: Page) -> None:
    service = price.deploy()
    page.open(f"{service.url}/docs")

    seen = page.evaluate("document.body.innerText")
    assert "price" in seen and "Estimate the price of a flat & more." in seen
    assert "area\tnumber\trequired" in seen and 'city\tstring\t"Łódź <b>"' in seen
    assert "Token" not in seen

    status, answer = send(page, page.evaluate("document.getElementById('body').value"))
    assert status.startswith("200 ") and json.loads(answer) == {"price": 3.0}
    assert page.errors == []


def test_a_request_that_does_not_fit_is_answered_by_the_name_of_its_field(page: Page) -> None:
    service = price.deploy()
    page.open(f"{service.url}/docs")

    status, answer = send(page, '{"area": "wide"}')

    assert status.startswith("400 ") and json.loads(answer)["field"] == "area"
    curl = page.evaluate("document.getElementById('curl').innerText")
    assert curl.startswith(f"curl {service.url}") and """-d '{"area":"wide"}'""" in curl


def test_a_page_asks_for_the_token_and_keeps_it_out_of_the_command(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGE_TOKEN", "s3cret-of-a-page")
    guarded = mlfn.Nuclio(triggers=[mlfn.Http(token=mlfn.Secret("PAGE_TOKEN"))])
    service = price.with_options(kind=guarded).deploy()
    page.open(f"{service.url}/docs")

    assert send(page, '{"area": 2}')[0].startswith("401 ")
    write(page, "token", "s3cret-of-a-page")
    assert send(page, '{"area": 2}')[0].startswith("200 ")
    assert "s3cret" not in page.evaluate("document.body.innerText")


def brightness(color: str) -> float:
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_legible_by_day_and_by_night(page: Page, tmp_path: Path, scheme: str) -> None:
    page.prefer(scheme)
    page.open(f"{price.deploy().url}/docs")

    inks = page.evaluate("['body', 'textarea', 'td'].map(name => getComputedStyle(document.querySelector(name)).color)")
    assert {brightness(ink) > 383 for ink in inks} == {scheme == "dark"}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.picture(tmp_path / "page.png")
