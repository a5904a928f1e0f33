"""Results and parameters of any size: pods write to an artifact root that both sides reach, on a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn
from tests.cluster.api import Namespace
from tests.s3_server import KEY, SECRET, S3Server, s3

HOST = os.environ.get("CLUSTER_HOST", "")
INDEX = os.environ.get("CLUSTER_PIP_INDEX_URL", "")  # where it is set, pods reach no other


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3(HOST) as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def login(namespace: Namespace) -> None:
    namespace.make_secret("aws", id=KEY, key=SECRET)


@pytest.fixture
def variables(reach: None, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("MLFN_ARTIFACTS", "s3://results/pods")
    for name, value in server.environ().items():
        monkeypatch.setenv(name, value)
    of_pods = {name: value for name, value in server.environ().items() if "KEY" not in name}
    if INDEX:
        monkeypatch.setenv("MLFN_PACKAGE_INDEX", INDEX)
        monkeypatch.setenv("MLFN_TRUSTED_HOST", HOST)
    return of_pods


@mlfn.function
def repeat(content: bytes, times: int) -> bytes:
    return content * times


@mlfn.function
def measure(path: Path) -> tuple[int, bytes]:
    content = path.read_bytes()
    return len(content), content[-3:]


def with_login(function: mlfn.Function[..., object], variables: dict[str, str]) -> mlfn.Function[..., object]:
    start = {"AWS_ACCESS_KEY_ID": ("aws", "id"), "AWS_SECRET_ACCESS_KEY": ("aws", "key")}
    pod = {
        "containers": [
            {
                "name": "main",
                "env": [
                    {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
                    for name, (secret, key) in start.items()
                ],
            }
        ]
    }
    return function.with_options(env=variables).on("kubernetes", pod=pod)


def test_a_result_of_24_mib_comes_back(variables: dict[str, str]) -> None:
    content = os.urandom(3 << 20)

    assert with_login(repeat, variables).submit(content, 8).result(timeout=120) == content * 8


def test_a_file_of_3_mib_travels_to_a_pod(variables: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(bytes(3 << 20) + b"end")

    assert with_login(measure, variables).submit(file).result(timeout=120) == ((3 << 20) + 3, b"end")
