from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner

import mlfn
from mlfn.dispatch.signature import Signature
from mlfn.errors import ParameterError
from mlfn.ui.cli.arguments import Call, HandlerCommand


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    name: str = "c"


def fit(data: dict, depth: int = 8, *, max_rounds: int = 3, verbose: bool = False, cfg: Config = Config()):
    """Fit.

    Args:
        data: what to fit.
    """


def everything(a: int, /, b: int, *rest: int, c: int = 0, **more: float): ...


def clashing(n: int, json: str = "x", o: int = 1, on: str = "y", follow: bool = False): ...


class Session: ...


def own() -> list[click.Option]:
    return [
        click.Option(["--follow", "-f"], is_flag=True, default=None),
        click.Option(["-o", "options"], multiple=True),
    ]


def call(function: Callable[..., Any], *args: str) -> tuple[Call, dict[str, Any]]:
    got: list[Any] = []
    command = HandlerCommand(
        function,
        Signature(function, function.__name__),
        own=own(),
        act=lambda call, **values: got.append((call, values)),
    )
    command.main(list(args), standalone_mode=False)
    (answer,) = got
    return answer


def kwargs(function: Callable[..., Any], *args: str) -> dict[str, Any]:
    return call(function, *args)[0].kwargs


def test_values_are_taken_by_position_or_by_name():
    assert kwargs(fit, '{"a": 1}', "4") == {"data": {"a": 1}, "depth": 4}
    assert kwargs(fit, "--depth", "4", "--data", "{}") == {"data": {}, "depth": 4}
    assert kwargs(fit, "--depth=4", "{}") == {"data": {}, "depth": 4}


def test_what_is_not_given_is_left_to_the_function():
    assert kwargs(fit, "{}") == {"data": {}}


def test_a_name_is_written_with_dashes_or_as_in_python():
    assert kwargs(fit, "{}", "--max-rounds", "4") == kwargs(fit, "{}", "--max_rounds", "4")


def test_a_bool_is_a_switch():
    assert kwargs(fit, "{}", "--verbose")["verbose"] is True
    assert kwargs(fit, "{}", "--no-verbose")["verbose"] is False


def test_fields_of_a_dataclass_are_options_over_its_json_or_its_default():
    assert kwargs(fit, "{}", "--cfg.lr", "0.5")["cfg"] == Config(0.5)
    assert kwargs(fit, "{}", "--cfg", '{"name": "d"}', "--cfg.lr", "0.5")["cfg"] == Config(0.5, "d")


def test_negative_numbers_are_values():
    assert kwargs(fit, "{}", "-4")["depth"] == -4
    assert kwargs(fit, "{}", "--depth", "-4")["depth"] == -4


def test_what_follows_two_dashes_is_no_option():
    def say(text: str, n: int = 0): ...

    assert kwargs(say, "--n", "1", "--", "--loud") == {"text": "--loud", "n": 1}


def test_positional_only_variable_and_further_parameters_are_bound_as_python_would():
    bound, _ = call(everything, "1", "2", "3", "4", "--c", "5", "--rate", "0.5", "--other-rate=2")

    assert bound == Call((1, 2, 3, 4), {"c": 5, "rate": 0.5, "other_rate": 2.0})
    assert call(everything, "--a", "1", "--b", "2")[0] == Call((1, 2), {})


def test_the_functions_own_parameter_goes_before_an_option_of_mlfn():
    bound, values = call(clashing, "1", "--json", "a", "--on", "b", "-o", "7", "--follow")

    assert bound.kwargs == {"n": 1, "json": "a", "on": "b", "o": 7, "follow": True}
    assert values == {"options": None, "follow": None}  # theirs are written before the target
    assert kwargs(clashing, "-n", "1", "--o", "3") == {"n": 1, "o": 3}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "lacks 'data': give --data JSON, or the value alone"),
        (["{}", "1", "2"], "takes 2 values by position, and '2' is one more"),
        (["{}", "--dpeth", "1"], "did you mean '--depth'"),
        (["{}", "-x"], "no option '-x'"),
        (["{}", "4", "--depth", "5"], "--depth is given twice"),
    ],
)
def test_a_call_that_python_would_refuse_is_refused(args, words):
    with pytest.raises((click.UsageError, ParameterError)) as caught:
        call(fit, *args)

    text = caught.value.format_message() if isinstance(caught.value, click.UsageError) else str(caught.value)
    assert words in text


def test_a_further_option_without_a_value_is_refused():
    with pytest.raises(click.UsageError, match="--rate needs a value"):
        call(everything, "1", "2", "--rate")


def test_help_shows_the_doc_as_written_the_parameters_and_their_defaults():
    command = HandlerCommand(fit, Signature(fit, "fit"), own=own(), act=lambda call: None)

    shown = CliRunner().invoke(command, ["--help"]).output

    assert "fit [OPTIONS] DATA [DEPTH]" in shown
    assert "  Args:\n      data: what to fit.\n" in shown
    assert "Parameters of fit:" in shown
    assert "[default: 8]" in shown
    assert "[required]" in shown
    assert "--verbose / --no-verbose" in shown
    assert "--cfg.lr FLOAT" in shown


def test_what_the_run_fills_in_is_not_given():
    def summed(ctx: mlfn.Context, session: Session, first: int, *rest: int): ...

    signature = Signature(summed, "summed", {f"{__name__}.Session": "session"})
    got: list[Call] = []
    command = HandlerCommand(summed, signature, own=[], act=got.append)
    command.main(["1", "2", "3"], standalone_mode=False)

    assert got == [Call((1, 2, 3), {})]
    assert "session" not in CliRunner().invoke(command, ["--help"]).output.lower()


def test_an_earlier_call_fills_in_what_is_left_out():
    got: list[Call] = []
    command = HandlerCommand(
        fit,
        Signature(fit, "fit"),
        own=[],
        act=lambda call, **values: got.append(call),
        earlier=lambda: {"cfg": Config(9.0, "old")},
    )

    command.main(["--cfg.lr", "0.5"], standalone_mode=False)

    assert got == [Call((), {"cfg": Config(0.5, "old")})]
    assert "[required]" not in CliRunner().invoke(command, ["--help"]).output
