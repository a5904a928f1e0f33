"""Kill the process that drives a sweep, with `kill -9` in the middle, start the same script again, and it goes on.

You learn: `name=` finds the sweep again; children that had ended are not run again, those in flight are taken over where
their workers still live, the rest follows; the parameters are the same as in a sweep that nobody disturbed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier

import mlfn


@mlfn.function
@mlfn.handler(outputs=["accuracy"])
def train(depth: int, notes: str) -> float:
    pixels, labels = load_digits(return_X_y=True)
    model = ExtraTreesClassifier(60, max_depth=depth, random_state=0).fit(pixels[::2], labels[::2])
    with Path(notes).open("a", encoding="utf-8") as file:
        file.write(f"{depth}\n")  # so that one sees who ran, and how often
    return float(model.score(pixels[1::2], labels[1::2]))


def submit(notes: str) -> Any:
    grid = train.grid(depth=list(range(2, 14)))
    return grid.with_options(select="max.accuracy", parallel=2, name=f"depths-{Path(notes).parent.name}").submit(
        notes=notes
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes.txt")
        driver = subprocess.Popen([sys.executable, __file__, str(notes)])  # this very script, as a process of its own
        while not notes.exists() or notes.read_text().count("\n") < 3:
            time.sleep(0.01)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()

        sweep = submit(str(notes))  # finds the sweep of that name, and goes on with it
        print(f"{sweep.table()['state'].value_counts().to_dict()} when it was taken over")
        accuracy = sweep.result(timeout=600)
        ran = sorted(int(line) for line in notes.read_text().split())
        print(f"children {len(sweep.children)}, best depth {sweep.best.params['depth']} ({accuracy:.3f}); ran: {ran}")
        assert set(ran) == set(range(2, 14)) and len(ran) <= 14  # none lost; only what was in flight may run again


if __name__ == "__main__":
    submit(sys.argv[1]).wait() if len(sys.argv) > 1 else main()
