"""What all commands share: `--json`, each setting as a flag, and help that loads no other command."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from mlfn.errors import nearest
from mlfn.settings import current as settings
from mlfn.settings.declarations import SETTINGS

_SETTING = "setting_"
_JSON = "as_json"


class ReaderGoneError(Exception):
    """The reader of our output has gone, as after ``| head``; raised past click, which would exit with 1."""


@dataclass
class Chosen:
    """The flags of this invocation, on whichever side of the command's name they stand."""

    flags: dict[str, str] = field(default_factory=dict)
    json: bool = False

    def take(self, params: dict[str, Any]) -> None:
        """Move the flags that all commands share out of a command's parameters, and put the settings in force."""
        self.json = params.pop(_JSON, False) or self.json
        for name in [name for name in params if name.startswith(_SETTING)]:
            value = params.pop(name)
            if value is not None:
                self.flags[name.removeprefix(_SETTING)] = value
        settings.use_flags(self.flags)

    def answer_alone(self) -> contextlib.AbstractContextManager[Any]:
        """Keep stdout for the document, if one is asked for: what runs inline writes to this very stdout."""
        return contextlib.redirect_stdout(sys.stderr) if self.json else contextlib.nullcontext()


def shared_options(*, own: Collection[str] = (), shown: Collection[str] = ()) -> Iterator[click.Option]:
    """Yield `--json` and a flag for each setting, less those whose names a command uses itself (`own`)."""
    if "--json" not in own:
        yield click.Option(["--json", _JSON], is_flag=True, help="Print one JSON document.")
    for name, setting in SETTINGS.items():
        if setting.flag not in own:
            yield click.Option(
                [setting.flag, _SETTING + name],
                metavar="PATH" if setting.is_path else setting.type.__name__.upper().replace("STR", "TEXT"),
                help=setting.doc,
                hidden=name not in shown,
            )


class NearestFlag(click.Command):
    """A command that refuses an unknown flag with those that it may be meant for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an unknown flag with those that are near by their names: the dashes alone make any two alike."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            import difflib  # 4 ms that only a mistake costs

            name = error.option_name
            flags = [flag[2:] for param in self.get_params(ctx) for flag in param.opts if flag.startswith("--")]
            near = [f"--{flag}" for flag in difflib.get_close_matches(name.lstrip("-"), flags)]
            if not near and not ctx.allow_interspersed_args and isinstance(self, MlfnCommand):
                target = next(param.human_readable_name for param in self.params if isinstance(param, click.Argument))
                raise click.UsageError(
                    f"No such option {name!r}. A parameter of the function stands after {target}: "
                    f"{ctx.command_path} {target} {name} VALUE",
                    ctx,
                ) from None
            raise click.NoSuchOption(name, possibilities=near, ctx=ctx) from None


class MlfnCommand(NearestFlag):
    """A command that takes the shared options after its name as well; its callback gets `Chosen` first."""

    def __init__(self, *args: Any, shown: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        used = {opt for param in self.params for opt in param.opts}
        self.params += list(shared_options(own=used, shown=shown))
        self.epilog = self.epilog or "Each setting is a flag too: see mlfn --help."

    def invoke(self, ctx: click.Context) -> Any:
        """Put the flags in force, then run the callback."""
        ctx.ensure_object(Chosen).take(ctx.params)
        return super().invoke(ctx)


def command(name: str, **more: Any) -> Callable[[Callable[..., Any]], MlfnCommand]:
    """Make a command of a function, whose documentation is its help; arguments that it lacks are answered with that."""

    def made(callback: Callable[..., Any]) -> MlfnCommand:
        return click.command(name, cls=MlfnCommand, **more)(click.pass_obj(callback))

    return made


class LazyGroup(NearestFlag, click.Group):
    """A group whose commands are imported when they are used; help reads a table."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self._table:
            return None
        module, _, name = self._table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown name with the nearest one that there is."""
        if args[0] not in self._table and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command {args[0]!r}: {nearest(args[0], self._table)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._table.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Note the flags that stand before the command's name."""
        ctx.ensure_object(Chosen).take(ctx.params)
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error


def run_inner(command: click.Command, name: str, args: Sequence[str], chosen: Chosen) -> Any:
    """Run a command that was made for the arguments of the current one."""
    path = f"{click.get_current_context().command_path} {name}"
    with command.make_context(path, list(args), obj=chosen) as inner:
        return command.invoke(inner)


def usage_error(text: str) -> click.UsageError:
    """Return an error that shows how the current command is used."""
    return click.UsageError(text, click.get_current_context())


def follow_option() -> click.Option:
    """Return `--follow` of a command that submits."""
    return click.Option(["--follow", "-f"], is_flag=True, default=None, help="Show what the run writes, as it comes.")
