"""A test sees nothing of the machine it runs on, and leaves nothing there."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given, strategies


def test_home_and_working_folder_belong_to_the_test(home):
    assert Path.home() == home
    assert Path.cwd().parent == home


def test_no_setting_comes_from_outside():
    assert [name for name in os.environ if name.startswith("MLFN_")] == []


@given(strategies.integers())
def test_isolation_goes_with_generated_cases(number):
    assert number == int(str(number))
