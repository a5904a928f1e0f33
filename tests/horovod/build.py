"""Build Horovod from its sources, once: an environment that has it, and its wheel, in a folder that is kept.

Prints the path of the wheel. Needs cmake, a C++ compiler and Open MPI's headers; takes some minutes, the first time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

# The newest TensorFlow that Horovod 0.28 is built against, the newest Python that it is built for: 3.11.
TENSORFLOW = "tensorflow-cpu==2.12.1"
HOROVOD = "horovod==0.28.1"
BUILT_WITH = ("setuptools<70", "wheel", TENSORFLOW, "cffi", "packaging", "cloudpickle", "psutil", "pyyaml")
SWITCHES = {
    "HOROVOD_WITH_TENSORFLOW": "1",
    "HOROVOD_WITH_MPI": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_PYTORCH": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
}


def home() -> Path:
    """Return the folder of the environment that this Python and these versions make."""
    made_of = (sysconfig.get_python_version(), HOROVOD, BUILT_WITH, SWITCHES)
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    return Path.home() / ".cache" / "mlfn-horovod" / digest


def build(folder: Path) -> Path:
    """Make the environment and the wheel, where they are not there; return the wheel's path."""
    complete = folder / "complete"
    if not complete.exists():
        python = str(folder / "bin" / "python")
        pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(folder, sys.executable, "-m", "venv", "--clear", str(folder))
        _run(folder, *pip, "install", *BUILT_WITH)
        _run(folder, *pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), HOROVOD)
        _run(folder, *pip, "install", "--no-deps", str(_wheel(folder)))
        complete.touch()
    return _wheel(folder)


def _run(folder: Path, *command: str) -> None:
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    subprocess.run(command, check=True, env={**os.environ, **SWITCHES, "PATH": path}, stdout=sys.stderr)


def _wheel(folder: Path) -> Path:
    return next(folder.glob("horovod-*.whl"))


if __name__ == "__main__":
    print(build(home()))
