"""A sweep in the caller's own thread, whose process is killed with a child in flight."""

from __future__ import annotations

import signal

import pytest

from tests.ledger import Stage

SCRIPT = """
import os
import signal
import sys

import mlfn

RETRY = int(sys.argv[2])

@mlfn.function(name="child", retry=mlfn.Retry(RETRY) if RETRY else None)
def child(x: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    if x == 2 and ctx.attempt <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    ctx.log_metric("score", x)
    return x

sweep = child.on("inline").grid(x=[1, 2, 3]).with_options(name="it", select="max.score").submit(ledger=sys.argv[1])
print([(one.iteration, str(one.state), one.record.attempt) for one in sweep.children], sweep.result())
"""


@pytest.mark.parametrize("retry", [2, 1, 0])
def test_the_child_is_tried_again_as_often_as_it_may_be(tmp_path, retry):
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)

    for _ in range(min(retry + 1, 2)):
        stage.run(str(retry), code=-signal.SIGKILL)
    out = stage.run(str(retry)).strip()

    state = "succeeded" if retry == 2 else "failed"
    assert out == f"[(1, 'succeeded', 1), (2, '{state}', {retry + 1}), (3, 'succeeded', 1)] 3"
    assert [attempt for *_, attempt, _ in stage.entries()] == [1, *range(1, retry + 2), 1]
    if retry < 2:
        assert stage.query("SELECT reason FROM runs WHERE state = 'failed'") == [("lost",)]
