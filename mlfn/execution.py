"""Task -> call -> outputs: the same code in every place; standard library, cloudpickle and what the function needs."""

from __future__ import annotations

import base64
import contextvars
import inspect
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mlfn.codec import Codec
from mlfn.errors import MlfnError, OutOfMemoryError, OutputError, PayloadError, SkewError, StorageError
from mlfn.identity import new_id
from mlfn.secrets import Masker, Secret, read_secret
from mlfn.spec.record import Outcome, Output, Reason, RemoteFailure, RunState
from mlfn.spec.values import shown_bytes
from mlfn.user_context import Cancelled, Context, Pruned, Reporter, call_within

_PACKAGE = str(Path(__file__).parent)
_EVENT_LOOP = str(Path(inspect.__file__).parent / "asyncio")
_STDLIB = str(Path(inspect.__file__).parent)
_MAX_TRACEBACK = 64_000  # characters; a recursion error would otherwise fill the store


Judge = Callable[[str, int | None, float], str | None]
"""Says of a point (run, step, value) why the run should stop; None if it should go on."""


class Channel(Protocol):
    """Where reports of a run go: a journal, a store, a service. The events are the same on each."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Take one event; returns when it cannot be lost with this process."""
        ...


@dataclass(frozen=True)
class CallShape:
    """How to pass parameters by name to the handler: worked out from its signature by the caller."""

    positional: tuple[str, ...] = ()
    varargs: str | None = None
    varkw: str | None = None
    context: str | None = None


@dataclass(frozen=True)
class Calling:
    """How all runs of one plan call their handler, as it travels once to each worker."""

    name: str
    project: str
    outputs: tuple[str, ...] = ()
    shape: CallShape = field(default_factory=CallShape)
    secrets: tuple[Secret, ...] = ()
    mem: int | None = None  # bytes that the run may have, where its place sees to that

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> Calling:
        """Return the part of a plan's body, or of a message that repeats it, that the call needs."""
        shape = plan["shape"]
        return cls(
            plan["name"],
            plan["project"],
            tuple(plan["outputs"]),
            CallShape(**{**shape, "positional": tuple(shape["positional"])}),
            tuple(Secret(**item) for item in plan["secrets"]),
        )


@dataclass(frozen=True)
class Task:
    """One attempt at one run, as it travels."""

    run: str
    attempt: int
    params: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    log: str | None = None
    iteration: int = 0
    judged: str | None = None  # the metric whose points are answered
    children: int = 0  # how many its handler has opened in earlier attempts

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dict(vars(self))


class RunReporter(Reporter):
    """Packs what the handler logs, and sends it."""

    def __init__(
        self, task: Task, codec: Codec, channel: Channel, secrets: Mapping[str, str], judge: Judge | None = None
    ) -> None:
        super().__init__()
        self._judge = judge
        self._task = task
        self._codec = codec
        self._channel = channel
        self._secrets = secrets
        self._opened = task.children
        self._opening = threading.Lock()
        self.run_id = task.run

    def open_child(self, params: Mapping[str, Any]) -> tuple[int, Reporter]:
        run = new_id()
        encoded = {name: self._codec.encode(run, name, value) for name, value in params.items()}
        with self._opening:  # the store counts them in the order in which it hears of them
            self._opened += 1
            task = Task(run, 1, encoded, self._task.labels, iteration=self._opened)
            child = RunReporter(task, self._codec, self._channel, self._secrets)
            child.send("child", parent=self._task.run, parent_attempt=self._task.attempt, params=encoded)
        return task.iteration, child

    def end(self, error: BaseException | None) -> None:
        if isinstance(error, Cancelled):
            return  # whoever ends the attempt knows why it was told to end, and its children with it
        # Not as "finished", with which an attempt ends: the run and its log go on.
        outcome = Outcome(RunState.SUCCEEDED) if error is None else self._outcome(error)
        self.send("child_end", **outcome_to_json(outcome))

    def _outcome(self, error: BaseException) -> Outcome:
        if isinstance(error, KeyboardInterrupt):
            return Outcome(RunState.CANCELLED)
        if isinstance(error, Pruned):
            return Outcome(RunState.PRUNED)
        failure = describe_failure(error, self._codec, secrets=self._secrets.values())
        return Outcome(RunState.FAILED, _reason(error), failure)

    def mark_best(self, child: Reporter) -> None:
        self.send("best", child=child.run_id)

    def metric(self, name: str, step: int | None, value: float) -> str | None:
        self.send("metric", name=name, step=step, value=value)
        if self._judge is None or name != self._task.judged:
            return None
        return self._judge(self._task.run, step, value)

    def constraint(self, name: str, value: float) -> None:
        output = self._codec.output(self._task.run, name, value, role="constraint")
        self.send("output", output=dict(vars(output)))

    def output(self, key: str, value: Any, *, file: bool, hints: Mapping[str, Any]) -> None:
        output = self._codec.output(self._task.run, key, value, role="artifact" if file else "result", file=file)
        self.send("output", output=dict(vars(output)))

    def progress(self, done: int, total: int | None, text: str) -> None:
        if text and self._secrets:
            text = Masker(self._secrets.values()).text(text)
        self.send("progress", progress={"done": done, "total": total, "text": text})

    def secret(self, name: str) -> str:
        if name in self._secrets:
            return self._secrets[name]
        return super().secret(name)

    def send(self, what: str, **facts: Any) -> None:
        """Send one event of this attempt."""
        self._channel.send(
            {"event": what, "run": self._task.run, "attempt": self._task.attempt, "time": time.time(), **facts}
        )


