"""What the README says is what CI does, and its first command works in a fresh clone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from tests.architecture.source import ROOT

TESTS = "python -m venv .venv && .venv/bin/pip install nox uv && .venv/bin/nox"
MAIN_JOB = (
    "python -m venv .venv && .venv/bin/pip install -e '.[data]' scikit-learn && .venv/bin/python examples/01_train.py"
)


def readme_commands() -> list[str]:
    return re.findall(r"^\$ (.*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)


def test_the_first_block_can_be_pasted_into_a_terminal():
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)

    # An empty line within a function ends it there.
    assert block is not None and re.search(r"\n\n[ \t]", block[1]) is None


def test_the_readme_names_the_one_line_that_runs_all_tests():
    # `.ci/run` takes the line that ends in nox.
    assert [command for command in readme_commands() if command.endswith("/nox")] == [TESTS]


def test_ci_runs_that_line():
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_names_the_one_line_that_runs_the_main_job():
    assert [command for command in readme_commands() if "examples/" in command] == [MAIN_JOB]


def test_that_line_works_in_a_fresh_clone(tmp_path):
    clone = tmp_path / "clone"
    # What a clone has: not the environments and caches that the tests themselves have made here.
    made_here = shutil.ignore_patterns(".git", ".nox", ".venv", ".*_cache", ".coverage*", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, clone, ignore=made_here)
    command = MAIN_JOB.replace("python", sys.executable, 1)

    done = subprocess.run(["sh", "-c", command], cwd=clone, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    artifact = re.search(r"^the model lies at (.*)$", done.stdout, flags=re.MULTILINE)
    assert artifact is not None
    assert (clone / artifact[1]).exists()
