"""What the page on the command line says is so."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfn.dispatch import session as client
from mlfn.settings import current as settings
from mlfn.ui.cli import exits
from mlfn.ui.cli.app import COMMANDS, root, run_command_line
from tests.architecture.source import ROOT

PAGE = (ROOT / "docs" / "command-line.md").read_text()
COMMANDS_SHOWN = re.findall(r"^\$ mlfn (.*)$", PAGE, flags=re.MULTILINE)


def test_every_exit_code_is_documented():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)}

    assert documented == {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}


def test_every_command_is_documented():
    assert [name for name in COMMANDS if f"mlfn {name}" not in PAGE] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    shown = CliRunner().invoke(root, [command, "--help"])

    assert shown.exit_code == 0
    assert f"Usage: mlfn {command}" in shown.output.replace("root", "mlfn", 1)


def test_the_commands_on_the_page_work(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MLFN_ON", "inline")
    Path("train.py").write_text(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0])
    Path("key.txt").write_text("s3cret-value")
    run = ""
    for line in COMMANDS_SHOWN:
        words = shlex.split(line)
        if "<" in words:
            *words, _, file = words
            monkeypatch.setattr(sys, "stdin", io.StringIO(Path(file).read_text()))
        code = run_command_line([run if re.fullmatch(r"[0-9a-f]{6}", word) else word for word in words])
        out, err = capsys.readouterr()
        assert code == 0, f"{line}\n{err}"
        run = run or "".join(re.findall(r"^run +(\w{6})", out, flags=re.MULTILINE))
    settings.reset()
    sys.modules.pop("train", None)
    for one in client._sessions.values():
        one.close()
    client._sessions.clear()
