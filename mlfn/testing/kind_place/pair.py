"""One kind at one place, as a case sees it: how to submit there, how to watch, and how to disturb."""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import mlfn
from mlfn.backends.logs import of_rank
from mlfn.testing.kind_place.inside import close_clients
from mlfn.testing.kind_place.marks import CannotBeAttemptedError, Mark, apply_marks, check_marks

T = TypeVar("T")

_MODULE = "kind_place_handlers"
_PREAMBLE = f"""\
import pickle
import sys
import time
from pathlib import Path

import mlfn
import {_MODULE} as handlers

DECLARED, ON, OPTIONS = pickle.loads(Path(__file__).with_name("pair.pickle").read_bytes())
SHARED = str(Path(__file__).parent.parent / "shared")

def placed(name, **options):
    return getattr(handlers, name).with_options(**{{**DECLARED, **options}}).on(ON, **OPTIONS)

"""


@dataclass(frozen=True)
class Note:
    """One line that a handler wrote about itself."""

    what: str
    run: str
    attempt: int
    rank: int
    pid: int


class Pair:
    """What a subclass says of its kind and place: data first, then what only it knows how to do.

    Each case has a data folder, a working folder and settings of its own. The working folder holds the handlers, so that
    they travel as a user's own module does; `shared` is a folder that the caller and the runs both see.
    """

    EXPECTED: ClassVar[Mapping[str, Mark]] = {}
    """The cases that this pair does not pass: name -> notimpl(...), notyet(...) or never(...)."""

    kind: Any = "job"
    """What ``@mlfn.function(kind=)`` takes."""

    options: ClassVar[Mapping[str, Any]] = {}
    """More of what ``@mlfn.function`` takes, as an image."""

    on: str = "local"
    place_options: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[Mapping[str, object]] = {"heartbeat": 0.2, "grace": 1, "max_workers": 2}

    patience: float = 60.0
    """Seconds within which all that a case waits for has happened."""

    limit: float = 0.5
    """Seconds of a run's time limit that is to be exceeded."""

    width: int = 2
    """How many runs there is room for at a time."""

    ranks: int = 1
    in_caller: bool = False
    """Whether `submit` returns only when the run is over."""

    too_large: int | None = None
    """Bytes of a result that the place refuses, where it refuses one."""

    unmet: ClassVar[Mapping[str, Any]] = {"image": "registry.example/train:1"}
    """An option that the place cannot honour."""

    failpoints: ClassVar[Mapping[str, str]] = {}
    """MLFN_FAILPOINT by case, for those of chapter Clients that end the client at one point."""

    waits_for: str = "worker"
    """What the words of a run that waits for room speak of."""

    deleted: str = "deleted"
    """What the words of a run that others ended speak of."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        check_marks(cls.EXPECTED, where=cls.__qualname__)
        apply_marks(cls, cls.EXPECTED)

    @classmethod
    def name_of_kind(cls) -> str:
        """Return the kind as the table shows it."""
        return cls.kind if isinstance(cls.kind, str) else type(cls.kind).__name__.lower()

    # -- what a subclass overrides, where it can
    def make_shared(self, folder: Path) -> Path:
        """Return the folder that both sides see, made below `folder`, on this side."""
        shared = folder / "shared"
        shared.mkdir()
        return shared

    def injecting(self) -> tuple[mlfn.Function[..., Any, Any], str]:
        """Return a function of `n` and of what the kind injects, which returns its type's name and `n`; and that name."""
        return self.placed("injected"), "Context"

    def give_secret(self, name: str, value: str) -> None:
        """Have runs find a secret of this name."""
        os.environ[name] = value

    def count_objects(self, sweep: mlfn.Run[Any]) -> int:
        """Return how many objects the engine had for a sweep."""
        raise CannotBeAttemptedError(f"count_objects() is not there: what {self.on} creates for a sweep is no object.")

    def remove_objects(self) -> None:
        """Remove from the engine whatever is left of runs that are over."""

    def preempt(self, run: mlfn.Run[Any]) -> None:
        """Take the run's place away, as the engine itself does."""
        raise CannotBeAttemptedError(f"preempt() is not there: {self.on} takes nothing away by itself.")

    def delete(self, run: mlfn.Run[Any]) -> None:
        """End the run's object past mlfn, as a colleague would."""
        raise CannotBeAttemptedError(f"delete() is not there: a run at {self.on} has no object of its own.")

    def replay_journals(self) -> None:
        """Have the next client read all journals again from their first line."""
        raise CannotBeAttemptedError(f"replay_journals() is not there: runs at {self.on} write no journal.")

    def unreachable(self) -> AbstractContextManager[None]:
        """Cut the engine off while the block runs, and reach it again after that."""
        raise CannotBeAttemptedError(f"unreachable() is not there: {self.on} cannot be cut off.")

    def leave_for_an_hour(self) -> None:
        """Let the time pass after which the engine has forgotten what nobody looked at."""
        time.sleep(5 * float(str(self.settings["heartbeat"])))

    def accept(self, plan: str) -> None:
        """Have the engine check what a plan would create; raise if it refuses."""

    # -- before and after each case
    def setup_method(self) -> None:
        """Give the case folders, settings and handlers of its own."""
        self._before = (dict(os.environ), Path.cwd(), list(sys.path))
        self.root = Path(tempfile.mkdtemp(prefix="kind-place-")).resolve()
        self.data = self.root / "data"
        self.work = self.root / "work"
        self.work.mkdir()
        self.shared = self.make_shared(self.root)
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        os.environ.update(self._environ())
        os.chdir(self.work)
        shutil.copy(Path(__file__).with_name("handlers.py"), self.work / f"{_MODULE}.py")
        declared = {"kind": self.kind, **self.options}
        (self.work / "pair.pickle").write_bytes(pickle.dumps((declared, self.on, dict(self.place_options))))
        sys.path.insert(0, str(self.work))
        sys.modules.pop(_MODULE, None)
        importlib.invalidate_caches()
        self.handlers = importlib.import_module(_MODULE)

    def teardown_method(self) -> None:
        """End all that the case has begun, and put everything back."""
        (self.shared / "over").touch()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for thread in self._threads:
            thread.join(self.patience)
        close_clients()
        environ, folder, path = self._before
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        sys.path[:] = path
        sys.modules.pop(_MODULE, None)
        shutil.rmtree(self.root, ignore_errors=True)

    def _environ(self) -> dict[str, str]:
        own = {f"MLFN_{name.upper()}": str(value) for name, value in self.settings.items()}
        return {**own, "MLFN_DATA": str(self.data), "XDG_CONFIG_HOME": str(self.root / "config")}

    # -- submitting
    def placed(self, handler: str, **options: Any) -> mlfn.Function[..., Any, Any]:
        """Return one of the handlers, of this kind and at this place."""
        function: mlfn.Function[..., Any, Any] = getattr(self.handlers, handler)
        return function.with_options(**{"kind": self.kind, **self.options, **options}).on(self.on, **self.place_options)

    def begin(self, function: Any, *args: Any, **params: Any) -> mlfn.Run[Any]:
        """Submit what goes on for a while; in a thread of its own, where `submit` itself would wait for it."""
        if not self.in_caller:
            run: mlfn.Run[Any] = function.submit(*args, **params)
            return run
        before = {run.id for run in mlfn.runs(limit=1000)}
        thread = self.in_thread(lambda: function.submit(*args, **params))

        def begun() -> mlfn.Run[Any] | None:
            if thread.failed:
                raise thread.failed[0]
            return next((run for run in mlfn.runs(limit=1000) if run.id not in before), None)

        return self.wait_until(begun, "the submitted run is listed")

    def in_thread(self, action: Callable[[], object]) -> CaseThread:
        """Do something beside the case; what it raises is kept."""
        thread = CaseThread(action)
        self._threads.append(thread)
        thread.start()
        return thread

    def begin_staged(self, **options: Any) -> mlfn.Run[Any]:
        """Submit the run that waits after its second step, and return it when it is there."""
        run = self.begin(self.placed("staged", **options), str(self.shared))
        self.wait_until(lambda: self.notes("start"), "the run has begun")
        return run

    def go(self) -> None:
        """Let all runs go on that wait for it."""
        (self.shared / "go").touch()

    # -- watching
    def notes(self, what: str = "", *, every_rank: bool = False) -> list[Note]:
        """Return what handlers wrote about themselves, or one sort of it: those of rank 0, or of every rank."""
        path = self.shared / "notes"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        found = [Note(word, run, int(attempt), int(rank), int(pid)) for word, run, attempt, rank, pid in lines]
        return [note for note in found if what in ("", note.what) and (every_rank or not note.rank)]

    def have_begun(self) -> bool:
        """Return whether a run has begun in all its ranks."""
        return len(self.notes("start", every_rank=True)) == self.ranks

    def of_rank_0(self, log: str) -> str:
        """Return what rank 0 wrote into a log."""
        return "".join(of_rank([log], 0)) if self.ranks > 1 else log

    def wait_until(self, condition: Callable[[], T | None], what: str) -> T:
        """Return the first true value of a condition; fail when there was none in time."""
        until = time.monotonic() + self.patience
        while not (value := condition()):
            assert time.monotonic() < until, f"waited {self.patience} s in vain until {what}"
            time.sleep(0.02)
        return value

    def raised(self, expected: type[T], action: Callable[[], object]) -> T:
        """Return the exception of a type that an action raises; fail if it raises none."""
        try:
            action()
        except Exception as error:
            if isinstance(error, expected):
                return error
            raise
        raise AssertionError(f"no {expected.__name__} was raised")

    def data_files(self) -> list[Path]:
        """Return all files of the data folder."""
        return sorted(path for path in self.data.rglob("*") if path.is_file())

    # -- clients in processes of their own
    def client(self, script: str, *args: str, **environ: str) -> subprocess.Popen[str]:
        """Start a client that runs a script; `placed`, `handlers` and `SHARED` are there."""
        path = self.work / f"client{len(self._processes)}.py"
        path.write_text(_PREAMBLE + script)
        return self._start([sys.executable, str(path), *args], environ)

    def finish(self, process: subprocess.Popen[str], *, code: int = 0) -> str:
        """Wait for a client's end, and return what it printed."""
        out, err = process.communicate(timeout=self.patience)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out

    def command(self, *args: str) -> str:
        """Run the command line to its end, and return all that it printed."""
        process = self._start([sys.executable, "-m", "mlfn", *args], {})
        out, err = process.communicate(timeout=self.patience)
        assert process.returncode == 0, out + err
        return out + err

    def _start(self, command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
        path = os.pathsep.join(folder for folder in sys.path if folder)
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, **environ},
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        """End a client as a power cut would."""
        process.kill()
        process.communicate()


class CaseThread(threading.Thread):
    """A thread that keeps what its action raised."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._action = action
        self.failed: list[BaseException] = []

    def run(self) -> None:
        """Do it."""
        try:
            self._action()
        except BaseException as error:  # noqa: BLE001 - the case decides what it means
            self.failed.append(error)
