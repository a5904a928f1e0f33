"""Runs whose client is killed before they are over."""

import sys
import time
from pathlib import Path

import mlfn

LEDGERS = Path("../ledgers")


def begin(name: str) -> None:
    with (LEDGERS / name).open("a") as file:
        file.write("begun\n")


def wait_for(gate: str) -> None:
    while not (LEDGERS / gate).exists():
        time.sleep(0.01)


@mlfn.function
def lost(ctx: mlfn.Context) -> None:
    ctx.log_metric("loss", 0.5, step=0)
    with ctx.child(depth=4):
        print("begun", flush=True)
        begin("lost")
        wait_for("never")


@mlfn.function(retry=mlfn.Retry(1, delay=0.0, on=["lost"]))
def retried(ctx: mlfn.Context) -> int:
    begin("retried")
    if ctx.attempt == 1:
        wait_for("never")
    return ctx.attempt


@mlfn.function
def outlived(ctx: mlfn.Context) -> dict[str, int]:
    begin("outlived")
    ctx.log_metric("loss", 0.5, step=0)
    wait_for("gate")
    ctx.log_metric("loss", 0.25, step=1)
    ctx.log_artifact("report", "it went on\n")
    print("it went on")
    return {"score": 5}


@mlfn.function
@mlfn.handler(outputs=["sum"])
def pending(value: int) -> int:
    begin("pending")
    return value + 1


@mlfn.function
def behind(value: int) -> int:
    return 10 * value


@mlfn.function
def ahead() -> None:
    begin("ahead")
    wait_for("never")


if sys.argv[1] == "at-work":
    runs = [lost.submit(), retried.submit(), outlived.submit()]
else:  # the one worker that there may be has its hands full
    runs = [ahead.submit()]
    while not (LEDGERS / "ahead").exists():
        time.sleep(0.01)
    first = pending.submit(4)
    runs += [first, behind.submit(first.outputs.sum)]
mlfn.wait(runs)
