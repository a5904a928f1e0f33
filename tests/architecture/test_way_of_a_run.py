"""A newcomer can follow a run: few files lie on its way from the decorator to the stored outcome."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlfn

PACKAGE = Path(mlfn.__file__).parent
MOST_FILES = 25

# Files whose functions run in the caller and in the dispatcher's thread, for a function that was submitted before: the
# decoration, the submit, and everything until the outcome is stored. The worker is another process.
FOLLOWED = """
import json, os, sys, threading
import mlfn.functions.declaration, mlfn.settings.current, mlfn.spec.options, mlfn.worker.context

mlfn.settings.current._RECHECK = 3600.0  # they are read again once a second, not once a run

declare, name_outputs = mlfn.function, mlfn.handler(outputs=["model", "accuracy"])
package, passed, is_on, here = os.path.dirname(mlfn.__file__), set(), set(), threading.get_ident()

def follow(frame, event, _):
    of = "caller" if threading.get_ident() == here else "dispatcher"
    if of in is_on and event == "call" and frame.f_code.co_filename.startswith(package):
        passed.add(os.path.relpath(frame.f_code.co_filename, package))

threading.setprofile(follow)
sys.setprofile(follow)
is_on.add("caller")

@declare
@name_outputs
def train(depth: int = 8) -> tuple[str, float]:
    return "model", 0.5

is_on.clear()
for _ in range(2):
    train.submit(depth=4).result()
declared, ways = set(passed), []
for _ in range(3):  # what happens now and then, such as a heartbeat, may fall into one of them
    passed.clear()
    is_on |= {"caller", "dispatcher"}
    run = train.submit(depth=4)
    is_on.remove("caller")
    run.result()
    is_on.clear()
    ways.append(declared | passed)
print(json.dumps(sorted(min(ways, key=len))), flush=True)
os._exit(0)
"""


def test_few_files_lie_on_the_way_of_a_run() -> None:
    done = subprocess.run([sys.executable, "-c", FOLLOWED], capture_output=True, text=True, check=True)

    passed = json.loads(done.stdout)

    assert "dispatch/dispatcher.py" in passed and "functions/declaration.py" in passed
    assert len(passed) <= MOST_FILES, "\n".join(passed)
