"""Which frames of an error a notebook shows."""

from __future__ import annotations

import traceback

import pytest

import mlfn
from mlfn.ui import short_tracebacks


class Shell:
    """Renders as Python does: what IPython adds is its own."""

    class InteractiveTB:
        @staticmethod
        def structured_traceback(_kind, error, _traceback):
            return traceback.format_exception(error)


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(mlfn.MlfnError, "_render_traceback_", None, raising=False)
    short_tracebacks.install(Shell())
    return lambda error: "".join(error._render_traceback_())


def test_the_library_s_frames_are_left_out_and_stay_in_the_error(shown):
    with pytest.raises(mlfn.errors.NotFoundError) as caught:
        mlfn.run("zzz")

    whole = traceback.format_exception(caught.value)
    assert 'mlfn.run("zzz")' in shown(caught.value) and "finders.py" not in shown(caught.value)
    assert traceback.format_exception(caught.value) == whole and "finders.py" in "".join(whole)


def test_an_error_that_the_user_s_code_met_before_stays(shown):
    def again():
        try:
            int("mine")
        except ValueError:
            mlfn.run("zzz")

    with pytest.raises(mlfn.errors.NotFoundError) as caught:
        again()

    assert 'int("mine")' in shown(caught.value)


def test_an_error_without_a_frame_of_the_user_s_is_shown_whole(shown):
    assert "MlfnError: made, not raised" in shown(mlfn.MlfnError("made, not raised"))
