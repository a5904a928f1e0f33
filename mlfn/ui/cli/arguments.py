"""A handler's signature -> a command: each parameter is an option, and those without a default can stand alone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import click

from mlfn.dispatch.signature import Signature
from mlfn.errors import ParameterError, nearest
from mlfn.host.frozen import frozen
from mlfn.ui.cli.commands import MlfnCommand, usage_error
from mlfn.ui.cli.conversion import MISSING, assemble, convert, fields_of, is_flag, metavar

_NUMBER = re.compile(r"-\.?\d")
_VALUES = "given_values"
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Slot(click.Option):
    """One option of a handler's command: a parameter, or a field of it. Its value is None, a switch's, or the texts."""

    def __init__(
        self, name: str, parameter: str, path: tuple[str, ...], annotation: Any, default: Any, shown: str
    ) -> None:
        self.parameter = parameter
        self.path = path
        python = ".".join((parameter, *path))
        self.flag = _flag(python)
        spellings = list(dict.fromkeys([self.flag, f"--{python}"]))
        is_switch = not path and is_flag(annotation, default)
        if is_switch:
            spellings = [f"{opt}/--no-{opt[2:]}" for opt in spellings]
        if len(python) == 1:
            spellings.append(f"-{python}")
        word = None if is_switch else metavar(annotation, default)
        super().__init__([*spellings, name], multiple=not is_switch, default=None, metavar=word, help=shown)


@frozen
class Call:
    """Arguments of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class HandlerCommand(MlfnCommand):
    """The command of one function; `act` gets the call, and the values of mlfn's own options.

    `earlier` returns the parameters of a run that is run again: what is not given stays as it was.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        signature: Signature,
        *,
        own: Sequence[click.Option],
        act: Callable[..., Any],
        earlier: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.signature = signature
        self._act = act
        self._earlier = earlier
        found = enumerate(_slots(self.signature, again=bool(earlier)))
        self._slots = [Slot(f"slot{number}", *slot) for number, slot in found]
        taken = {opt for slot in self._slots for opt in slot.opts}
        # A parameter goes before an option of ours of the same name, which is then written before the target.
        free = [option for option in own if not taken & {*option.opts, *option.secondary_opts}]
        self._reserved = {option.name: None for option in own if option not in free}
        doc = (inspect.getdoc(function) or "") if inspect.isroutine(function) else ""
        values = click.Argument([_VALUES], nargs=-1, type=click.UNPROCESSED, metavar=" ".join(self._positions()) or " ")
        super().__init__(
            signature.name,
            params=[values, *self._slots, *free],
            callback=self._called,
            shown=() if earlier else ("on",),
            help="\b\n" + doc.replace("\n\n", "\n\n\b\n") if doc else None,  # each paragraph as it stands
            # Unknown ones are handled here: a negative number is no option, and **kwargs takes any.
            context_settings={"ignore_unknown_options": True},
        )
        # The parameter wins against a setting's flag, too.
        self.params = [p for p in self.params if p in self._slots or not taken & set(p.opts)]
        self._after_dashes = 0

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note how many values stand after ``--``: those are never options."""
        self._after_dashes = len(args) - args.index("--") - 1 if "--" in args else 0
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the handler's parameters, then the options of mlfn."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        others = [option for option in options if option not in self._slots]
        for title, section in ((f"Parameters of {self.signature.name}", self._slots), ("Options", others)):
            shown = [record for option in section if (record := option.get_help_record(ctx))]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown)

    def _positions(self) -> Iterator[str]:
        for parameter in () if self._earlier else self.signature.parameters.values():
            word = parameter.name.upper()
            if parameter.kind in _BY_POSITION:
                yield word if parameter.default is MISSING else f"[{word}]"
            elif parameter.kind is parameter.VAR_POSITIONAL:
                yield f"[{word}]..."

    def _called(self, /, **values: Any) -> Any:
        words = list(values.pop(_VALUES))
        given = [(slot, values.pop(str(slot.name))) for slot in self._slots]
        call = self._bind(words, [(slot, value) for slot, value in given if value not in (None, ())])
        return self._act(call, **{**self._reserved, **values})

    def _bind(self, words: list[str], given: Sequence[tuple[Slot, Any]]) -> Call:
        whole = self.signature.shape  # what the run fills in is not given here
        positional = tuple(name for name in whole.positional if name in self.signature.parameters)
        shape = replace(whole, positional=positional, context=None, injected={})
        words, further = self._separated(words)
        if words and self._earlier:
            raise usage_error(f"{words[0]!r}: name what is to change, as in --depth 6.")
        parameters = [p for p in self.signature.parameters.values() if p.kind in _BY_POSITION]
        rest = words[len(parameters) :]
        if rest and shape.varargs is None:
            raise usage_error(
                f"{self.signature.name}() takes {len(parameters)} values by position, and {rest[0]!r} is one more."
            )
        values = self._values({parameter.name: [word] for parameter, word in zip(parameters, words)}, given)
        self._refuse_lacking(values)
        if shape.varargs is not None:
            annotation = self._annotation(shape.varargs)
            values[shape.varargs] = [convert(annotation, [word], what=f"*{shape.varargs}") for word in rest]
        args, kwargs = shape.arguments(values, None)
        return Call(tuple(args), {**kwargs, **further})

    def _separated(self, words: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Separate values from undeclared options, which go to ``**kwargs`` or are refused."""
        plain_from = len(words) - self._after_dashes
        varkw = self.signature.shape.varkw
        values: list[str] = []
        further: dict[str, Any] = {}
        queue = list(enumerate(words))
        while queue:
            place, word = queue.pop(0)
            if place >= plain_from or not word.startswith("-") or word == "-" or _NUMBER.match(word):
                values.append(word)
                continue
            flag, equals, text = word.partition("=")
            if varkw is None or not word.startswith("--"):
                flags = [opt for param in self.params for opt in param.opts if opt.startswith("-")]
                raise usage_error(f"{self.signature.name} has no option {flag!r}: {nearest(flag, flags)}")
            if not equals and not queue:
                raise usage_error(f"{word} needs a value.")
            text = text if equals else queue.pop(0)[1]
            further[flag[2:].replace("-", "_")] = convert(self._annotation(varkw), [text], what=flag)
        return values, further

    def _values(self, texts: dict[str, Sequence[str]], given: Sequence[tuple[Slot, Any]]) -> dict[str, Any]:
        """Return values by parameter; `texts` are those that were given by position."""
        values: dict[str, Any] = {}
        parts: dict[str, dict[tuple[str, ...], Sequence[str]]] = {}
        for slot, value in given:
            if slot.path:
                parts.setdefault(slot.parameter, {})[slot.path] = value
            elif slot.parameter in texts:
                raise ParameterError(
                    f"{slot.flag} is given twice: by position ({texts[slot.parameter][0]!r}) and by name."
                )
            elif slot.is_flag:
                values[slot.parameter] = value
            else:
                texts[slot.parameter] = value
        for name, several in texts.items():
            default = self.signature.parameters[name].default
            values[name] = convert(self._annotation(name), several, what=_flag(name), default=default)
        for name, fields in parts.items():
            earlier = self._earlier() if self._earlier else {}
            base = {**earlier, **values}.get(name, self.signature.parameters[name].default)
            values[name] = assemble(self._annotation(name), base, fields, what=_flag(name))
        return values

    def _annotation(self, name: str) -> Any:
        return self.signature.annotations.get(name, MISSING)

    def _refuse_lacking(self, values: Mapping[str, Any]) -> None:
        lacking = [name for name in self.signature.required() if name not in values]
        if lacking and not self._earlier:
            name = lacking[0]
            by_position = self.signature.parameters[name].kind in _BY_POSITION
            raise usage_error(
                f"{self.signature.name} lacks {name!r}: give {_flag(name)} {metavar(self._annotation(name))}"
                + (", or the value alone." if by_position else ".")
            )


def _slots(signature: Signature, *, again: bool) -> Iterator[tuple[str, tuple[str, ...], Any, Any, str]]:
    for name, parameter in signature.parameters.items():
        if parameter.kind in _VARIABLE:
            continue
        annotation, default = signature.annotations.get(name, MISSING), parameter.default
        shown = "" if again else "[required]" if default is MISSING else f"[default: {_shown(default)}]"
        yield name, (), annotation, default, shown
        for path, inner in _fields((), annotation):
            yield name, path, inner, MISSING, ""


def _fields(path: tuple[str, ...], annotation: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(path) > 4:  # a model that holds itself has no end
        return
    for name, inner in fields_of(annotation).items():
        if not fields_of(inner):
            yield (*path, name), inner
        yield from _fields((*path, name), inner)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(default: Any) -> str:
    text = repr(default)
    if isinstance(default, (str, PurePath)):
        return str(default)
    return text if len(text) <= 60 else f"{text[:57]}..."
