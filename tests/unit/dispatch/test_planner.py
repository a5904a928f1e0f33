"""Declared function and settings -> spec and plan: what is set and nothing else, and the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.dispatch.planner import check_place, own_path
from mlfn.errors import OptionError, UnknownNameError

ROOT = Path(__file__).resolve().parents[3]


def declared(**options: Any) -> Any:
    def train(x: int = 0) -> int:
        return x

    return mlfn.function(**options)(train)


def test_a_spec_holds_what_is_set_and_nothing_else() -> None:
    assert sorted(declared().spec) == ["code", "kind", "name", "project"]
    assert declared(cpu=2, gpus=0, env={}).spec["resources"] == {"cpu": 2.0, "gpus": 0}


def test_the_project_of_the_function_goes_before_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    function, own = declared(), declared(project="own")

    assert (function.spec["project"], own.spec["project"]) == ("default", "own")
    mlfn.init(project="fraud")
    assert (function.spec["project"], own.spec["project"]) == ("fraud", "own")


def test_where_it_runs_is_not_in_the_hash() -> None:
    assert declared().on("inline").hash == declared().on("local", max_workers=2).hash == declared().hash


def test_a_hash_is_the_same_in_any_process_folder_and_hash_seed(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "import mlfn\nBASE = {'b': 1, 'a': (2, 3)}\n"
        "@mlfn.function(env={'B': '1', 'A': '2'}, retry=mlfn.Retry(on={ValueError, KeyError, 'oom'}))\n"
        "def train(x: int = 3): return BASE, x\nif __name__ != '__main__': print(train.hash)\n"
    )
    hashes = set()
    for seed, folder in (("0", tmp_path), ("1", Path("/")), ("2", ROOT)):
        done = subprocess.run(
            [sys.executable, "-c", "import jobs"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONHASHSEED": seed, "HOME": f"/nowhere/{seed}"},
        )
        assert done.returncode == 0, done.stderr
        hashes.add(done.stdout.strip())

    assert len(hashes) == 1 and len(hashes.pop()) == 64


def test_a_place_that_is_unknown_or_lacks_an_option_is_refused() -> None:
    check_place("local", {"max_workers": 2})
    with pytest.raises(UnknownNameError, match="'moon'"):
        check_place("moon", {})
    with pytest.raises(OptionError, match=r"on\('inline'\) has no option 'max_workers' \(value 2\): Allowed: none"):
        check_place("inline", {"max_workers": 2})


def test_the_callers_own_path_leaves_out_what_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    assert own_path()[0] == str(tmp_path)
    assert not [path for path in own_path() if "site-packages" in path or path == os.path.dirname(os.__file__)]
