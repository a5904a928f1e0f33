"""Each example runs as a user would run it, and stays short enough to be read."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from tests.architecture.source import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
LONGEST = 60


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False, env=environ)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example):
    assert len(example.read_text().splitlines()) < LONGEST


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_one_learns(example):
    assert "You learn: " in str(ast.get_docstring(ast.parse(example.read_text())))
