"""`mlfn secret`: values come from stdin or a hidden prompt, never from the arguments, which other users can see."""

from __future__ import annotations

import sys

import click

from mlfn.backends.registry import capabilities, place_class
from mlfn.errors import OptionError
from mlfn.settings import current as settings
from mlfn.settings import secrets
from mlfn.ui.cli.commands import Chosen, LazyGroup, command, shared_options
from mlfn.ui.cli.printing import complain, is_terminal, say, write_json


@command("set", no_args_is_help=True)
@click.option("--key", metavar="KEY", help="Set one of several values under this name.")
@click.argument("name")
def set_(chosen: Chosen, name: str, key: str | None) -> None:
    """Keep a value, read from stdin or from a prompt that does not show it; with --on kubernetes, in the current context's namespace."""
    secrets.Secret(name, key)  # an invalid name is refused before the prompt
    place = settings.current().on
    if capabilities(place).secrets_of_caller:
        secrets.write_secret(name, _value(name), settings.secrets_file(), key=key)
    else:
        place_class(place).keep_secret(name, _value(name), key=key)
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


@command("list")
def list_(chosen: Chosen) -> None:
    """List the names of secrets, never their values."""
    names = secrets.list_secrets(settings.secrets_file())
    if chosen.json:
        write_json(names)
        return
    for name in names:
        say(name)
    if not names:
        complain("no secrets here; `mlfn secret set NAME` keeps one.")


@command("remove", no_args_is_help=True)
@click.argument("name")
def remove(chosen: Chosen, name: str) -> None:
    """Remove a secret with all its keys."""
    secrets.remove_secret(name, settings.secrets_file())
    _tell(chosen, "removed", name, None)


def _tell(chosen: Chosen, what: str, name: str, key: str | None) -> None:
    if chosen.json:
        write_json({what: name, "key": key})
    else:
        complain(f"{what} {name}" + (f" ({key})" if key else ""))


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
