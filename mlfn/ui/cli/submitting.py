"""`mlfn run` and `mlfn plan`, and what all commands have in common that take a target."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import click

from mlfn.ui.cli.arguments import Call, HandlerCommand
from mlfn.ui.cli.commands import Chosen, MlfnCommand, follow_option, run_inner
from mlfn.ui.cli.printing import say, write_json
from mlfn.ui.cli.targets import AnyFunction, find_function, with_options

_EXAMPLE = """\
TARGET is file.py::name or module:name, where name is a function under @mlfn.function.
Its parameters follow, by position or as options: see  mlfn {name} file.py::name --help
"""


def target_command(
    name: str,
    *own: click.Option,
    made_as: type[MlfnCommand] = MlfnCommand,
    read_as: type[HandlerCommand] = HandlerCommand,
) -> Callable[[Callable[..., Any]], MlfnCommand]:
    """Make a command of a function: it takes a target, and what follows by the target's signature.

    The function gets `Chosen`, the target, the call, and the values of `own` options, on whichever side of the target they stand.
    """
    change = click.Option(
        ["-o", "options"], multiple=True, metavar="NAME=VALUE", help="Change an option of @function, as -o cpu=2."
    )

    def made(act: Callable[..., Any]) -> MlfnCommand:
        def callback(chosen: Chosen, target: str, rest: Sequence[str], **before: Any) -> Any:
            function = find_function(target)

            def called(call: Call, **after: Any) -> Any:
                values = {name: _merged(value, before.get(name)) for name, value in after.items()}
                changed = with_options(function, values.pop("options") or ())
                if "on" in chosen.flags:
                    # The flag is nearer than the place that the file declares.
                    changed = changed.on(chosen.flags["on"])
                return act(chosen, changed, call, **values)

            inner = read_as(function.__mlfn_function__, function.__mlfn_signature__, own=[*own, change], act=called)
            return run_inner(inner, target, rest, chosen)

        return made_as(
            name,
            params=[
                *own,
                change,
                click.Argument(["target"]),
                click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]..."),
            ],
            callback=click.pass_obj(callback),
            shown=("on",),
            help=f"{inspect.getdoc(act)}\n\n\b\n{_EXAMPLE.format(name=name)}",
            context_settings={"allow_interspersed_args": False},
            no_args_is_help=True,
        )

    return made


def _merged(after: Any, before: Any) -> Any:
    """Return the value of an option: that after the target rather than before it; all values of a repeatable one."""
    if isinstance(after, tuple) or isinstance(before, tuple):
        return (*(before or ()), *(after or ()))
    return before if after is None else after


@target_command("run", follow_option())
def run(chosen: Chosen, function: AnyFunction, call: Call, *, follow: bool | None) -> int:
    """Submit a run, wait for it, and print its results and where they lie. Ctrl-C cancels it."""
    from mlfn.ui.cli.watching import wait_and_print

    with chosen.answer_alone():
        run = function.submit(*call.args, **call.kwargs)
    announced = f"run {run.id[:8]} of {run.name} on {run.record.place}"
    return wait_and_print(run, announced=announced, follow=bool(follow), as_json=chosen.json)


@target_command("plan")
def plan(chosen: Chosen, function: AnyFunction, call: Call) -> None:
    """Show the plan of a run as YAML; nothing is created."""
    if chosen.json:
        from mlfn.ui.views.values import plain

        write_json(plain(function.__mlfn_plan__(call.args, call.kwargs)))
    else:
        say(function.plan(*call.args, **call.kwargs).rstrip())
