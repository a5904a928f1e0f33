"""A handler's signature -> a command: each parameter is an option, and those without a default can stand alone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from mlfn.cli.commands import MlfnCommand
from mlfn.cli.conversion import (
    MISSING,
    assemble,
    bare,
    convert,
    fields_of,
    is_flag,
    is_many,
    metavar,
)
from mlfn.errors import ParameterError, nearest
from mlfn.signature import Signature

_NUMBER = re.compile(r"-\.?\d")
_VALUES = "given_values"
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, eq=False)
class Slot:
    """One option of a handler's command: a parameter, or a field of it."""

    parameter: str
    path: tuple[str, ...]
    annotation: Any
    default: Any
    is_flag: bool

    @property
    def flag(self) -> str:
        """The option as it is shown."""
        return "--" + ".".join((self.parameter, *self.path)).replace("_", "-")


@dataclass(frozen=True)
class Call:
    """Arguments of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class HandlerCommand(MlfnCommand):
    """The command of one function; `act` gets the call, and the values of mlfn's own options."""

    def __init__(
        self,
        signature: Signature,
        *,
        doc: str,
        own: Sequence[click.Option],
        act: Callable[..., Any],
        earlier: Callable[[str], Any] | None = None,
    ) -> None:
        self.signature = signature
        self._act = act
        self._earlier = earlier  # of a run that is submitted again: what a parameter was, unless it is given anew
        self._slots = {f"slot{number}": slot for number, slot in enumerate(_slots(signature))}
        taken = {opt for slot in self._slots.values() for opt in _spellings(slot)}
        # A parameter goes before an option of ours of the same name, which is then written before the target.
        free = [option for option in own if not taken & {*option.opts, *option.secondary_opts}]
        self._reserved = {option.name: None for option in own if option not in free}
        super().__init__(
            signature.name,
            params=[
                click.Argument([_VALUES], nargs=-1, type=click.UNPROCESSED, metavar=" ".join(self._positions()) or " "),
                *(_option(name, slot, again=bool(earlier)) for name, slot in self._slots.items()),
                *free,
            ],
            callback=self._called,
            shown=() if earlier else ("on",),
            help=doc,
            # Unknown ones are looked at here: a negative number is no option, and **kwargs takes any.
            context_settings={"ignore_unknown_options": True},
        )
        # The parameter wins against a setting's flag, too.
        self.params = [p for p in self.params if p.name in self._slots or not taken & set(p.opts)]
        self._after_dashes = 0

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note how many values stand after ``--``: those are no options whatever they look like."""
        self._after_dashes = len(args) - args.index("--") - 1 if "--" in args else 0
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the function's own documentation as it stands."""
        if self.help:
            formatter.write_paragraph()
            for line in self.help.splitlines():
                formatter.write(f"  {line}".rstrip() + "\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the handler's parameters, then the options of mlfn."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = [(option.name in self._slots, option.get_help_record(ctx)) for option in options]
        for title, wanted in ((f"Parameters of {self.signature.name}", True), ("Options", False)):
            shown = [record for is_slot, record in records if record and is_slot is wanted]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown)

    def _positions(self) -> Iterator[str]:
        for parameter in self.signature.parameters.values():
            word = parameter.name.upper()
            if self._earlier:
                return
            if parameter.kind in _BY_POSITION:
                yield word if parameter.default is MISSING else f"[{word}]"
            elif parameter.kind is parameter.VAR_POSITIONAL:
                yield f"[{word}]..."

    def _called(self, **values: Any) -> Any:
        positional = list(values.pop(_VALUES))
        given = {self._slots[name]: values.pop(name) for name in self._slots}
        call = self._bind(positional, {slot: value for slot, value in given.items() if value not in (None, ())})
        return self._act(call, **{**self._reserved, **values})

    def _bind(self, positional: list[str], given: dict[Slot, Any]) -> Call:
        words, extra = self._sorted_out(positional)
        if words and self._earlier:
            raise click.UsageError(
                f"{words[0]!r}: name what is to change, as in --depth 6.", click.get_current_context()
            )
        texts: dict[str, list[str]] = {}
        parameters = [p for p in self.signature.parameters.values() if p.kind in _BY_POSITION]
        for parameter, word in zip(parameters, words):
            texts[parameter.name] = [word]
        rest = words[len(parameters) :]
        if rest and self.signature.shape.varargs is None:
            raise click.UsageError(
                f"{self.signature.name}() takes {len(parameters)} values by position, and {rest[0]!r} is one more.",
                click.get_current_context(),
            )
        values = self._values(texts, given)
        self._refuse_lacking(values)
        args = [self._rest(word) for word in rest]
        return self._call(values, args, extra)

    def _call(self, values: dict[str, Any], rest: list[Any], extra: dict[str, Any]) -> Call:
        leading = []
        for parameter in self.signature.parameters.values():
            must = parameter.kind is parameter.POSITIONAL_ONLY or (rest and parameter.kind in _BY_POSITION)
            if not must or parameter.name not in values:
                break
            leading.append(values.pop(parameter.name))
        return Call((*leading, *rest), {**values, **extra})

    def _sorted_out(self, words: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Tell values from options that nobody declared: those go to ``**kwargs``, or are refused."""
        plain_from = len(words) - self._after_dashes
        values: list[str] = []
        extra: dict[str, Any] = {}
        queue = list(enumerate(words))
        while queue:
            place, word = queue.pop(0)
            if place >= plain_from or not word.startswith("-") or word == "-" or _NUMBER.match(word):
                values.append(word)
                continue
            if self.signature.shape.varkw is None or not word.startswith("--"):
                flags = [opt for param in self.params for opt in param.opts if opt.startswith("-")]
                raise click.UsageError(
                    f"{self.signature.name} has no option {word.partition('=')[0]!r}: {nearest(word, flags)}",
                    click.get_current_context(),
                )
            name, equals, text = word[2:].partition("=")
            if not equals and not queue:
                raise click.UsageError(f"{word} needs a value.", click.get_current_context())
            extra[name.replace("-", "_")] = self._more(text if equals else queue.pop(0)[1], word)
        return values, extra

    def _rest(self, word: str) -> Any:
        return self._loose(self.signature.shape.varargs, word, f"*{self.signature.shape.varargs}")

    def _more(self, word: str, what: str) -> Any:
        return self._loose(self.signature.shape.varkw, word, what.partition("=")[0])

    def _loose(self, name: str | None, word: str, what: str) -> Any:
        return convert(self.signature.annotations.get(str(name), MISSING), [word], what=what)

    def _values(self, texts: dict[str, list[str]], given: dict[Slot, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        parts: dict[str, dict[tuple[str, ...], list[str]]] = {}
        for slot, value in given.items():
            if slot.parameter in texts and not slot.path:
                raise ParameterError(
                    f"{slot.flag} is given twice: by position ({texts[slot.parameter][0]!r}) and by name."
                )
            if slot.path:
                parts.setdefault(slot.parameter, {})[slot.path] = _listed(value)
            elif slot.is_flag:
                values[slot.parameter] = value
            else:
                texts[slot.parameter] = _listed(value)
        for name, several in texts.items():
            parameter = self.signature.parameters[name]
            values[name] = convert(self._annotation(name), several, what=_flag(name), default=parameter.default)
        for name, fields in parts.items():
            default = self.signature.parameters[name].default if self._earlier is None else self._earlier(name)
            base = values.get(name, default)
            values[name] = assemble(self._annotation(name), base, fields, what=_flag(name))
        return values

    def _annotation(self, name: str) -> Any:
        return self.signature.annotations.get(name, MISSING)

    def _refuse_lacking(self, values: dict[str, Any]) -> None:
        for parameter in self.signature.parameters.values():
            if parameter.kind in _VARIABLE or parameter.default is not MISSING or self._earlier:
                continue
            if parameter.name not in values:
                word = metavar(self._annotation(parameter.name))
                raise click.UsageError(
                    f"{self.signature.name} lacks {parameter.name!r}: give {_flag(parameter.name)} {word}"
                    + (", or the value alone." if parameter.kind in _BY_POSITION else "."),
                    click.get_current_context(),
                )


def _slots(signature: Signature) -> Iterator[Slot]:
    for parameter in signature.parameters.values():
        if parameter.kind in _VARIABLE:
            continue
        annotation = signature.annotations.get(parameter.name, MISSING)
        flag = is_flag(annotation, parameter.default)
        yield Slot(parameter.name, (), annotation, parameter.default, flag)
        yield from _fields(parameter.name, (), annotation)


def _fields(parameter: str, path: tuple[str, ...], annotation: Any) -> Iterator[Slot]:
    if len(path) > 4:  # a model that holds itself has no end
        return
    for name, inner in fields_of(annotation).items():
        if not fields_of(inner):
            yield Slot(parameter, (*path, name), inner, MISSING, is_flag=False)
        yield from _fields(parameter, (*path, name), inner)


def _option(name: str, slot: Slot, *, again: bool) -> click.Option:
    if slot.path or again:
        shown = ""
    else:
        shown = "[required]" if slot.default is MISSING else f"[default: {_shown(slot.default)}]"
    if slot.is_flag:
        pairs = [f"{opt}/--no-{opt[2:]}" for opt in _spellings(slot) if opt.startswith("--")]
        return click.Option([*pairs, name], default=None, help=shown)
    many = is_many(slot.annotation)
    return click.Option(
        [*_spellings(slot), name],
        multiple=many,
        metavar=metavar(slot.annotation, slot.default),
        help=shown,
        default=None,
    )


def _spellings(slot: Slot) -> list[str]:
    python = "--" + ".".join((slot.parameter, *slot.path))
    short = [f"-{slot.parameter}"] if len(slot.parameter) == 1 and not slot.path else []
    return list(dict.fromkeys([slot.flag, python, *short]))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _shown(default: Any) -> str:
    if bare(type(default)) in (int, float, str, bool, type(None)):
        return str(default)
    text = repr(default)
    return text if len(text) <= 60 else f"{text[:57]}..."
