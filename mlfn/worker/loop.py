"""A worker: bound to one plan, it runs tasks one after the other and journals what happens."""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlfn.artifacts.codec import Codec
from mlfn.code import payload
from mlfn.spec.record import Outcome, RunState
from mlfn.worker import context as user_context
from mlfn.worker.binding import Binding
from mlfn.worker.control import Control
from mlfn.worker.execution import ONLY_RANK, execute
from mlfn.worker.heartbeat import start_beating
from mlfn.worker.journal import MEMORY_EXIT, Journal
from mlfn.worker.log_capture import CapturedOutput, WholeLogChannel, prepare_streams, silence
from mlfn.worker.mailbox import TaskReceiver, unpack_message
from mlfn.worker.reporter import Channel, finished_event
from mlfn.worker.supervisor import supervise
from mlfn.worker.surroundings import Surroundings
from mlfn.worker.task import Task
from mlfn.worker.time_limit import SUPERVISED_SECONDS, TimeLimit


class Worker:
    """One process, bound to one plan, running one task at a time."""

    def __init__(self, control: socket.socket, packets: socket.socket) -> None:
        self._socket = control
        self._control = Control(control)
        self._receiver = TaskReceiver(packets, self._control)
        self._in_handler = False
        self._is_terminated = False
        self._binding: Binding | None = None
        self._codec: Codec | None = None
        self._surroundings: Surroundings | None = None

    def serve(self) -> None:
        """Run tasks until the place closes the control socket."""
        try:
            self._serve()
        except MemoryError:
            if self._binding is not None and self._binding.plan["mem"]:
                os._exit(MEMORY_EXIT)
            raise

    def _serve(self) -> None:
        signal.signal(signal.SIGTERM, self._on_terminate)
        payload.prepare()
        if (line := self._control.binding()) is None:
            return
        binding = self._bind(line)
        while (task := self._receiver.receive()) is not None:
            self._run(Task(**task), binding)
        self._journal.send({"event": "left", "run": "", "attempt": 0, "time": time.time()})

    def _on_terminate(self, *_: object) -> None:
        self._is_terminated = True
        if not self._in_handler:
            os._exit(0)
        self._in_handler = False  # once: a handler's ``finally`` is not interrupted by a second signal
        raise user_context.Cancelled("cancelled")

    def _bind(self, line: bytes) -> Binding:
        plan = unpack_message(line)
        folder = Path(plan["folder"])
        binding = self._binding = Binding(plan, folder)
        self._journal = Journal(folder / "journal", self._socket)
        start_beating(folder / "beat", binding.plan["heartbeat"])
        binding.apply()
        return binding

    def _run(self, task: Task, binding: Binding) -> None:
        self._in_handler = True
        masked = _values(binding) if binding.calling.secrets else ()
        if not task.log:
            silence()
        output = CapturedOutput(task.log, masked) if task.log else None
        try:
            channel = WholeLogChannel(self._journal, output) if output is not None else self._journal
            self._control.begin_run()
            with self._time_limit(task, binding) as limit:
                self._execute(task, binding, limit.watched(channel))
        finally:
            self._in_handler = False
            if output is not None:
                output.close()
        if self._is_terminated:
            os._exit(0)
        if self._surroundings is not None:
            self._surroundings.restore()

    def _execute(self, task: Task, binding: Binding, channel: Channel) -> None:
        if binding.plan["command"]:
            supervise(task, binding, channel, self._judge)
            return
        secrets: dict[str, str] = {}
        load = partial(binding.load, secrets)
        self._codec = self._codec or binding.codec()
        extras = binding.activated(task) if binding.plan["activated"] else ONLY_RANK
        run = partial(execute, judge=self._judge, extras=extras, loaded=self._note_surroundings)
        # In a context of its own: what a run sets in context variables ends with it.
        contextvars.copy_context().run(run, task, binding.calling, load, self._codec, channel, secrets)

    def _time_limit(self, task: Task, binding: Binding) -> TimeLimit:
        plan = binding.plan
        grace = plan["grace"] + (SUPERVISED_SECONDS if plan["command"] else 0)
        stop = partial(os.kill, os.getpid(), signal.SIGTERM)
        return TimeLimit(plan["timeout"], grace, stop=stop, give_up=partial(self._give_up, task))

    def _give_up(self, task: Task) -> None:
        """Report a run that does not let itself be stopped, and end what is left of it with this process."""
        self._journal.send(finished_event(task, Outcome(RunState.CANCELLED)))
        os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(0)

    def _note_surroundings(self, function: Callable[..., Any]) -> None:
        """Note what the first run finds, once its code and parameters are there: every other one finds the same."""
        self._surroundings = self._surroundings or Surroundings(function)

    def _judge(self, run: str, step: int | None, value: float) -> str | None:
        return self._control.answer(run)


def _values(binding: Binding) -> Sequence[str]:
    with contextlib.suppress(Exception):  # a missing secret is raised again, and reported, when the run loads
        return tuple(binding.secrets().values())
    return ()


def serve(control: socket.socket, packets: socket.socket) -> None:
    """Run as the worker at the other end of these sockets, until its place closes them."""
    prepare_streams()
    with control, packets:
        Worker(control, packets).serve()
    _terminate_group()


def _terminate_group() -> None:
    """Send SIGTERM to processes that handlers left behind: where the client is dead, no other process will."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
