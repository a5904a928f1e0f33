"""`mlfn wait`, `mlfn cancel` and `mlfn rerun`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from mlfn.dispatch.session import current_session
from mlfn.dispatch.signature import Signature
from mlfn.dispatch.submit import signature_of, stored_function
from mlfn.errors import MlfnError, ParameterError
from mlfn.handles import finders
from mlfn.ui.cli import exits
from mlfn.ui.cli.arguments import Call, HandlerCommand
from mlfn.ui.cli.commands import Chosen, command, follow_option, run_inner
from mlfn.ui.cli.printing import complain, say, write_json
from mlfn.ui.cli.watching import leave_at_once, wait_and_print
from mlfn.ui.json_documents import run_summary
from mlfn.ui.text import state_text
from mlfn.ui.views import Source
from mlfn.ui.views.run import listed_view


@command("wait", no_args_is_help=True)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait at most SECONDS.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def wait(chosen: Chosen, runs: Sequence[str], timeout: float | None) -> int:
    """Wait for runs to end. One whose client died is resumed here. Ctrl-C stops the waiting, not the runs."""
    items = [finders.run(run) for run in runs]
    try:
        _, unfinished = finders.wait(items, timeout)
    except KeyboardInterrupt:
        complain("stopped waiting; nothing was cancelled.")
        leave_at_once(exits.INTERRUPTED)
    _tell(chosen, items)
    codes = {exits.code_of_run(item.record) for item in items}
    if unfinished:
        complain(f"{len(unfinished)} had not ended after {timeout:g} s.")
        leave_at_once(exits.STILL_RUNNING)
    return next((code for code in (exits.RUN_FAILED, exits.CANCELLED) if code in codes), exits.OK)


@command("cancel", no_args_is_help=True)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def cancel(chosen: Chosen, runs: Sequence[str]) -> None:
    """End runs and wait until each is confirmed: SIGTERM, and SIGKILL after the grace time."""
    items = [finders.run(run) for run in runs]
    for item in items:
        current_session().refuse_unreachable(item.record)  # before any of them is ended
    for item in items:
        before = item.state
        if not item.cancel():
            complain(f"{item.id[:8]} had {'ended' if before.is_terminal else 'come to its end'} before: {item.state}.")
    _tell(chosen, items)


@command("rerun", no_args_is_help=True, context_settings={"allow_interspersed_args": False}, params=[follow_option()])
@click.argument("run", metavar="RUN")
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]...")
def rerun(chosen: Chosen, *, run: str, rest: Sequence[str], follow: bool) -> Any:
    """Submit the same function version again, and wait for it. What is not named stays as it was."""
    old = finders.run(run)
    if old.record.sweep:
        return old.rerun()  # refuses it

    def act(call: Call, **values: Any) -> int:
        again = old.rerun(**call.kwargs)
        announced = f"run {again.id[:8]} of {again.name} on {again.record.place}, again after {old.id[:8]}"
        return wait_and_print(again, announced=announced, follow=bool(values["follow"] or follow), as_json=chosen.json)

    function, signature = _function_of(old)
    inner = HandlerCommand(function, signature, own=[follow_option()], act=act, earlier=lambda: old.params)
    return run_inner(inner, run, rest, chosen)


def _function_of(item: Any) -> tuple[Callable[..., Any], Signature]:
    """Return a run's function and its parameters; the stored payload's signature is checked before it is read."""
    session = current_session()
    body = session.store.get_plan(item.record.plan)
    try:
        function = stored_function(session, body)
        return function, signature_of(body, function)
    except MlfnError:
        raise
    except OSError as error:
        raise ParameterError(f"The code of {item.name} ({item.id[:8]}) cannot be read again: {error}.") from error
    except Exception as error:
        raise ParameterError(
            f"The code of {item.name} ({item.id[:8]}) does not load here: {type(error).__name__}: {error}. "
            "Rerun it in the environment in which it was submitted."
        ) from error


def _tell(chosen: Chosen, items: Sequence[Any]) -> None:
    if chosen.json:
        session = current_session()
        source = Source(session.store, session.folder)
        write_json([run_summary(listed_view(source, item.record)) for item in items])
        return
    for item in items:
        say(f"{item.id[:8]}  {state_text(str(item.state))}  {item.name}")
