"""Task -> call -> outputs: the same code in every place; standard library, cloudpickle and what the function needs."""

from __future__ import annotations

import contextvars
import inspect
import threading
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.artifacts.codec import Codec
from mlfn.artifacts.nested import is_late
from mlfn.errors import OutputError
from mlfn.settings.secrets import Secret, read_secret
from mlfn.spec.record import Outcome, Output, RunState
from mlfn.worker.context import Cancelled, Context, Pruned, call_within
from mlfn.worker.failures import describe_out_of_memory, failed_outcome
from mlfn.worker.reporter import Channel, Judge, RunReporter
from mlfn.worker.task import Calling, Extras, Task

_memory_reserve: list[bytearray] = []
_RESERVE_BYTES = 1 << 20
ONLY_RANK = Extras()


def reserve_memory() -> None:
    """Keep some memory back, with which a run that has reached its limit can report that.

    Without it, Python can spin for ever: where an exception meets a cleanup, it allocates a number, and tries again.
    """
    _memory_reserve[:] = [bytearray(_RESERVE_BYTES)]


def execute(
    task: Task,
    calling: Calling,
    load: Callable[[], Callable[..., Any]],
    codec: Codec,
    channel: Channel,
    secrets: Mapping[str, str],
    *,
    judge: Judge | None = None,
    extras: AbstractContextManager[Extras] = ONLY_RANK,
    loaded: Callable[[Callable[..., Any]], None] | None = None,
) -> Outcome:
    """Run one attempt and report it: started, what the handler logs, finished. Never raises for what user code does.

    `judge` answers each point of the task's judged metric; `extras` is entered once the code is loaded, and left when the
    outputs are packed; `loaded` gets the handler before it is called.
    """
    reporter = RunReporter(task, codec, channel, secrets, judge)
    reporter.send("started")
    try:
        outcome = _call(task, calling, load, codec, reporter, extras, loaded)
    except Cancelled:
        outcome = Outcome(RunState.CANCELLED)
    except Pruned:
        outcome = Outcome(RunState.PRUNED)
    except MemoryError as error:
        _memory_reserve.clear()  # before anything else: there is not even room for a call
        outcome = _out_of_memory(error, calling, codec, secrets.values())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the run's outcome
        outcome = failed_outcome(error, codec, secrets.values())
    reporter.send("finished", **outcome.to_json())
    return outcome


def resolve_secrets(wanted: tuple[Secret, ...], environ: Mapping[str, str], file: Path) -> dict[str, str]:
    """Return the values of the secrets that a run names, by name; read here, where the run runs."""
    return {secret.key or secret.name: read_secret(secret, environ=environ, file=file) for secret in wanted}


def _call(
    task: Task,
    calling: Calling,
    load: Callable[[], Callable[..., Any]],
    codec: Codec,
    reporter: RunReporter,
    extras: AbstractContextManager[Extras],
    loaded: Callable[[Callable[..., Any]], None] | None,
) -> Outcome:
    function = load()
    with extras as found:
        if found.page is not None:
            reporter.send("page", url=found.page)
        return _call_prepared(function, task, calling, codec, reporter, found, loaded)


def _call_prepared(
    function: Callable[..., Any],
    task: Task,
    calling: Calling,
    codec: Codec,
    reporter: RunReporter,
    extras: Extras,
    loaded: Callable[[Callable[..., Any]], None] | None,
) -> Outcome:
    params = {name: codec.decode(encoded) for name, encoded in task.params.items()}
    if late := {name: stored for name, stored in task.params.items() if "from" in stored or is_late(stored)}:
        from mlfn.worker.late_params import checked

        params |= checked(function, calling, params, late)
    ctx = Context(
        reporter=reporter,
        run_id=task.run,
        name=calling.name,
        project=calling.project,
        attempt=task.attempt,
        iteration=task.iteration,
        rank=extras.rank,
        size=extras.size,
        local_rank=extras.local_rank,
        params=dict(params),
        labels=task.labels,
        extras=extras.offered,
    )
    args, kwargs = calling.shape.arguments(params, ctx, extras.supplied)
    if loaded is not None:
        loaded(function)
    value = call_within(ctx, lambda: _completed(function(*args, **kwargs)))
    returns, outputs = _pack_returned(task, calling, codec, value)
    return Outcome(RunState.SUCCEEDED, returns=returns, outputs=outputs)


def _completed(value: Any) -> Any:
    """Return the result of a coroutine, and any other value as it is."""
    if not inspect.iscoroutine(value):
        return value
    import asyncio  # 40 ms that a worker need not spend before its first ordinary function

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    # Called inside a running loop, as in a notebook: a loop of its own needs a thread of its own.
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((asyncio.run(value), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            box.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    result, error = box[0]
    if error is not None:
        raise error
    return result


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
    # The frames of the traceback hold what filled the memory: without releasing it there is none left to report with. On
    # the way up another MemoryError may have been raised; the frames are then those of its context.
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__context__
    outcome = failed_outcome(error, codec, secrets)
    assert outcome.failure is not None
    outcome = replace(outcome, failure=describe_out_of_memory(outcome.failure, calling))
    with suppress(MemoryError):
        reserve_memory()
    return outcome
