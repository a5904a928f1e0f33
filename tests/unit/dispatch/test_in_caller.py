"""What a run in the caller's own process leaves there: nothing."""

from __future__ import annotations

import os

import pytest

import mlfn
from mlfn.dispatch.in_caller import temporary_environment


def test_variables_are_set_while_it_runs_and_set_back_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "mine")
    monkeypatch.setenv("TOKEN", "sesame-sesame")
    monkeypatch.delenv("LEVEL", raising=False)

    @mlfn.function(env={"MODE": "fast", "LEVEL": "1"}, secrets=[mlfn.Secret("TOKEN", env="COPY")])
    def look(fail: bool) -> tuple[str, str, int]:
        if fail:
            raise ValueError
        return os.environ["MODE"], os.environ["LEVEL"], len(os.environ["COPY"])

    before = dict(os.environ)

    assert look.on("inline").submit(False).result() == ("fast", "1", 13)
    assert dict(os.environ) == before
    assert look.on("inline").submit(True).state == "failed"
    assert dict(os.environ) == before


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_overlapping_runs_leave_what_was_there_in_whatever_order_they_end(
    monkeypatch: pytest.MonkeyPatch, first_to_end: int
) -> None:
    monkeypatch.setenv("MODE", "mine")
    monkeypatch.delenv("LEVEL", raising=False)
    runs = (
        temporary_environment({"MODE": "first", "LEVEL": "1"}),
        temporary_environment({"MODE": "second", "OTHER": "2"}),
    )

    runs[0].__enter__()
    runs[1].__enter__()
    assert (os.environ["MODE"], os.environ["LEVEL"], os.environ["OTHER"]) == ("second", "1", "2")
    runs[first_to_end].__exit__(None, None, None)
    assert os.environ["MODE"] == ("second", "first")[first_to_end]
    runs[1 - first_to_end].__exit__(None, None, None)

    assert os.environ["MODE"] == "mine"
    assert "LEVEL" not in os.environ and "OTHER" not in os.environ
