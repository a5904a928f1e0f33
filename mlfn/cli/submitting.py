"""`mlfn run` and `mlfn plan`."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from mlfn.cli.arguments import Call, HandlerCommand
from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.printing import say, write_json
from mlfn.cli.targets import AnyFunction, find_function, with_options

_EXAMPLE = """\
TARGET is file.py::name or module:name, where name is a function under @mlfn.function.
Its parameters follow, by position or as options: see  mlfn {name} file.py::name --help
"""


def follow_option() -> click.Option:
    """Return `--follow`."""
    return click.Option(["--follow", "-f"], is_flag=True, default=None, help="Show what the run writes, as it comes.")


def options_option() -> click.Option:
    """Return `-o`."""
    return click.Option(
        ["-o", "options"], multiple=True, metavar="NAME=VALUE", help="Change an option of @function, as -o cpu=2."
    )


def _run(chosen: Chosen, *, target: str, rest: Sequence[str], **before: Any) -> Any:
    def submit(function: AnyFunction, call: Call, *, follow: bool | None) -> int:
        from mlfn.cli.watching import see_through

        # Inline, the handler writes to this very stdout, where the document is to be alone.
        with contextlib.redirect_stdout(sys.stderr) if chosen.json else contextlib.nullcontext():
            run = function.submit(*call.args, **call.kwargs)
        announced = f"run {run.id[:8]} of {run.name} on {run.record.place}"
        return see_through(run, announced=announced, follow=bool(follow), as_json=chosen.json)

    return with_target(chosen, target, rest, submit, own=[follow_option()], before=before)


def _plan(chosen: Chosen, *, target: str, rest: Sequence[str], **before: Any) -> Any:
    def show(function: AnyFunction, call: Call) -> None:
        if chosen.json:
            from mlfn.cli.describing import plain

            write_json(plain(function._planned(call.args, call.kwargs)))
        else:
            say(function.plan(*call.args, **call.kwargs).rstrip())

    return with_target(chosen, target, rest, show, own=[], before=before)


def with_target(
    chosen: Chosen,
    target: str,
    rest: Sequence[str],
    act: Callable[..., Any],
    *,
    own: Sequence[click.Option],
    before: Mapping[str, Any],
    command_type: type[HandlerCommand] = HandlerCommand,
) -> Any:
    """Load the target, read the rest of the line by its signature, and act on the call.

    `act` gets the function, the call, and the values of mlfn's own options, on whichever side of the target they stand.
    """
    from mlfn.signature import Signature

    function = find_function(target)

    def called(call: Call, **after: Any) -> Any:
        values = {name: _nearer(value, before.get(name)) for name, value in after.items()}
        changed = with_options(function, values.pop("options") or ())
        if "on" in chosen.flags:
            # Said here and now, so nearer than what the file says of its place.
            changed = changed.on(chosen.flags["on"])
        return act(changed, call, **values)

    raw = function.__mlfn_function__
    command = command_type(
        Signature(raw, str(getattr(function, "__name__", "function"))),
        doc=inspect.getdoc(raw) or "" if inspect.isroutine(raw) else "",
        own=[*own, options_option()],
        act=called,
    )
    path = f"{click.get_current_context().command_path} {target}"
    with command.make_context(path, list(rest), obj=chosen) as inner:
        return command.invoke(inner)


def _nearer(after: Any, before: Any) -> Any:
    """Return what is said of an option: after the target rather than before it; of one that may be repeated, all."""
    if isinstance(after, tuple) or isinstance(before, tuple):
        return (*(before or ()), *(after or ()))
    return before if after is None else after


def target_command(name: str, callback: Callable[..., Any], summary: str, *own: click.Option) -> MlfnCommand:
    """Return a command that takes a target, and its parameters after it."""
    return MlfnCommand(
        name,
        params=[
            *own,
            options_option(),
            click.Argument(["target"]),
            click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]..."),
        ],
        callback=click.pass_obj(callback),
        shown=("on",),
        help=summary + "\n\n\b\n" + _EXAMPLE.format(name=name),
        context_settings={"allow_interspersed_args": False},
        no_args_is_help=True,
    )


run = target_command(
    "run",
    _run,
    "Submit a run, wait for it, and print its results and where they lie. Ctrl-C cancels it.",
    follow_option(),
)
plan = target_command("plan", _plan, "Show, as YAML, what a run would be made of; nothing is created.")