_reserve: list[bytearray] = []
_RESERVE_BYTES = 1 << 20


def keep_reserve() -> None:
    """Keep some memory back, with which a run that has used up all it may is brought to its end.

    Without it, Python can spin for ever: where an exception meets a cleanup, it allocates a number, and tries again.
    """
    _reserve[:] = [bytearray(_RESERVE_BYTES)]


def execute(
    task: Task,
    calling: Calling,
    load: Callable[[], Callable[..., Any]],
    codec: Codec,
    channel: Channel,
    secrets: Mapping[str, str],
    *,
    judge: Judge | None = None,
) -> Outcome:
    """Run one attempt and report it: started, what the handler logs, finished. Never raises for what user code does.

    `judge` answers each point of the task's judged metric.
    """
    reporter = RunReporter(task, codec, channel, secrets, judge)
    reporter.send("started")
    try:
        outcome = _call(task, calling, load, codec, reporter)
    except Cancelled:
        outcome = Outcome(RunState.CANCELLED)
    except Pruned:
        outcome = Outcome(RunState.PRUNED)
    except MemoryError as error:
        _reserve.clear()  # before anything else: there is not even room for a call
        outcome = _out_of_memory(error, calling, codec, secrets.values())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the run's outcome
        outcome = Outcome(RunState.FAILED, _reason(error), describe_failure(error, codec, secrets=secrets.values()))
    reporter.send("finished", **outcome_to_json(outcome))
    return outcome


def resolve_secrets(wanted: tuple[Secret, ...], environ: Mapping[str, str], file: Path) -> dict[str, str]:
    """Return the values of the secrets that a run names, by name; read here, where the run runs."""
    return {secret.key or secret.name: read_secret(secret, environ=environ, file=file) for secret in wanted}


def _call(
    task: Task, calling: Calling, load: Callable[[], Callable[..., Any]], codec: Codec, reporter: RunReporter
) -> Outcome:
    function = load()
    params = {name: codec.decode(encoded) for name, encoded in task.params.items()}
    ctx = Context(
        reporter=reporter,
        run_id=task.run,
        name=calling.name,
        project=calling.project,
        attempt=task.attempt,
        iteration=task.iteration,
        params=dict(params),
        labels=task.labels,
    )
    value = call_within(ctx, lambda: _invoke(function, calling.shape, params, ctx))
    returns, outputs = _pack_returned(task, calling, codec, value)
    return Outcome(RunState.SUCCEEDED, returns=returns, outputs=outputs)


