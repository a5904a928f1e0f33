"""What pages show of a cluster works on one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.cluster.api import Namespace

# README's block goes on from a function that it declared before.
TRAIN = """
import mlfn

@mlfn.function
@mlfn.handler(outputs=["model", "accuracy"])
def train(depth: int = 3) -> tuple[str, float]:
    return "model", depth / 10

"""


@pytest.fixture
def restricted() -> Iterator[Namespace]:
    namespace = Namespace(restricted=True)
    yield namespace
    namespace.close()


@pytest.mark.parametrize(
    ("page", "before", "said"),
    [
        ("README.md", TRAIN, "0.6"),
        ("docs/kubernetes.md", "", "depth 4"),
        ("docs/serving-on-kubernetes.md", "", "[3.0]"),
    ],
)
def test_what_a_page_shows_works(restricted: Namespace, tmp_path: Path, page: str, before: str, said: str) -> None:
    # Its pods reach no index of packages but that of the tests.
    own = {'namespace="ml"': f'namespace="{restricted.name}"', "registry.example.com/score:1": "mlfn.test/service:1"}
    text = (ROOT / page).read_text(encoding="utf-8")
    block, *_ = re.findall(
        r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )  # what follows needs more than a cluster
    program = tmp_path / "page.py"
    for shown, meant in own.items():
        block = block.replace(shown, meant)
    program.write_text(before + block)
    environ = {**os.environ, "KUBECONFIG": str(restricted.write_kubeconfig(tmp_path / "kubeconfig"))}

    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env=environ, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert restricted.items("jobs") == restricted.items("deployments") == [], "what is over is left there"
