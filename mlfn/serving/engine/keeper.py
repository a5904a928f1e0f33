"""`Keeper`: the process that starts Nuclio's processor, sees that it answers, replaces it when it dies, and ends it."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from mlfn.backends.hosts.run_files import EXITS, TOKEN_HEADER
from mlfn.backends.hosts.server_options import VARIABLE, ServerOptions
from mlfn.backends.hosts.status import Status
from mlfn.errors import MlfnError, ServiceError
from mlfn.host.identity import ProcessIdentity, identify
from mlfn.host.private_files import ensure_folder
from mlfn.serving.engine import files
from mlfn.serving.front import FAILURE, WHO, WORKERS
from mlfn.serving.server import journals
from mlfn.serving.server.supervisor import MOST_WORKERS, SCALE, Failure, bind

logger = logging.getLogger("mlfn.serving")
_POLL, _TICK = 0.02, 0.2
_KEEP_SMALL = 10.0  # seconds between two looks at the size of the logs
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
_STEADY = 10.0  # seconds after which an end is no consequence of the beginning
_MISSING = 3.0  # seconds for which a worker may be gone: the processor itself replaces one that exceeds its time
_ANSWER = 0.2  # seconds in which the processor sends what its workers have answered
_LAST = 6000  # bytes of the log that say why it did not begin
_DIED = re.compile(rb"Wrapper process for worker (\d+) exited unexpectedly with: (exit status|signal:) (\w+)")
_SIGNALS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "aborted": signal.SIGABRT}
_PR_SET_PDEATHSIG = 1


def keep(folder: Path) -> int:
    """Keep the processor of a folder until SIGTERM; return the exit code."""
    secrets = os.environ[VARIABLE]
    options = ServerOptions.read(folder)
    journals.set_up(options.secrets)
    try:
        keeper = Keeper(options, folder, secrets)
    except MlfnError as error:
        Status("failed", vars(identify(os.getpid())), None, str(error), type(error).__name__).write(folder)
        return 1
    return keeper.run()


class Keeper:
    """Keeps one processor."""

    def __init__(self, options: ServerOptions, folder: Path, secrets: str) -> None:
        self._options = options
        self._folder = folder
        self._secrets = secrets
        self._workers = options.workers
        self._port = free_port(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._log_from = 0
        self._wait = 0.0
        self._ends = self._scales = False
        self._missing_since: float | None = None
        self._looked = 0.0

    def run(self) -> int:
        """Run until SIGTERM, or until the processor cannot begin; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)
        signal.signal(signal.SIGHUP, self._on_scale)
        self._say("starting")
        self._start()
        if (failure := self._not_ready()) is not None:
            self._stop(grace=0)
            self._say("failed", failure)
            return 1
        self._say("ready")
        while not self._ends:
            self._look()
            time.sleep(_TICK)
        self._stop(grace=self._options.grace)
        self._say("ended")
        return 0

    def _on_terminate(self, *_: object) -> None:
        self._ends = True

    def _on_scale(self, *_: object) -> None:
        self._scales = True

    # -- the processor
    def _start(self) -> None:
        options, folder = self._options, self._folder
        assert options.engine is not None
        shutil.rmtree(folder / WORKERS, ignore_errors=True)
        ensure_folder(folder / WORKERS)
        (folder / FAILURE).unlink(missing_ok=True)
        files.write(folder, options, port=self._port, workers=self._workers)
        self._log_from = (folder / journals.LOG).stat().st_size if (folder / journals.LOG).exists() else 0
        self._begun = time.monotonic()
        self._missing_since = None
        self._process = subprocess.Popen(
            [
                options.engine["processor"],
                *("--config", str(folder / files.CONFIGURATION)),
                *("--platform-config", str(folder / files.PLATFORM)),
            ],
            env=files.environment(folder, options, self._secrets),
            stdin=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
        )

    def _not_ready(self) -> Failure | None:
        """Wait until the function answers; return why it never will."""
        assert self._process is not None
        while not self._ends:
            if self._process.poll() is not None:
                return self._last_words()
            if len(list(self._alive())) == self._expected and self._answers():
                files.remove_secrets(self._folder)
                return None
            time.sleep(_POLL)
        return Failure("", "it was ended before it was ready")

    @property
    def _expected(self) -> int:
        assert self._options.engine is not None
        return int(self._options.engine["others"]) + self._workers

    def _answers(self) -> bool:
        """Say whether a worker of this processor answers at the address: the processor does not say when another has it."""
        host = "127.0.0.1" if self._options.host in ("0.0.0.0", "localhost") else self._options.host  # noqa: S104
        connection = http.client.HTTPConnection(host, self._port, timeout=2)
        try:
            connection.request("GET", WHO, headers={TOKEN_HEADER: self._options.internal})
            pid = json.loads(connection.getresponse().read()).get("pid")
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return False
        finally:
            connection.close()
        return pid in {process.pid for process in self._alive()}

    def _alive(self) -> Iterator[ProcessIdentity]:
        for process in self._registered():
            if process.state() in ("alive", "stopped"):
                yield process

    def _registered(self) -> Iterator[ProcessIdentity]:
        for path in (self._folder / WORKERS).iterdir():
            with contextlib.suppress(OSError, ValueError, TypeError):  # it is being written
                if not path.name.startswith("."):
                    yield ProcessIdentity(**json.loads(path.read_bytes()))

    def _look(self) -> None:
        """Have a processor replaced that has died, or one of whose workers has and is not replaced; and see to the rest."""
        assert self._process is not None
        if self._process.poll() is not None:
            self._note_exits()
            self._again(f"the processor ended by {_how(self._process.returncode)}", grace=0)
        elif self._scales:
            self._scales = False
            self._scale()
        elif len(list(self._alive())) >= self._expected:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = time.monotonic()
        elif time.monotonic() - self._missing_since > _MISSING:
            self._again("a worker has left, and the processor does not replace it", grace=self._options.grace)
        if time.monotonic() - self._looked > _KEEP_SMALL:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):
                journals.keep_small(self._folder)

    def _again(self, why: str, *, grace: float) -> None:
        logger.error("%s: %s: it is started again", self._options.name, why)
        lasted = time.monotonic() - self._begun
        self._wait = 0.0 if lasted > _STEADY else min(_LONGEST_WAIT, max(_FIRST_WAIT, self._wait * 2))
        self._stop(grace=grace)
        until = time.monotonic() + self._wait
        while not self._ends and time.monotonic() < until:
            time.sleep(_POLL)
        if not self._ends:
            self._start()
            self._not_ready()

    def _scale(self) -> None:
        """Start the processor with another number of workers: it takes none while it runs."""
        with contextlib.suppress(OSError, ValueError):
            self._workers = max(1, min(MOST_WORKERS, int(json.loads((self._folder / SCALE).read_bytes()))))
        self._stop(grace=self._options.grace)
        self._start()
        self._not_ready()

    def _stop(self, *, grace: float) -> None:
        """End the processor: SIGTERM to it alone, and SIGKILL once its workers have left, or their time is up."""
        process = self._process
        assert process is not None
        if process.poll() is None and grace:
            process.terminate()  # a signal to its workers would have it panic, and cut what is under way
            until = time.monotonic() + grace
            while process.poll() is None and time.monotonic() < until and any(self._alive()):
                time.sleep(_POLL)
            time.sleep(_ANSWER)
        if process.poll() is None:
            process.kill()
            process.wait()
        for worker in self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        files.remove_secrets(self._folder)

    # -- what is said
    def _last_words(self) -> Failure:
        """Return why the processor did not begin: what its worker has said, else the end of what stands in its log."""
        assert self._process is not None
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Failure(**json.loads((self._folder / FAILURE).read_bytes()))
        return Failure("", last_words(self._log()[-_LAST:].decode("utf-8", "replace"), self._process.returncode))

    def _log(self) -> bytes:
        try:
            with open(self._folder / journals.LOG, "rb") as file:
                file.seek(self._log_from)
                return file.read()
        except OSError:
            return b""

    def _note_exits(self) -> None:
        """Say how the workers have ended, of which one may have executed a run: the one that died as it did, the others with it."""
        died = _DIED.search(self._log())
        assert self._options.engine is not None
        lines = []
        for path in (self._folder / WORKERS).iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads(path.read_bytes())["pid"]
                code: int | None = 1
                number: int | None = None
                if died is not None and path.name == f"{self._options.engine['http']}-{died[1].decode()}":
                    value = died[3].decode()
                    code, number = (int(value), None) if value.isdigit() else (None, _SIGNALS.get(value, 9))
                lines.append(json.dumps({"pid": pid, "code": code, "signal": number}))
        with contextlib.suppress(OSError), open(self._folder / EXITS, "a", encoding="ascii") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def _say(self, state: str, failure: Failure | None = None) -> None:
        shown = {"0.0.0.0": "127.0.0.1"}.get(self._options.host, self._options.host)  # noqa: S104
        url = f"http://{shown}:{self._port}"
        facts = {} if failure is None else {"error": failure.text, "kind": failure.kind}
        Status(state, vars(identify(os.getpid())), url, **facts).write(self._folder)  # type: ignore[arg-type]


