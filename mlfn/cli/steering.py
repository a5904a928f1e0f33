"""`mlfn wait`, `mlfn cancel` and `mlfn rerun`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import click

from mlfn.cli import exits
from mlfn.cli.arguments import Call, HandlerCommand
from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.printing import complain, say, state_text, write_json
from mlfn.errors import MlfnError, ParameterError


def _wait(chosen: Chosen, runs: Sequence[str], timeout: float | None) -> int:
    from mlfn import listing
    from mlfn.cli.watching import leave_at_once

    items = [listing.run(run) for run in runs]
    try:
        _, unfinished = listing.wait(items, timeout)
    except KeyboardInterrupt:
        complain("stopped waiting; nothing was cancelled.")
        leave_at_once(exits.INTERRUPTED)
        raise
    _tell(chosen, items)
    codes = {exits.code_of_run(item.record) for item in items}
    if unfinished:
        complain(f"{len(unfinished)} had not ended after {timeout:g} s.")
        leave_at_once(exits.STILL_RUNNING)
    return next((code for code in (exits.RUN_FAILED, exits.CANCELLED) if code in codes), exits.OK)


def _cancel(chosen: Chosen, runs: Sequence[str]) -> None:
    from mlfn import listing
    from mlfn.client import current_client

    items = [listing.run(run) for run in runs]
    for item in items:
        current_client().refuse_unreachable(item.record)  # before any of them is ended
    for item in items:
        before = item.state
        if not item.cancel():
            complain(f"{item.id[:8]} had {'ended' if before.is_terminal else 'come to its end'} before: {item.state}.")
    _tell(chosen, items)


def _rerun(chosen: Chosen, *, run: str, rest: Sequence[str], follow: bool) -> Any:
    from mlfn import listing
    from mlfn.cli.watching import see_through

    old = listing.run(run)
    if old.record.sweep:
        return old.rerun()  # which refuses it in words
    signature, doc = _signature_of(old)

    def earlier(name: str) -> Any:
        return old.params.get(name, signature.parameters[name].default)

    def act(call: Call, **values: Any) -> int:
        again = old.rerun(**call.kwargs)
        announced = f"run {again.id[:8]} of {again.name} on {again.record.place}, again after {old.id[:8]}"
        return see_through(again, announced=announced, follow=bool(values["follow"] or follow), as_json=chosen.json)

    command = HandlerCommand(signature, doc=doc, own=[_follow()], act=act, earlier=earlier)
    path = f"{click.get_current_context().command_path} {run}"
    with command.make_context(path, list(rest), obj=chosen) as inner:
        return command.invoke(inner)


def _signature_of(item: Any) -> tuple[Any, str]:
    """Return the signature of a run's function, whose stored payload is checked by its signature before it is read."""
    from mlfn.client import current_client
    from mlfn.signature import Signature
    from mlfn.submission import stored_function

    client = current_client()
    body = client.store.plan(item.record.plan)
    try:
        function = stored_function(client, body)
    except MlfnError:
        raise
    except OSError as error:
        raise ParameterError(f"The code of {item.name} ({item.id[:8]}) cannot be read again: {error}.") from error
    except Exception as error:
        raise ParameterError(
            f"The code of {item.name} ({item.id[:8]}) does not load here: {type(error).__name__}: {error}. "
            "Rerun it in the environment in which it was submitted."
        ) from error
    return Signature(function, item.name), inspect.getdoc(function) or "" if inspect.isroutine(function) else ""


def _tell(chosen: Chosen, items: Sequence[Any]) -> None:
    if chosen.json:
        from mlfn.cli.describing import describe
        from mlfn.client import current_client

        client = current_client()
        write_json([describe(client, item.record) for item in items])
        return
    for item in items:
        say(f"{item.id[:8]}  {state_text(str(item.state))}  {item.name}")


def _follow() -> click.Option:
    return click.Option(["--follow", "-f"], is_flag=True, default=None, help="Show what the run writes, as it comes.")


wait = MlfnCommand(
    "wait",
    params=[
        click.Option(["--timeout"], type=click.FloatRange(min=0), metavar="SECONDS", help="At most so long."),
        click.Argument(["runs"], nargs=-1, required=True, metavar="ID..."),
    ],
    callback=click.pass_obj(_wait),
    help="Wait for runs to end. One whose client died is carried on here. Ctrl-C stops the waiting, not the runs.",
    no_args_is_help=True,
)
cancel = MlfnCommand(
    "cancel",
    params=[click.Argument(["runs"], nargs=-1, required=True, metavar="ID...")],
    callback=click.pass_obj(_cancel),
    help="End runs and wait until each is confirmed: SIGTERM, and SIGKILL after the grace time.",
    no_args_is_help=True,
)
rerun = MlfnCommand(
    "rerun",
    params=[
        _follow(),
        click.Argument(["run"], metavar="ID"),
        click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]..."),
    ],
    callback=click.pass_obj(_rerun),
    help="Submit the same function version again, and wait for it. What is not named stays as it was.",
    context_settings={"allow_interspersed_args": False},
    no_args_is_help=True,
)