def _invoke(function: Callable[..., Any], shape: CallShape, params: Mapping[str, Any], ctx: Context) -> Any:
    args, kwargs = call_arguments(shape, params, ctx)
    value = function(*args, **kwargs)
    return _await(value) if inspect.iscoroutine(value) else value


def call_arguments(shape: CallShape, params: Mapping[str, Any], ctx: Context) -> tuple[list[Any], dict[str, Any]]:
    """Return what to call the handler with: parameters by name, by position where Python wants that."""
    named = dict(params)
    if shape.context is not None:
        named[shape.context] = ctx
    args: list[Any] = []
    for name in shape.positional:
        if name not in named:
            break  # left to its default: what follows goes by name
        args.append(named.pop(name))
    args += named.pop(shape.varargs, ()) if shape.varargs else ()
    extra = named.pop(shape.varkw, {}) if shape.varkw else {}
    return args, {**named, **extra}


def _await(coroutine: Any) -> Any:
    import asyncio  # 40 ms that a worker need not spend before its first ordinary function

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Called inside a running loop, as in a notebook: a loop of its own needs a thread of its own.
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((asyncio.run(coroutine), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            box.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    value, error = box[0]
    if error is not None:
        raise error
    return value


def _pack_returned(task: Task, calling: Calling, codec: Codec, value: Any) -> tuple[dict[str, Any], tuple[Output, ...]]:
    names = calling.outputs
    if len(names) <= 1:
        key = names[0] if names else "return"
        return {"keys": [key]}, (codec.output(task.run, key, value, role="return"),)
    if type(value) not in (tuple, list) or len(value) != len(names):
        got = f"{len(value)} values" if type(value) in (tuple, list) else f"one {type(value).__name__}"
        raise OutputError(
            f"{calling.name} declares {len(names)} outputs ({', '.join(names)}) and returned {got}: return as many as are declared, "
            "or change outputs=[...] of @mlfn.handler."
        )
    outputs = tuple(codec.output(task.run, key, item, role="return") for key, item in zip(names, value, strict=True))
    return {"keys": list(names), "as": type(value).__name__}, outputs


def _out_of_memory(error: MemoryError, calling: Calling, codec: Codec, secrets: Collection[str]) -> Outcome:
    # What filled the memory hangs on the frames of the traceback: let go of it, or there is none left to tell of it.
    # On the way up another of its kind may have been raised; the frames are then those of its context.
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__context__
    failure = _in_words(describe_failure(error, codec, secrets=secrets), calling)
    outcome = Outcome(RunState.FAILED, Reason.OOM, failure)
    with suppress(MemoryError):
        keep_reserve()
    return outcome


def _in_words(failure: RemoteFailure, calling: Calling) -> RemoteFailure:
    """Return the failure as an OutOfMemoryError that names the limit: Python's own MemoryError says nothing at all."""
    said = f" ({failure.message})" if failure.message else ""
    if calling.mem:
        text = f"{calling.name} ran into its limit of mem={shown_bytes(calling.mem)}{said}; raise mem=, or use less."
    else:
        text = f"{calling.name} ran out of memory{said}; use less, or run it where there is more."
    kind = f"{OutOfMemoryError.__module__}.{OutOfMemoryError.__qualname__}"
    bases = tuple(f"{base.__module__}.{base.__qualname__}" for base in OutOfMemoryError.__mro__[:-1])
    return replace(
        failure,
        type=kind,
        message=text,
        traceback=f"{failure.traceback}\n{kind}: {text}\n",
        bases=tuple(dict.fromkeys((*bases, *failure.bases))),
        pickle=None,
    )


def _reason(error: BaseException) -> Reason:
    if isinstance(error, MemoryError):
        return Reason.OOM
    if isinstance(error, SkewError):
        return Reason.SKEW
    if isinstance(error, (StorageError, PayloadError)):
        return Reason.STORAGE
    return Reason.ERROR


def describe_failure(error: BaseException, codec: Codec, *, secrets: Collection[str] = ()) -> RemoteFailure:
    """Return an exception as it travels: the user's frames as text, and the object itself where it can be pickled.

    The values of `secrets` are masked in the text. An object that holds one travels masked as well, where its arguments and
    attributes are plain values; else it does not travel.
    """
    kind = type(error)
    masker = Masker(secrets)
    exit_code = None
    if isinstance(error, SystemExit):
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
    return RemoteFailure(
        type=f"{kind.__module__}.{kind.__qualname__}",
        message=masker.text(_safe_text(error)),
        traceback=_shortened(masker.text(user_traceback(error))),
        bases=tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:-1]),
        pickle=_pickled(error, codec, masker),
        exit_code=exit_code,
    )