def free_port(options: ServerOptions) -> int:
    """Return the port to listen at; ServiceError where another process has it: the processor itself would not say so."""
    if ":" in options.host:
        raise ServiceError(
            f"{options.name} cannot listen at {options.host}: Nuclio's processor listens at addresses of IPv4 alone. Give one, as in "
            "mlfn.Http(host='127.0.0.1')."
        )
    if options.port:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host, options.port))
            except OSError as error:
                raise ServiceError(
                    f"{options.name} cannot listen at {options.host}:{options.port} ({error.strerror}): another process has it, or it is "
                    "no address of this machine. Give another one, as in mlfn.Http(port=8081), or leave port out for a free one."
                ) from error
        return options.port
    with bind(options) as listener:
        return int(listener.getsockname()[1])


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def last_words(said: str, code: int) -> str:
    """Return why a processor has ended, by the end of its log and its exit code."""
    hint = ""
    for module in ("msgpack", "nuclio_sdk"):
        if f"No module named '{module}'" in said:
            hint = f"\nIts Python lacks {module}, which Nuclio's wrapper needs: pip install msgpack nuclio-sdk."
    return f"{_shown(said)}\nThe processor ended by {_how(code)}.{hint}"


def _shown(said: str) -> str:
    """Return what the streams of a processor say, without the colours, and without the stacks of its own code."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    return plain.partition("\ngoroutine ")[0].strip() or "It said nothing."


def _end_with_parent() -> None:
    """Have the kernel end the processor with its keeper, however that ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
