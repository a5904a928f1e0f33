"""The embedded server beside raw ASGI and FastAPI, one worker each, in one run; needs `wrk`, and FastAPI for its rows.

Where MLFN_NUCLIO_PROCESSOR names Nuclio's processor, also services in that beside handlers that are written by hand for it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import emit

import mlfn

SECONDS = 3
ROUNDS = 3
BODY = '{"rows": [[1, 2, 3], [4, 5, 6]], "scale": 2}'
TEXT = "x" * 100
RAW = """
import sys, uvicorn
async def app(scope, receive, send):
    body = (await receive())["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off", ws="none")
"""
FASTAPI = """
import sys, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
app = FastAPI()
class Body(BaseModel):
    rows: list[list[float]]
    scale: float = 1.0
@app.post("/")
async def typed(body: Body) -> Body:
    return body
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False, ws="none")
"""
BY_HAND = """
from nuclio_sdk import Response
from pydantic import BaseModel
class Body(BaseModel):
    rows: list[list[float]]
    scale: float = 1.0
def typed(context, event):
    return Response(body=Body.model_validate(event.body).model_dump_json(), content_type="application/json")
def classic(context, event):
    return event.body
"""


@mlfn.function(kind="nuclio")
def typed(rows: list[list[float]], scale: float = 1.0) -> dict[str, object]:
    return {"rows": rows, "scale": scale}


@mlfn.function(kind="nuclio")
def classic(context, event):
    return event.body


@mlfn.function(kind="nuclio")
def double(x: int) -> int:
    return 2 * x


def main() -> None:
    """Measure, and print the rows."""
    processor = os.environ.pop("MLFN_NUCLIO_PROCESSOR", "")
    in_process()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFN_DATA"] = f"{folder}/data"
        scripts = {"json": wrk_script(folder, BODY, "application/json"), "text": wrk_script(folder, TEXT, "text/plain")}
        peers = {name: start(code) for name, code in (("raw", RAW), ("fastapi", FASTAPI))}
        services = [typed.deploy(), classic.deploy()]
        try:
            targets = {
                "raw": (peers["raw"][1], "json"),
                "raw_text": (peers["raw"][1], "text"),
                "fastapi": (peers["fastapi"][1], "json"),
                "typed": (services[0].url, "json"),
                "classic": (services[1].url, "text"),
            }
            rounds = [{name: rate(url, scripts[sort]) for name, (url, sort) in targets.items()} for _ in range(ROUNDS)]
            found = {name: statistics.median(item[name] for item in rounds) for name in targets}
            emit(
                serve_typed_per_second=found["typed"],
                serve_typed_fastapi_ratio=found["typed"] / found["fastapi"],
                serve_typed_raw_ratio=found["typed"] / found["raw"],
                serve_classic_raw_ratio=found["classic"] / found["raw_text"],
                serve_raw_per_second=found["raw"],
                serve_half_rate_p99_ms=at_half(services[0].url, scripts["json"], found["typed"]),
            )
            emit(submit_service_ms=warm_submits())
        finally:
            for service in mlfn.services():
                service.delete()
            for process, _ in peers.values():
                process.kill()
        if processor:
            on_processor(processor, Path(folder), scripts)


def on_processor(processor: str, folder: Path, scripts: dict[str, str]) -> None:
    """Measure services in Nuclio's own processor beside handlers that are written by hand for it, one worker each, by turns."""
    mlfn.init(nuclio_processor=processor)
    services = {"typed": typed.deploy(again=True), "classic": classic.deploy(again=True)}
    peers = {name: start_by_hand(processor, folder / f"by-hand-{name}", name) for name in services}
    try:
        ratios, rates = {}, {}
        for name, sort in (("typed", "json"), ("classic", "text")):
            pairs = [
                (rate(services[name].url, scripts[sort]), rate(peers[name][1], scripts[sort])) for _ in range(ROUNDS)
            ]
            ratios[name] = statistics.median(own / by_hand for own, by_hand in pairs)
            rates[name] = statistics.median(own for own, _ in pairs)
        emit(
            serve_nuclio_typed_per_second=rates["typed"],
            serve_nuclio_typed_ratio=ratios["typed"],
            serve_nuclio_classic_per_second=rates["classic"],
            serve_nuclio_classic_ratio=ratios["classic"],
        )
    finally:
        for service in mlfn.services():
            service.delete()
        for process, _ in peers.values():
            process.kill()


