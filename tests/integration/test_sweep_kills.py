"""kill -9 of a sweep's driver and of its workers at any instant: no child lost, none recorded twice, the same parameters."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger import Stage, audit, fork_servers, wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

SCRIPT = """
import os
import sys
import time

import mlfn

@mlfn.function(name="child", retry=mlfn.Retry(500, delay=0.05, backoff=1))  # a kill hits whoever works
@mlfn.handler(outputs=["score"])
def child(x: float, y: int, ledger: str, pace: float, held: float, gate: str, ctx: mlfn.Context) -> float:
    note(ledger, "start", ctx)
    while x == held and not os.path.exists(gate):
        time.sleep(0.01)
    time.sleep(pace * (y % 5))
    ctx.log_metric("loss", x, step=0)
    note(ledger, "end", ctx)
    return x + y

ledger, what, count, pace, held = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
spaces = {"x": mlfn.uniform(0, 1), "y": mlfn.randint(0, 100)}
sweep = child.random(n=count, seed=7, **spaces) if what == "random" else child.search(n=count, seed=7, **spaces)
options = {"parallel": 4, "deterministic": True} if what == "search" else {}
if what == "search":
    import optuna.samplers  # which takes a while: a driver is to be killed at its work
print("ready", flush=True)
run = sweep.with_options(name="it", select="max.score", **options).submit(
    ledger=ledger, pace=pace, held=held, gate=ledger + ".gate"
)
run.wait()
print(run.best_iteration, flush=True)
"""
NO_CHILD = "2"  # no x is so large
READY = "ready\n"
FINISHED = "SELECT count(*) FROM runs WHERE iteration > 0 AND state = 'succeeded'"


def points(stage: Stage) -> list[dict[str, Any]]:
    """Return each child's own parameters in the order of the numbers."""
    rows = stage.query("SELECT iteration, point FROM runs WHERE iteration > 0 ORDER BY iteration")
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [{key: value["inline"] for key, value in json.loads(row[1]).items()} for row in rows]


