"""Ranks in several pods: the main pod starts the command, which starts ranks in the others through their SSH servers.

The supervisor in the main pod finds each rank in a folder of its own: files that the rank writes, and a process to signal. For a
rank in another pod a mirror stands there, a process that writes what the rank sends over a connection, and sends it signals.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from mlfn.errors import MlfnError
from mlfn.host.identity import identify
from mlfn.spec.record import RunState
from mlfn.worker import rank as rank_process
from mlfn.worker.assignment import Assignment, journal_of, on_terminate
from mlfn.worker.binding import Binding
from mlfn.worker.heartbeat import start_beating
from mlfn.worker.journal import Journal
from mlfn.worker.pod.folders import FOLDER, SSH_KEYS, SSH_PORT, TERMINATION
from mlfn.worker.pod.memory import memory_kills, note_memory_kill
from mlfn.worker.pod.preparation import asked_of_pod, prepare
from mlfn.worker.rank import Rank, end_of, output_of, stack_of, write_supervisor
from mlfn.worker.supervisor import folder_of, supervise

MAIN = "MLFN_MAIN_POD"
"""The variable that names host and port of the main pod to all ranks."""
_SSHD = "/usr/sbin/sshd"
_HOSTS = Path("/etc/mpi/hostfile")
_REACHED_SECONDS = 60.0
_AGAIN_SECONDS = 0.1
_LARGEST_HEAD = 200
_CHUNK = 1 << 16
_POLL_SECONDS = 0.02
_SSHD_CONFIG = """\
Port {port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {keys}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
"""


def main(role: str, folder: str = "") -> NoReturn:
    """Be what an argument says: a rank, or the server through which ranks are started in this pod."""
    if role == "rank":
        _run_rank(folder)
    _serve()


# -- in the main pod


def start_ranks(assignment: Assignment, *, mark: str, control: socket.socket) -> RunState:
    """Run an assignment by its command, and return how it ended; the journal is the only one of this pod."""
    journal = Journal(Path(FOLDER) / journal_of(0), control)
    _name_hosts()
    with _mirrors(mark, folder_of(assignment.plan, assignment.task)):
        signal.signal(signal.SIGTERM, on_terminate)
        return supervise(assignment.task, Binding(assignment.plan), journal, lambda *_: None)


def _name_hosts() -> None:
    """Have the command find the pods by their addresses: the cluster's names of pods are known some time after the pods are.

    Waits until the SSH servers of the others answer.
    """
    if not _HOSTS.exists():
        return
    until = time.monotonic() + _REACHED_SECONDS
    (_, own), *others = (line.split(maxsplit=1) for line in _HOSTS.read_text().splitlines() if line.strip())
    named = [f"{_address()} {own}", *(f"{_reached(name, until)} {slots}" for name, slots in others)]
    path = Path(FOLDER, "hostfile")
    path.write_text("\n".join(named) + "\n")
    os.environ["OMPI_MCA_orte_default_hostfile"] = str(path)  # noqa: SIM112 - Open MPI's name


def _reached(host: str, until: float) -> str:
    """Return the address of a host whose SSH server answers; its name where it does not in time."""
    while time.monotonic() < until:
        with suppress(OSError):
            address = socket.gethostbyname(host)
            socket.create_connection((address, SSH_PORT), timeout=2).close()
            return address
        time.sleep(_AGAIN_SECONDS)
    return host


@contextmanager
def _mirrors(mark: str, folder: Path) -> Iterator[None]:
    """Stand in for each rank that connects while the block runs."""
    with socket.create_server(("", 0), backlog=1024) as server:
        os.environ[MAIN] = f"{_address()}:{server.getsockname()[1]}"
        pid = os.fork()
        if not pid:
            _accept(server, mark, folder)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _accept(server: socket.socket, mark: str, folder: Path) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the supervisor's, to all of its group
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = server.accept()
        if not os.fork():
            server.close()
            with suppress(OSError):
                _mirror(connection, mark, folder)
            os._exit(0)
        connection.close()


def _mirror(connection: socket.socket, mark: str, folder: Path) -> None:
    """Write what a rank sends as if it ran here; a peer that does not know the mark is no rank."""
    lines = connection.makefile("rb")
    if lines.readline(_LARGEST_HEAD) != mark.encode() + b"\n":
        return
    signal.signal(signal.SIGTERM, lambda number, _: connection.sendall(bytes([number])))
    number, output, code = -1, -1, -signal.SIGKILL
    for line in lines:
        sent = json.loads(line)
        if "rank" in sent:
            number = sent["rank"]
            start_beating(Rank(number, identify(os.getpid())).write(folder), sent["heartbeat"])
        elif "output" in sent:
            if output < 0:
                os.mkfifo(output_of(folder, number), 0o600)
                output = os.open(output_of(folder, number), os.O_WRONLY)
            os.write(output, base64.b64decode(sent["output"]))
        elif "journal" in sent:
            with open(folder / journal_of(number), "a") as journal:
                journal.write(sent["journal"])
        elif "stack" in sent:
            stack_of(folder, number).write_text(sent["stack"])
        else:
            code = sent["end"]
            if sent["was_short"]:
                note_memory_kill(number)
    if number >= 0:
        rank_process.write_file(end_of(folder, os.getpid()), {"code": code})


# -- in the other pods


def _serve() -> NoReturn:
    """Prepare this pod for its ranks, and run the SSH server: this process stays the first, whose variables ranks read."""
    asked, _ = asked_of_pod()
    try:
        prepare(asked, sys.stdout.buffer.write)
        Path(FOLDER, "sshd_config").write_text(_SSHD_CONFIG.format(port=SSH_PORT, folder=FOLDER, keys=SSH_KEYS))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{FOLDER}/host_key"], check=True)
        server = subprocess.Popen([_SSHD, "-D", "-e", "-f", f"{FOLDER}/sshd_config"])
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        sys.exit(server.wait())
    except (MlfnError, OSError, subprocess.CalledProcessError) as error:
        why = f"{error}; its image needs openssh-server and openmpi-bin" if isinstance(error, OSError) else str(error)
        with suppress(OSError):
            Path(TERMINATION).write_text(json.dumps({"words": why}))
        sys.exit(why)


def _run_rank(assigned: str) -> NoReturn:
    """Run one rank, of a folder of the main pod; one in another pod has a mirror there."""
    host, _, port = os.environ.pop(MAIN).rpartition(":")
    if host == _address():
        _become_rank(assigned)
    # What an SSH server starts has none of the pod's variables.
    os.environ.update(_variables_of_pod())
    asked, task = asked_of_pod()
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    Assignment(asked["plan"], task).write(folder)
    os.environ.update(Assignment.environ(asked["plan"], Binding(asked["plan"]).secrets()))
    write_supervisor(folder)
    connection = socket.create_connection((host, int(port)))
    pid = os.fork()
    if not pid:
        connection.close()
        _become_rank(str(folder))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    code = 1
    with suppress(OSError):  # the main pod is gone, and with it what this was for
        connection.sendall(asked["mark"].encode() + b"\n")
        code = _Sender(connection, folder, pid, asked["plan"]["heartbeat"]).run()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    sys.exit(code)


def _become_rank(folder: str) -> NoReturn:
    sys.argv[1:] = [folder]
    rank_process.main()
    raise AssertionError


class _Sender:
    """Sends what a rank of this pod writes into its folder, and passes on the signals that its mirror gets."""

    def __init__(self, connection: socket.socket, folder: Path, pid: int, heartbeat: float) -> None:
        self._connection = connection
        self._folder = folder
        self._pid = pid  # of the process around the rank's
        self._heartbeat = heartbeat
        self._rank: Rank | None = None
        self._output: int | None = None
        self._sent = 0  # bytes of the journal
        self._kills = memory_kills()

    def run(self) -> int:
        """Send until the rank has ended; return its exit code."""
        ended, status = 0, 0
        while not ended:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            self._send_new()
            if not ended and select.select([self._connection], [], [], _POLL_SECONDS)[0]:
                self._signal(self._connection.recv(1))
        code = os.waitstatus_to_exitcode(status)
        if self._rank is not None:
            self._send_last(self._rank)
        return code if code >= 0 else 128 - code

    def _signal(self, received: bytes) -> None:
        """Pass a signal on; SIGKILL where the mirror is gone."""
        pid = self._pid if self._rank is None else self._rank.process.pid
        with suppress(ProcessLookupError):
            os.kill(pid, received[0] if received else signal.SIGKILL)
        if not received:
            time.sleep(_POLL_SECONDS)

    def _send_new(self) -> None:
        if self._rank is None:
            if not (found := list(self._folder.glob("*.rank"))):
                return
            self._rank = Rank.read(found[0])
            self._send({"rank": self._rank.number, "heartbeat": self._heartbeat})
        self._send_output(self._rank.number)
        journal = self._folder / journal_of(self._rank.number)
        if journal.exists():
            with journal.open("rb") as file:
                file.seek(self._sent)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            if whole:
                self._send({"journal": whole.decode()})
                self._sent += len(whole)

    def _send_output(self, rank: int) -> None:
        if self._output is None:
            if not (path := output_of(self._folder, rank)).exists():
                return
            self._output = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while data := os.read(self._output, _CHUNK):
                self._send({"output": base64.b64encode(data).decode()})

    def _send_last(self, rank: Rank) -> None:
        with suppress(OSError):
            self._send({"stack": stack_of(self._folder, rank.number).read_text(errors="backslashreplace")})
        code = -signal.SIGKILL
        with suppress(OSError):
            code = json.loads(end_of(self._folder, rank.process.pid).read_bytes())["code"]
        self._send({"end": code, "was_short": memory_kills() > self._kills})

    def _send(self, what: Mapping[str, Any]) -> None:
        self._connection.sendall(json.dumps(what).encode() + b"\n")


def _variables_of_pod() -> dict[str, str]:
    items = Path("/proc/1/environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(item).partition("=") for item in items)
    return {name: value for name, _, value in pairs if name}


def _address() -> str:
    return socket.gethostbyname(socket.gethostname())
