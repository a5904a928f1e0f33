"""Figures of on='kubernetes' beside what is made by hand, on the cluster that KUBECONFIG names: ``python benchmarks/cluster.py``.

Its image is there already. Each figure and what it is compared with are measured by turns, in a namespace of their own.
"""

from __future__ import annotations

import os
import resource
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from timing import emit

import mlfn
from mlfn.backends.places.kubernetes.connection import Connection
from mlfn.backends.places.kubernetes.objects import EXECUTION
from mlfn.backends.places.kubernetes.watch import PodWatch

IMAGE = "python:{}.{}-slim".format(*sys.version_info)
REPEATS, CHILDREN, AT_A_TIME, WATCHED = 10, 50, 8, 1000


@mlfn.function
def noop(n: int) -> float:
    import time

    return time.time()


def container(code: str) -> dict[str, Any]:
    return {
        "name": "main",
        "image": IMAGE,
        "command": ["python", "-c", code],
    }


class ByHand:
    """What a user would make with a client of Kubernetes."""

    def __init__(self, api: Connection, namespace: str) -> None:
        self.api = api
        self.base = f"/api/v1/namespaces/{namespace}"
        self.jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"

    def pod(self) -> float:
        """Return the seconds from a pod's creation until its end is seen."""
        name = f"pod-{secrets.token_hex(4)}"
        body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container("print(1)")]}}
        begun = time.perf_counter()
        self.api.post(f"{self.base}/pods", body)
        self._await("pods", name, lambda found: found["status"].get("phase") == "Succeeded")
        taken = time.perf_counter() - begun
        self.api.delete(f"{self.base}/pods/{name}")
        return taken

    def job(self) -> float:
        """Return the seconds of an Indexed Job, from its creation until it is complete."""
        name = f"job-{secrets.token_hex(4)}"
        template = {"spec": {"restartPolicy": "Never", "containers": [container("print(1)")]}}
        spec = {"completionMode": "Indexed", "completions": CHILDREN, "parallelism": AT_A_TIME, "template": template}
        begun = time.perf_counter()
        self.api.post(self.jobs, {"metadata": {"name": name}, "spec": spec})
        while self.api.get(f"{self.jobs}/{name}")["status"].get("succeeded", 0) < CHILDREN:
            time.sleep(0.2)
        taken = time.perf_counter() - begun
        self.api.delete(f"{self.jobs}/{name}", {"propagationPolicy": "Foreground"})
        while self.api.get(f"{self.base}/pods", labelSelector=f"job-name={name}")["items"]:
            time.sleep(0.2)
        return taken

    def _await(self, plural: str, name: str, is_over: Callable[[dict[str, Any]], bool]) -> None:
        import json

        query = {"watch": "true", "fieldSelector": f"metadata.name={name}"}
        for line in self.api.stream(f"{self.base}/{plural}", idle=60, **query).lines():
            if is_over(json.loads(line)["object"]):
                return


def single(hand: ByHand) -> None:
    """One job over the same pod by hand, the way back, and what `submit` takes."""
    remote = noop.on("kubernetes")
    remote.submit(0).result()
    hand.pod()
    ours, theirs, back, submits = [], [], [], []
    for n in range(REPEATS):
        theirs.append(hand.pod())
        begun = time.perf_counter()
        run = remote.submit(n)
        submits.append(time.perf_counter() - begun)
        returned = run.result()
        back.append(time.time() - returned)  # the pod's clock is this machine's
        ours.append(time.perf_counter() - begun)
    emit(
        pod_seconds=statistics.median(theirs),
        job_seconds=statistics.median(ours),
        job_over_pod_seconds=statistics.median(ours) - statistics.median(theirs),
        return_to_result_ms=statistics.median(back) * 1e3,
        cluster_submit_ms=statistics.median(submits) * 1e3,
    )


def grid(hand: ByHand) -> None:
    """A grid as an Indexed Job beside one by hand."""
    ours, theirs = [], []
    for turn in range(3):
        theirs.append(hand.job())
        begun = time.perf_counter()
        noop.on("kubernetes").grid(n=range(turn * 100, turn * 100 + CHILDREN)).with_options(
            parallel=AT_A_TIME
        ).submit().wait()
        ours.append(time.perf_counter() - begun)
    emit(
        grid_pods_seconds=statistics.median(ours),
        indexed_job_seconds=statistics.median(theirs),
        indexed_job_ratio=statistics.median(theirs) / statistics.median(ours),
    )


def watched(hand: ByHand) -> None:
    """The states of many pods that no kubelet runs, each changed every few seconds."""
    for n in range(WATCHED):
        metadata = {"name": f"watched-{n}", "labels": {EXECUTION: f"execution-{n}"}}
        spec = {"schedulerName": "nobody", "containers": [container("print(1)")]}
        hand.api.post(f"{hand.base}/pods", {"metadata": metadata, "spec": spec})
    before, cpu, begun = _resident(), time.process_time(), time.perf_counter()
    seen: dict[str, Any] = {}
    watch = PodWatch(hand.api, hand.base.rpartition("/")[2], lambda message: _keep(seen, message))
    watch.start()
    while len(seen) < WATCHED:
        time.sleep(0.05)
    listed_cpu = time.process_time() - cpu
    changing = os.fork()
    if not changing:
        _change(hand.base)
    cpu, begun = time.process_time(), time.perf_counter()
    os.waitpid(changing, 0)
    taken = time.perf_counter() - begun
    used = time.process_time() - cpu
    watch.is_closed = True
    emit(
        watched_memory_mb=(_resident() - before) / 2**20,
        watched_core_percent=100 * used / taken,
        watched_listing_cpu_seconds=listed_cpu,
        watched_changes_per_second=WATCHED / taken,
    )


def _keep(seen: dict[str, Any], message: Any) -> None:
    if (pod := getattr(message, "pod", None)) is not None:
        seen[pod["metadata"]["name"]] = pod


def _change(base: str) -> None:
    """Patch each once, 25 a second, in a process of its own."""
    api = Connection()
    for n in range(WATCHED):
        api.patch(f"{base}/pods/watched-{n}", {"metadata": {"labels": {"changed": str(n)}}})
        time.sleep(0.04)
    os._exit(0)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def namespace() -> Iterator[ByHand]:
    """Make a namespace, and have mlfn use it by a kubeconfig of its own."""
    import yaml

    api, name = Connection(), f"bench-{secrets.token_hex(4)}"
    api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kubeconfig")
        path.write_text(yaml.safe_dump(config))
        os.environ |= {"KUBECONFIG": str(path), "MLFN_DATA": f"{folder}/data"}
        try:
            yield ByHand(Connection(), name)
            mlfn.shutdown()
        finally:
            api.delete(f"/api/v1/namespaces/{name}")


def main() -> None:
    """Measure what the command line names, or all."""
    rows = {row.__name__: row for row in (single, grid, watched)}
    with namespace() as hand:
        for name in sys.argv[1:] or rows:
            rows[name](hand)
    assert threading.active_count() < 50


if __name__ == "__main__":
    main()
