"""A package that two threads import first at once is whole for both."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlfn.host.imports import import_whole

_SEARCHES = """
import threading
import mlfn


@mlfn.function
def loss(x: float) -> float:
    return x


def search(found):
    sweep = loss.search(n=2, x=mlfn.uniform(0, 1)).with_options(select="min.return", parallel=1)
    found.append(sweep.submit().result(timeout=60))


if __name__ == "__main__":
    found = []
    threads = [threading.Thread(target=search, args=(found,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(found))
"""


def test_a_module_of_a_package_waits_for_the_whole_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "half_made"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import threading\nbegun, go_on = threading.Event(), threading.Event()\nbegun.set()\ngo_on.wait(10)\nREADY = True\n"
    )
    (package / "part.py").write_text("from half_made import READY\n")
    monkeypatch.syspath_prepend(tmp_path)
    first = threading.Thread(target=import_whole, args=("half_made",))
    first.start()
    while not hasattr(sys.modules.get("half_made"), "begun") or not sys.modules["half_made"].begun.wait(10):
        pass
    found: list[bool] = []
    second = threading.Thread(target=lambda: found.append(import_whole("half_made.part").READY))

    second.start()
    second.join(0.2)
    is_waiting = second.is_alive()
    sys.modules["half_made"].go_on.set()
    first.join(10)
    second.join(10)

    assert (is_waiting, found) == (True, [True])


def test_two_searches_may_be_the_first_to_import_optuna(tmp_path: Path) -> None:
    script = tmp_path / "searches.py"
    script.write_text(_SEARCHES)

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)

    assert done.stdout == "2\n", done.stderr
