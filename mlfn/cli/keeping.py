"""`mlfn secret`: values come from stdin or a hidden prompt, never from the arguments, which other users can see."""

from __future__ import annotations

import sys

import click

from mlfn import secrets, settings
from mlfn.cli.commands import Chosen, LazyGroup, MlfnCommand, shared_options
from mlfn.cli.printing import complain, is_terminal, say, write_json
from mlfn.errors import OptionError


def _set(chosen: Chosen, name: str, key: str | None) -> None:
    secrets.Secret(name, key)  # the name is refused before the value is asked for
    secrets.write_secret(name, _value(name), settings.secrets_file(), key=key)
    _tell(chosen, "set", name, key)


def _value(name: str) -> str:
    if is_terminal(sys.stdin):
        value: str = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
        return value
    # One line end is the shell's; anything before it is the user's.
    text = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not text:
        raise OptionError(f"There is no value for secret {name!r} on stdin: type  mlfn secret set {name} < file.")
    return text


def _list(chosen: Chosen) -> None:
    names = secrets.list_secrets(settings.secrets_file())
    if chosen.json:
        write_json(names)
        return
    for name in names:
        say(name)
    if not names:
        complain("no secrets here; `mlfn secret set NAME` keeps one.")


def _remove(chosen: Chosen, name: str) -> None:
    secrets.remove_secret(name, settings.secrets_file())
    _tell(chosen, "removed", name, None)


def _tell(chosen: Chosen, what: str, name: str, key: str | None) -> None:
    if chosen.json:
        write_json({what: name, "key": key})
    else:
        complain(f"{what} {name}" + (f" ({key})" if key else ""))


set_ = MlfnCommand(
    "set",
    params=[
        click.Option(["--key"], metavar="KEY", help="Set one of several values under this name."),
        click.Argument(["name"]),
    ],
    callback=click.pass_obj(_set),
    help="Keep a value, read from stdin or from a prompt that does not show it.",
    no_args_is_help=True,
)
list_ = MlfnCommand("list", callback=click.pass_obj(_list), help="List the names of secrets, never their values.")
remove = MlfnCommand(
    "remove",
    params=[click.Argument(["name"])],
    callback=click.pass_obj(_remove),
    help="Remove a secret with all its keys.",
    no_args_is_help=True,
)
secret = LazyGroup(
    "secret",
    table={
        "set": (f"{__name__}:set_", "Keep a value, read from stdin or a hidden prompt."),
        "list": (f"{__name__}:list_", "List the names, never the values."),
        "remove": (f"{__name__}:remove", "Remove a secret with all its keys."),
    },
    params=list(shared_options()),
    help="Secrets of this machine, in a file that only you can read.",
    no_args_is_help=True,
)