def start_by_hand(processor: str, folder: Path, handler: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a processor with a handler that is written for it, and return it with its address once it answers."""
    folder.mkdir()
    (folder / "by_hand.py").write_text(BY_HAND)
    port = free_port()
    http = {"kind": "http", "name": "http", "numWorkers": 1, "url": f"127.0.0.1:{port}"}
    spec = {"handler": f"by_hand:{handler}", "runtime": "python:3.11", "triggers": {"http": http}}
    sinks = [{"level": "warning", "sink": "out"}]
    platform = {
        **{name: {"enabled": False} for name in ("webAdmin", "healthCheck")},
        "logger": {"sinks": {"out": {"kind": "stdout"}}, "system": sinks, "functions": sinks},
    }
    for name, content in (("processor", {"metadata": {"name": handler}, "spec": spec}), ("platform", platform)):
        (folder / name).write_text(json.dumps(content))
    environ = {
        **os.environ,
        "NUCLIO_PYTHON_WRAPPER_PATH": os.environ.get("MLFN_NUCLIO_WRAPPER")
        or str(Path(processor).with_name("_nuclio_wrapper.py")),
        "NUCLIO_PYTHON_PATH": str(folder),
        "NUCLIO_PYTHON_EXE_PATH": sys.executable,
    }
    command = [processor, "--config", str(folder / "processor"), "--platform-config", str(folder / "platform")]
    return wait_for(subprocess.Popen(command, env=environ), port)


def in_process() -> None:
    """Measure the adapter alone: one event with a body of JSON, the answer included."""
    mock = typed.mock()
    body, headers = BODY.encode(), {"Content-Type": "application/json"}
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(5000):
            mock.post(body, headers=headers)
        took.append((time.perf_counter() - begun) / 5000 * 1e6)
    emit(mock_event_us=min(took))


def warm_submits() -> float:
    """Return the milliseconds from `submit` to the result, on a service that is there."""
    double.submit(1).result(60)
    took = []
    for number in range(50):
        begun = time.perf_counter()
        double.submit(number).result(60)
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


def start(code: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server, and return it with its address once it answers."""
    port = free_port()
    return wait_for(subprocess.Popen([sys.executable, "-c", code, str(port)]), port)


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[bytes], port: int) -> tuple[subprocess.Popen[bytes], str]:
    """Return a server with its address once it answers."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    sys.exit("a server did not begin")


def wrk_script(folder: str, body: str, kind: str) -> str:
    """Write what wrk sends."""
    path = Path(folder) / f"{kind.replace('/', '-')}.lua"
    path.write_text(f'wrk.method = "POST"\nwrk.body = {body!r}\nwrk.headers["Content-Type"] = "{kind}"\n')
    return str(path)


def rate(url: str, script: str, connections: int = 8) -> float:
    """Return how many requests a second are answered; each with success."""
    out = wrk(url, script, connections)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]


def at_half(url: str, script: str, peak: float) -> float:
    """Return the p99 in milliseconds at about half of the peak: connections that wait between their requests."""
    connections = 4
    wait = f"function delay() return {int(1000 * connections / (peak / 2))} end\n"
    slower = Path(script).with_suffix(".half.lua")
    slower.write_text(Path(script).read_text() + wait)
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", wrk(url, str(slower), connections, "--latency")).groups()  # type: ignore[index]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def wrk(url: str, script: str, connections: int, *more: str) -> str:
    """Run wrk, and return what it prints; refuse answers that are no success."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", *more, "-s", script, url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    return out


if __name__ == "__main__":
    main()
