"""What the README says is what CI does."""

from __future__ import annotations

import re

from tests.architecture.source import ROOT

TESTS = "python -m venv .venv && .venv/bin/pip install nox uv && .venv/bin/nox"


def test_the_readme_names_the_one_line_that_runs_all_tests():
    commands = re.findall(r"^\$ (.*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)

    # `.ci/run` takes the first line that ends in nox.
    assert [command for command in commands if command.endswith("/nox")] == [TESTS]


def test_ci_runs_that_line():
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