@dataclass
class Killer:
    """Kills the driver, a worker or what forks workers when so many children have been recorded, and starts the driver again."""

    stage: Stage
    arguments: tuple[str, ...]
    dice: random.Random
    life: float
    """Seconds within which the driver is killed, once it may be."""
    killed: list[tuple[str, int]] = field(default_factory=list)
    """What was killed, and how many children had been recorded then."""
    driver: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.driver is not None and not self.ended():
            self.stage.kill(self.driver)

    def kill(self, kind: str, after: int) -> None:
        """Kill one, soon after so many children have been recorded."""
        if self.driver is None:
            self.driver = self.stage.start(*self.arguments)
            assert self.driver.stdout.readline() == READY, self.said()
        wait_until(lambda: self.ended() or self.recorded() >= after, timeout=60, every=0.005)
        time.sleep(self.dice.uniform(0, self.life if kind == "driver" else 0.05))  # an instant is what is drawn here
        recorded = self.recorded()
        if kind == "driver":
            self.kill_driver()
        elif kind == "worker":
            pid = wait_until(lambda: self.hit_one_of(self.stage.workers()))
            wait_until(lambda: pid not in self.stage.workers())
        elif not self.hit_one_of(fork_servers(self.stage.data)):
            return  # there is none while nobody wants another worker
        self.killed.append((kind, recorded))

    def kill_driver(self) -> None:
        assert not self.ended(), self.said()
        self.stage.kill(self.driver)
        assert self.driver.returncode == -signal.SIGKILL
        self.driver = None

    def hit_one_of(self, pids: list[int]) -> int | None:
        """Return the process that was killed; None where there was none, or it had just ended by itself."""
        assert not self.ended(), self.said()
        if not pids:
            return None
        pid = self.dice.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return pid

    def rest(self) -> str:
        """Let the script come to its end, and return what it printed."""
        if self.driver is None:
            return self.stage.run(*self.arguments, timeout=120)
        out, err = self.driver.communicate(timeout=120)
        assert self.driver.returncode == 0, err
        return READY + out

    def recorded(self) -> int:
        try:
            return self.stage.query(FINISHED)[0][0] if (self.stage.data / "mlfn.db").exists() else 0
        except sqlite3.OperationalError:  # its tables are being made
            return 0

    def ended(self) -> bool:
        return self.driver.poll() is not None

    def said(self) -> str:
        return f"the script ended by itself, after {len(self.killed)} kills: {self.driver.communicate()}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("what", "count", "kills", "life"),
    [("random", 1000, 500, 0.2), ("search", 300, 150, 0.3)],
    ids=["random", "search"],
)
def test_a_sweep_killed_at_random_is_carried_on(tmp_path, request, what, count, kills, life):
    """Half of the kills, in a random order, hit the driver; the last child waits until all have been delivered.

    As many hit workers. A tenth as many, a dozen at least, are aimed at the process that forks the workers, which is not
    always there.

    A driver tells its strategy of all children again. With TPE it also loads Optuna, and its rounds of four wait for each
    worker that is killed: 1,000 children and 500 kills would take some minutes more. So the thousand are drawn at random,
    and 300, killed as often for their number, are chosen by TPE, each by all that came before it.
    """
    if not request.config.getoption("--full"):  # a third of both takes a third of the time
        count, kills = count * 3 // 10, kills * 4 // 15
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    undisturbed = Stage(tmp_path / "undisturbed", SCRIPT, heartbeat=0.2)
    best = undisturbed.run(what, str(count), "0", NO_CHILD, timeout=120)
    wanted = points(undisturbed)
    kinds = ["driver", "worker"] * (kills // 2) + ["fork server"] * max(12, kills // 10)
    dice.shuffle(kinds)
    stage = Stage(tmp_path / "killed", SCRIPT, heartbeat=0.2)

    with Killer(stage, (what, str(count), "0.01", repr(wanted[-1]["x"])), dice, life) as killer:
        for kind, after in zip(kinds, sorted(dice.choices(range(count - 10), k=len(kinds))), strict=True):
            killer.kill(kind, after)
        Path(f"{stage.ledger}.gate").touch()
        said = killer.rest()

    killed = Counter(kind for kind, _ in killer.killed)
    assert killed["driver"] == killed["worker"] == kills // 2 and killed["fork server"] > kills // 40
    fifths = Counter(recorded * 5 // count for _, recorded in killer.killed)
    took_over = stage.query("SELECT attempt FROM runs WHERE iteration = 0")[0][0]
    hit = stage.query("SELECT count(*) FROM attempts")[0][0]
    print(
        f"kills by fifths of the children: {sorted(fifths.items())}; {took_over} drivers took over; {hit} children hit"
    )
    assert all(fifths[fifth] > kills // 50 for fifth in range(5))
    assert took_over > kills // 20 and hit > kills // 20
    assert said == best
    audit(stage, runs=count + 1)
    assert points(stage) == wanted
    assert stage.query(FINISHED) == [(count,)]


IN_ROUNDS = """
import os
import signal
import sys

import mlfn
from mlfn.sweep.optuna import Search

chosen = Search.ask

def ask(self, iteration):
    if iteration == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return chosen(self, iteration)

@mlfn.function(name="child")
def child(x: float, y: float) -> float:
    return x + y

Search.ask = ask
search = child.on("inline").search(n=18, seed=7, x=mlfn.uniform(0, 1), y=mlfn.uniform(0, 1))
run = search.with_options(name="it", select="max.return", parallel=4, deterministic=True).submit()
print(run.wait(), run.best_iteration)
"""
NEVER = "0"


@pytest.fixture(scope="module")
def in_rounds(tmp_path_factory):
    """Return what an unkilled search in rounds of four prints and chooses; its first ten children are drawn by chance."""
    stage = Stage(tmp_path_factory.mktemp("undisturbed"), IN_ROUNDS)
    return stage.run(NEVER), points(stage)


@pytest.mark.parametrize("number", [14, 16, 17, 18, 19])
def test_a_round_that_a_kill_left_open_is_filled_up_before_it_is_judged(tmp_path, in_rounds, number):
    stage = Stage(tmp_path / "killed", IN_ROUNDS)

    stage.run(str(number), code=-signal.SIGKILL)
    left = stage.query("SELECT state, count(*) FROM runs WHERE iteration > 0 GROUP BY state")
    said = stage.run(NEVER)

    assert left == [("succeeded", number - 1)]
    assert (said, points(stage)) == in_rounds