def user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the frames of mlfn itself and of the event loop beneath the handler.

    Nothing at all for an error of mlfn's own that none of the user's code had a part in: its message says everything.
    """
    described = traceback.TracebackException.from_exception(error)
    pending, is_users = [described], not isinstance(error, MlfnError)
    while pending:
        item = pending.pop()
        item.stack = traceback.StackSummary.from_list(_users_frames(item.stack))
        is_users = is_users or any(map(_is_users, item.stack))
        pending += [linked for linked in (item.__cause__, item.__context__) if linked is not None]
        pending += getattr(item, "exceptions", None) or []
    return "".join(described.format()) if is_users else ""


def _is_users(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith((_STDLIB, "<frozen ")) and "-packages" not in frame.filename


def _users_frames(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    frames = [frame for frame in stack if not frame.filename.startswith(_PACKAGE)]
    first = next((i for i, frame in enumerate(frames) if not frame.filename.startswith(_EVENT_LOOP)), 0)
    return frames[first:]


def _shortened(text: str) -> str:
    if len(text) <= _MAX_TRACEBACK:
        return text
    half = _MAX_TRACEBACK // 2
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _pickled(error: BaseException, codec: Codec, masker: Masker) -> str | None:
    try:
        data = codec.pickle_failure(error)
        if masker.bytes(data) is not data:
            data = codec.pickle_failure(_masked_copy(error, masker))
    except Exception:  # noqa: BLE001 - any object can refuse in any way; the text remains
        return None
    return None if masker.bytes(data) is not data else base64.b64encode(data).decode()


def _masked_copy(error: BaseException, masker: Masker) -> BaseException:
    """Return an exception of the same type whose texts are masked; raise TypeError where it holds more than plain values."""
    kind, reduced = type(error), error.__reduce_ex__(4)
    if not isinstance(reduced, tuple) or reduced[0] is not kind or len(reduced) not in (2, 3):
        raise TypeError("it travels in a way of its own")
    args, state = _masked(reduced[1], masker), _masked(dict(reduced[2] or {}) if len(reduced) == 3 else {}, masker)
    copy: BaseException = kind.__new__(kind, *args)  # without its __init__, which is the user's and has run
    copy.args = args
    copy.__dict__.update(state)
    return copy


def _masked(value: Any, masker: Masker) -> Any:
    kind = type(value)
    if kind is str:
        return masker.text(value)
    if kind is bytes:
        return masker.bytes(value)
    if kind in (tuple, list, set, frozenset):
        return kind(_masked(item, masker) for item in value)
    if kind is dict:
        return {_masked(key, masker): _masked(item, masker) for key, item in value.items()}
    if value is None or kind in (bool, int, float):
        return value
    raise TypeError(f"a {kind.__name__} cannot be masked")


def _safe_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return f"<{type(error).__name__} whose text cannot be shown>"


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as it travels in a ``finished`` event."""
    return {
        "state": outcome.state.value,
        "reason": outcome.reason and outcome.reason.value,
        "failure": outcome.failure and outcome.failure.to_json(),
        "returns": outcome.returns,
        "outputs": [dict(vars(output)) for output in outcome.outputs],
    }


def outcome_from_json(data: Mapping[str, Any]) -> Outcome:
    """Rebuild from `outcome_to_json`."""
    return Outcome(
        RunState(data["state"]),
        Reason(data["reason"]) if data["reason"] else None,
        RemoteFailure.from_json(data["failure"]) if data["failure"] else None,
        data["returns"],
        tuple(Output(**output) for output in data["outputs"]),
    )
