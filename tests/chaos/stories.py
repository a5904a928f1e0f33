"""Random stories of clients that submit, cancel, die and take over: ``python -m tests.chaos.stories --seeds 0:1000``.

All happens in one thread and in virtual time; a seed that fails is printed with its steps, and fails again when it is run again.
"""

from __future__ import annotations

import os
import sys

from tests.chaos import clock

clock.install()

import argparse  # noqa: E402
import logging  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from mlfn.settings import members  # noqa: E402
from mlfn.spec.plan import Selected  # noqa: E402
from tests.chaos.checks import faults  # noqa: E402
from tests.chaos.world import POINTS, Client, World, make_template, shown, unfinished  # noqa: E402

_MOST_TURNS = 4000
_ENDS = ("return", "return", "return", "raise", "exit", "kill", "oom", "evict", "unschedulable", "endless")
_RETRIES = (None, None, {"times": 2, "delay": 0.1, "backoff": 2.0, "max_delay": 300.0, "on": []})


class Told(logging.Handler):
    """Keeps what mlfn logs as an error: in a story that is a fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        self.texts.append(text)


class Story:
    """One story, which its seed determines."""

    def __init__(self, seed: int, root: Path, template: Path, *, has_detail: bool) -> None:
        clock.begin(seed)
        self.world = World(seed, root / "story", template, has_detail=has_detail)
        self._random = self.world.random
        self._values = 0

    def tell(self) -> list[str]:
        """Go through it, and return its faults."""
        self.world.new_client()
        steps: list[Callable[[], None]] = [
            self._submit,
            self._submit,
            self._grid,
            self._cancel,
            self._cancel_all,
            self._attach,
            self._arm,
            self._kill,
            self._suspend,
            self._evict,
            self._delete,
            self._idle,
        ]
        for _ in range(self._random.randint(3, 14)):
            self._random.choice(steps)()
            for _ in range(self._random.choice([0, 1, 3, 10])):
                self._turn()
        self.world.points.disarm()
        return self._end()

    def _end(self) -> list[str]:
        """Let all clients that live go on until each run is terminal; then a last one finds nothing to do."""
        self.world.note("the end begins")
        last = self._last_client()
        for turn in range(_MOST_TURNS):
            clock.CLOCK.sleep(self._random.choice([0.0, 0.2, 3.0]))  # retries wait for half a minute
            for client in self.world.living():
                client.asleep = 0
                self.world.let(client, "take a turn", client.take_turn)
            if turn % 20 == 0:
                last.resume_all()
                left = [name for name in self.world.engine.names() if not self.world.is_out_of_reach(name)]
                if not (left or unfinished(last.session) or last.session.store.executions()):
                    break
                if turn % 200 == 180:
                    last = self._last_client()
        found = faults(self.world, last.session.store)
        for client in self.world.living():
            client.session.store.close()
        return found

    def _last_client(self) -> Client:
        """Return a new client, which removes what dead ones left at the place."""
        last = self.world.new_client()
        last.session.dispatcher_of(Selected("chaos", self.world.options))
        return last

    # -- steps

    def _client(self) -> Client:
        living = [client for client in self.world.living() if not client.asleep]
        return self._random.choice(living) if living else self.world.new_client()

    def _turn(self) -> None:
        client = self._client()
        self.world.let(client, "take a turn", client.take_turn)
        for other in self.world.living():
            if other.asleep:
                other.asleep -= 1

    def _script(self) -> dict[str, Any]:
        self._values += 1
        ends = [self._random.choice(_ENDS) for _ in range(self._random.choice([1, 1, 2, 3]))]
        return {
            "takes": round(self._random.uniform(0.0, 2.0), 2),
            "points": self._random.choice([0, 0, 3, 12]),
            "ends": ends,
            "stubborn": self._random.random() < 0.1,
            "value": self._values,
        }

    def _submit_runs(self, count: int, parallel: int | None) -> None:
        client = self._client()
        scripts = [self._script() for _ in range(count)]
        endless = any("endless" in script["ends"] for script in scripts)
        timeout = self._random.choice([None, 1.0, 5.0]) if not endless else 3.0
        retry = self._random.choice(_RETRIES)

        def submit() -> None:
            plan = self.world.plan(client.session, retry=retry, timeout=timeout)
            batch = [
                self.world.submitted(client.session, plan, script, iteration=number if count > 1 else 0)
                for number, script in enumerate(scripts, 1)
            ]
            for item in batch:
                self.world.note(
                    f"{client.name} submits {item.run[:8]} {shown(item.params['script']['inline'])} {retry} {timeout}"
                )
            self.world.submit(client, plan, batch, parallel)

        self.world.let(client, "submit", submit)

    def _submit(self) -> None:
        self._submit_runs(1, None)

    def _grid(self) -> None:
        self._submit_runs(self._random.randint(2, 8), self._random.choice([None, 1, 2, 4]))

    def _cancel(self) -> None:
        client = self._client()
        runs = unfinished(client.session)
        if runs:
            record = self._random.choice(runs)
            self.world.note(f"{client.name} cancels {record.id[:8]}")
            self.world.cancelled.add(record.id)
            self.world.let(client, "cancel", lambda: client.session.cancel(record))

    def _cancel_all(self) -> None:
        client = self._client()
        if self._random.random() < 0.7:
            return
        self.world.note(f"{client.name} cancels all")

        def cancel() -> None:
            for record in unfinished(client.session):
                self.world.cancelled.add(record.id)
                client.session.cancel(record)

        self.world.let(client, "cancel", cancel)

    def _attach(self) -> None:
        client = self.world.new_client()
        self.world.let(client, "resume", client.resume_all)

    def _arm(self) -> None:
        if self._random.random() < 0.5:
            name, left = self._random.choice(POINTS), self._random.choice([1, 1, 2, 5])
            self.world.note(f"a kill is due at {name}:{left}")
            self.world.points.arm(name, left)
        else:
            left = self._random.randint(1, 60)
            self.world.note(f"a kill is due at the next point but {left}")
            self.world.points.arm(None, left)

    def _kill(self) -> None:
        client = self._client()
        self.world.note(f"{client.name} is killed")
        client.die()

    def _suspend(self) -> None:
        """Have a client that lives taken for dead, and another one resume its runs."""
        client = self._client()
        self.world.note(f"{client.name} is suspended, and taken for dead")
        self.world.usurped = True
        client.seem_dead()
        client.asleep = self._random.choice([0, 3, 10, 30])
        self._attach()

    def _evict(self) -> None:
        if names := self.world.engine.names():
            name = self._random.choice(names)
            unit = self._random.choice(self.world.engine.units_of(name))
            self.world.note(f"the engine evicts {name[:8]}/{unit.index}")
            self.world.engine.evict(name, unit.index)

    def _delete(self) -> None:
        names = self.world.engine.names()
        if names and self._random.random() < 0.3:
            name = self._random.choice(names)
            self.world.note(f"{name[:8]} is deleted past mlfn")
            self.world.deleted.add(name)
            super(type(self.world.engine), self.world.engine).delete(name)

    def _idle(self) -> None:
        seconds = self._random.uniform(0.0, 20.0)
        self.world.note(f"{seconds:.1f} s pass")
        clock.CLOCK.sleep(seconds)


def run_seed(seed: int, root: Path, template: Path, *, has_detail: bool = False) -> tuple[list[str], list[str]]:
    """Return the faults of a seed, and its steps."""
    told = Told()
    logging.getLogger("mlfn").addHandler(told)
    story = Story(seed, root, template, has_detail=has_detail)
    try:
        found = story.tell()
    except Exception:  # noqa: BLE001 - whatever it is, the seed has failed
        found = [traceback.format_exc()]
    finally:
        logging.getLogger("mlfn").removeHandler(told)
    return [*found, *told.texts], story.world.trace


def main() -> int:
    """Run the seeds that the command line names, and return how many failed, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:300", help="A:B, or one seed")
    parser.add_argument(
        "--trace", action="store_true", help="print all steps of each seed, those of store and engine among them"
    )
    parser.add_argument("--stop", type=int, default=5, help="stop after so many seeds that failed")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    failed = 0
    logging.getLogger("mlfn").setLevel(logging.ERROR)
    members.BUILT_IN["place"]["chaos"] = "tests.chaos.place:ChaosPlace"
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    root = Path(tempfile.mkdtemp(prefix="stories-", dir=base))
    os.environ["XDG_CONFIG_HOME"] = str(root / "config")
    os.environ["MLFN_DATA"] = str(root / "story")
    try:
        template = make_template(root / "template")
        for seed in seeds:
            found, trace = run_seed(seed, root, template, has_detail=arguments.trace)
            if found or arguments.trace:
                print(f"seed {seed}", *trace, sep="\n  ", flush=True)
            if found:
                print(*found, sep="\n  ! ", flush=True)
                failed += 1
                if failed >= arguments.stop:
                    break
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{len(seeds)} stories, {failed} failed")
    return min(failed, 100)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of texts is a part of a story
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.chaos.stories", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
