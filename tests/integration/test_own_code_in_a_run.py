"""What works on the user's own functions and classes in a run as by a plain call: of a script, and of one without a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import dataclasses, enum, inspect, json, multiprocessing, os, pickle, sys, typing
from concurrent.futures import ProcessPoolExecutor
import mlfn

@dataclasses.dataclass
class Config:
    rate: int
    def next(self) -> "Config":
        return Config(self.rate + 1)

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class OfParameter:
    rate: int

def square(x):
    return x * x

def next_of(config):
    return config.next()

def double(x):
    return 2 * x

def pickled(*_):
    found = pickle.loads(pickle.dumps([Config(1), Config, Color.RED, square]))
    return [found[0] == Config(1), found[1] is Config, found[2] is Color.RED, found[3] is square]

def written(*_):
    with open("written.pkl", "wb") as file:
        pickle.dump([Config(3), Color.RED, square], file)

def pool(method, parameter, function):
    with multiprocessing.get_context(method).Pool(1) as processes:
        ask = lambda f, x: processes.map_async(f, [x]).get(60)[0]
        return [ask(square, 3), ask(next_of, Config(1)).rate, ask(function, 4), ask(str, parameter)]

def fork(*given):
    return pool("fork", *given)

def spawn(*given):
    return pool("spawn", *given)

def forkserver(*given):
    return pool("forkserver", *given)

def executor(*_):
    with ProcessPoolExecutor(1) as processes:
        return list(processes.map(square, [1, 2]))

def source(*_):
    return [inspect.getsource(square), inspect.getsource(Config).splitlines()[1], inspect.getmodule(square).__name__]

def hints(*_):
    return {name: hint.__name__ for name, hint in typing.get_type_hints(Config.next).items()}

def main(*_):
    import __main__
    return [__main__.square is square, os.path.basename(__main__.__file__), os.path.basename(sys.argv[0])]

def parameters(parameter, function):
    return [pickle.loads(pickle.dumps(function)) is function, function is double, pickle.loads(pickle.dumps(parameter)).rate]

WAYS = [pickled, written, fork, spawn, forkserver, executor, source, hints, main, parameters]

@mlfn.function
def each(parameter, function, names):
    answers = {}
    for way in WAYS:
        if way.__name__ in names:
            try:
                answers[way.__name__] = way(parameter, function)
            except BaseException as error:
                answers[way.__name__] = repr(error)
    return answers

if __name__ == "__main__":
    given = OfParameter(1), double, json.loads(os.environ["NAMES"])
    how = os.environ["HOW"]
    print(json.dumps(each(*given) if how == "plain" else each.submit(*given).result()))
    if os.path.exists("written.pkl"):
        with open("written.pkl", "rb") as file:
            assert pickle.load(file) == [Config(3), Color.RED, square]
"""
"""What each of `WAYS` gives by a plain call."""
PLAIN = {
    "pickled": [True, True, True, True],
    "written": None,
    "fork": [9, 2, 8, "OfParameter(rate=1)"],
    "spawn": [9, 2, 8, "OfParameter(rate=1)"],
    "forkserver": [9, 2, 8, "OfParameter(rate=1)"],
    "executor": [1, 4],
    "source": ["def square(x):\n    return x * x\n", "class Config:", "__main__"],
    "hints": {"return": "Config"},
    "main": [True, "script.py", "script.py"],
    "parameters": [True, True, 1],
}
IN_A_FILE = {"source", "main"}


def answers(names: Iterable[str], how: str, *command: str, stdin: str | None = None) -> Any:
    """Return what the script prints: by name the answer of each way."""
    environ = {**os.environ, "HOW": how, "NAMES": json.dumps(list(names))}
    command = (sys.executable, *command)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, input=stdin, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("how", ["plain", "run"])
def test_code_of_a_script_is_found_as_by_a_call(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert answers(PLAIN, how, str(script)) == PLAIN


def test_code_without_a_file_is_found_too() -> None:
    """As in a notebook: there a plain call cannot have children by spawn."""
    expected = {name: answer for name, answer in PLAIN.items() if name not in IN_A_FILE}
    assert answers(expected, "run", "-", stdin=SCRIPT) == expected
