"""What the processor is started with: its configuration, the module of the function, and its environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn._version import __version__
from mlfn.backends.hosts.server_options import VARIABLE as SECRETS
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.kinds.nuclio.configuration import MODULE, RAW, SOURCE, with_passwords
from mlfn.host.private_files import replace
from mlfn.serving.processor import VARIABLE

CONFIGURATION, PLATFORM = "processor.json", "platform.json"
_ROOM_FOR_RUNS = 32 * 2**20  # bytes of a run's parameters; for other requests a smaller limit holds
_NOT_HERE = (
    "handler",
    "build",
    "image",
    "env",
    "resources",
    "serviceType",
    "serviceAccount",
    "securityContext",
    "nodeSelector",
)
_OF_CLUSTER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")


def write(folder: Path, options: ServerOptions, *, port: int, workers: int) -> None:
    """Write the files of a processor into the folder of its service; `remove_secrets` once it has read them."""
    assert options.engine is not None
    source = SOURCE.format(name=options.name, version=__version__, payload=options.engine["payload"])
    replace(folder / f"{MODULE}.py", source.encode())
    configuration = configured(options, port=port, workers=workers)
    replace(folder / CONFIGURATION, json.dumps(configuration).encode())
    replace(folder / PLATFORM, json.dumps(_PLATFORM).encode())


def remove_secrets(folder: Path) -> None:
    """Remove the configuration, in which passwords of triggers stand."""
    (folder / CONFIGURATION).unlink(missing_ok=True)


def configured(options: ServerOptions, *, port: int, workers: int) -> dict[str, Any]:
    """Return the function's own configuration as it holds on this machine: its address, and the values of its passwords."""
    assert options.engine is not None
    given = options.engine["configuration"]
    spec = {name: value for name, value in given["spec"].items() if name not in _NOT_HERE}
    triggers = with_passwords(spec["triggers"], options.passwords)
    http = triggers[options.engine["http"]]
    http["url"] = f"{options.host}:{port}"
    http["numWorkers"] = workers
    http["attributes"] = {"maxRequestBodySize": max(options.max_body, _ROOM_FOR_RUNS)}  # the rest is kept by the front
    return {
        "metadata": {**given["metadata"], "namespace": "mlfn"},
        "spec": {**spec, "handler": f"{MODULE}:handler", "triggers": triggers},
    }


# Its pages show the whole configuration to whoever asks, and it does not say so where it cannot have their ports.
_PLATFORM: Mapping[str, Any] = {
    "webAdmin": {"enabled": False},
    "healthCheck": {"enabled": False},
    "logger": {
        "sinks": {"out": {"kind": "stdout"}},
        "system": [{"level": "warning", "sink": "out"}],
        "functions": [{"level": "warning", "sink": "out"}],
    },
}


def environment(folder: Path, options: ServerOptions, secrets: str) -> dict[str, str]:
    """Return the variables that the processor, and through it the workers, are started with."""
    assert options.engine is not None
    kept = {name: value for name, value in os.environ.items() if name not in _OF_CLUSTER}
    return {
        **kept,
        SECRETS: secrets,
        VARIABLE: str(folder),
        "NUCLIO_PYTHON_WRAPPER_PATH": options.engine["wrapper"],
        "NUCLIO_PYTHON_PATH": str(folder),
        "NUCLIO_PYTHON_EXE_PATH": sys.executable,
        RAW["name"]: RAW["value"],
    }
