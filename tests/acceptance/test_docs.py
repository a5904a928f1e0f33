"""What the README and the pages under docs/ show is run, and what they list is what the package has."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from mlfn import errors
from mlfn.settings.current import SETTINGS
from mlfn.spec.options import Options
from tests.architecture.source import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
OWN_TEST = {"command-line.md"}  # its commands need files of their own: test_cli_docs.py runs them
EXAMPLE_ID = (
    "3f2a91"  # what pages write for the id of a run that the reader has: here, the page's newest one that succeeded
)
THE_COMMAND = "import sys; sys.argv[0] = 'mlfn'; from mlfn.ui.cli.app import main; main()"
NEWEST = "import mlfn; print(mlfn.runs(state='succeeded', limit=1)[0].id)"


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Return (line, text) of each fenced block in that language."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start(2)].count("\n"), m[2]) for m in FENCE.finditer(text) if m[1] == language]


def files(page: Path) -> dict[str, str]:
    """Return the Python files that the page shows: blocks that begin with a comment that names one."""
    named = [(FILE.match(text), text) for _, text in blocks(page, "python")]
    return {match[1]: text for match, text in named if match}


# A block of ``py`` needs a cluster: tests/cluster/test_pages.py runs it.
def script(page: Path) -> str:
    """Return the page's other Python blocks as one program, each at the line that it has in the page."""
    lines: list[str] = []
    for start, text in blocks(page, "python"):
        if FILE.match(text):
            continue
        lines += [""] * (start - len(lines)) + text.splitlines()
    return "\n".join(lines).replace(f'"{EXAMPLE_ID}"', "mlfn.runs(state='succeeded', limit=1)[0].id[:6]") + "\n"


def commands(page: Path) -> list[str]:
    """Return the `mlfn` commands that the page shows."""
    if page.name in OWN_TEST:
        return []
    shown = "\n".join(text for _, text in blocks(page, "console"))
    return re.findall(r"^\$ (mlfn .*)$", shown, re.MULTILINE)


def run(*arguments: str) -> str:
    """Run Python as a user would, with this very package."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_a_page_shows_works(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in files(page).items():
        Path(name).write_text(text, encoding="utf-8")
        if name.startswith("test_"):
            assert " passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", name)
    if program := script(page).strip("\n"):
        Path("page.py").write_text(script(page), encoding="utf-8")
        compile(program, str(page), "exec")
        run("page.py")
    for command in commands(page):
        known = command.replace(EXAMPLE_ID, run("-c", NEWEST).strip()) if EXAMPLE_ID in command else command
        run("-c", THE_COMMAND, *shlex.split(known)[1:])


@pytest.mark.parametrize("page", [*PAGES, *sorted((DOCS / "decisions").glob("*.md"))], ids=lambda page: page.stem)
def test_a_page_links_to_what_is_there(page):
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index():
    linked = LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))

    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= set(linked)


def test_every_decision_is_in_its_index():
    linked = LINK.findall((DOCS / "decisions" / "README.md").read_text(encoding="utf-8"))

    assert {page.name for page in (DOCS / "decisions").glob("0*.md")} == set(linked)


def test_the_table_of_settings_is_what_the_package_has():
    page = (DOCS / "secrets-and-settings.md").read_text(encoding="utf-8")
    rows = [
        f"| `{s.name}` | `{s.variable}` | `{s.flag}` | {f'`{s.default}`' if s.default != '' else 'empty'} | {s.doc} |"
        for s in SETTINGS.values()
    ]

    assert re.findall(r"^\| `\w+` \| `MLFN_.*$", page, re.MULTILINE) == rows


def test_the_table_of_options_has_each_option_once():
    page = (DOCS / "declaring.md").read_text(encoding="utf-8")
    table = page.partition("| option |")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [field.name for field in fields(Options)]


def test_the_tree_of_errors_is_that_of_the_package():
    tree = str(errors.__doc__).partition("::\n\n")[2].partition("\n\nA leaf")[0]
    shown = blocks(DOCS / "errors.md", "text")[0][1]

    assert [line.strip() for line in shown.splitlines()] == [line.strip() for line in tree.splitlines()]
