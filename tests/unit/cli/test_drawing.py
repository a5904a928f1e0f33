from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlfn.cli.drawing import progress_line


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (None, "abcdef01  fit  running  3 s"),
        ({"done": 2, "total": 5, "text": "epoch"}, "abcdef01  fit  running  3 s  2/5  epoch"),
        ({"done": 2, "total": None, "text": ""}, "abcdef01  fit  running  3 s  2"),
    ],
)
def test_a_line_says_what_is_known(progress, line):
    run = SimpleNamespace(id="abcdef01" * 4, name="fit", state="running", progress=progress)

    assert progress_line(run, 3.2) == line
