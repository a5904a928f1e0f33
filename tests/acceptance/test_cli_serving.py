"""`mlfn deploy`, `services`, `invoke` and `undeploy`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn
from tests.architecture.source import ROOT

APP = '''
import mlfn


@mlfn.function(kind="nuclio")
def score(rows: list[list[float]], scale: float = 1.0) -> list[float]:
    """Add up each row."""
    return [sum(row) * scale for row in rows]


@mlfn.function(kind="nuclio")
def broken(x: int) -> int:
    raise ValueError("the reason")


@mlfn.function
def job(x: int) -> int:
    return x


@mlfn.function(kind="nuclio")
def hello(context, event):
    return "hello"


def init_context(context):
    pass
'''


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MLFN_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    yield tmp_path
    for service in mlfn.services():
        service.delete()


def typed(*args: str, code: int = 0, stdin: str = "") -> tuple[str, str]:
    """Run a command in a process of its own, and return what it printed to stdout and to stderr."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mlfn", *args], input=stdin, capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_a_service_is_deployed_asked_and_removed() -> None:
    out, err = typed("deploy", "app.py::score")
    assert out.startswith("http://127.0.0.1:")
    assert "score is ready" in err and "/docs is a page to try it" in err

    assert typed("invoke", "score", "rows=[[1,2]]", "scale=2")[0] == "[6.0]\n"
    assert typed("invoke", "score", '{"rows": [[1, 2]]}')[0] == "[3.0]\n"
    assert typed("invoke", "score", "-", stdin='{"rows": [[3]]}')[0] == "[3.0]\n"

    out, err = typed("services")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [["score", "default", "ready"]]

    assert "score is removed." in typed("undeploy", "score")[1]
    assert "no services here" in typed("services")[1]


def test_documents_are_for_machines() -> None:
    made = json.loads(typed("deploy", "app.py::score", "--json")[0])
    assert (made["name"], made["state"], made["new"]) == ("score", "ready", True)
    assert json.loads(typed("deploy", "app.py::score", "--json")[0])["new"] is False
    assert json.loads(typed("services", "score", "--json")[0])["url"] == made["url"]
    assert json.loads(typed("services", "--json")[0])[0]["version"] == made["version"]

    good = json.loads(typed("invoke", "score", "rows=[[1]]", "--json")[0])
    assert (good["status"], good["answer"]) == (200, [1.0])
    bad = json.loads(typed("invoke", "score", "rows=1", "--json", code=1)[0])
    assert (bad["status"], bad["answer"]["field"]) == (400, "rows")
    assert json.loads(typed("undeploy", "score", "--json")[0]) == {"removed": ["score"]}


def test_another_option_makes_another_version() -> None:
    typed("deploy", "app.py::hello")
    out, _ = typed("deploy", "app.py::hello", "-o", "env.MODE=fast", "--json")

    assert json.loads(out)["number"] == 2
    assert typed("invoke", "hello")[0] == "hello\n"


def test_what_fails_has_its_code_and_words() -> None:
    assert "No service 'score' is deployed in project 'default'" in typed("invoke", "score", code=3)[1]
    assert "its kind is 'job'" in typed("deploy", "app.py::job", code=2)[1]
    assert (
        "is neither NAME=VALUE nor JSON"
        in (typed("deploy", "app.py::broken"), typed("invoke", "broken", "x", code=2))[1][1]
    )

    _, err = typed("invoke", "broken", "x=1", code=1)
    assert "broken answered 500: broken failed. Its log has this request" in err
    log, _ = typed("services", "broken", "--logs")
    assert "ValueError: the reason" in log
