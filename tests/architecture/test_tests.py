"""Every test runs, everywhere: none is skipped, none is expected to fail."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

LEFT_OUT = {"SkipTest", "expectedFailure", "importorskip", "skip", "skipIf", "skipUnless", "skipif", "xfail"}


def left_out(source: str) -> list[int]:
    """Return the lines that would let a test pass without running or holding."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if _name(node) in LEFT_OUT]


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(("pytest.", "unittest.")):
        return node.attr
    if isinstance(node, ast.alias):
        return node.name
    return ""


def test_no_test_is_left_out():
    files = [path for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]

    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in left_out(Path(path).read_text())]

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\npytest.skip('not today')",
        "import pytest\n@pytest.mark.skipif(True, reason='x')\ndef test(): ...",
        "import pytest\ntest = pytest.param(1, marks=pytest.mark.xfail)",
        "import pytest\nnumpy = pytest.importorskip('numpy')",
        "import unittest\n@unittest.skipUnless(0, 'x')\ndef test(): ...",
        "from pytest import skip",
    ],
)
def test_a_test_that_is_left_out_is_found(source):
    assert left_out(source)


def test_words_alone_are_no_mark():
    assert left_out("reason = 'skip'\nqueue.skip(1)\nskip = None") == []
