"""What the page and the example of Spark show works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.source import ROOT


def run(program: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_page_shows_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "spark.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "page.py").write_text(block)

    shown = run(tmp_path / "page.py")

    assert "7 customers; parquet in" in shown and "most: 18036" in shown


def test_the_example_runs() -> None:
    assert "2024-05-03: " in run(ROOT / "examples" / "spark_etl.py")
