"""Names of functions, outputs and metrics in any script, from the declaration to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import OptionError, ParameterError
from mlfn.spec.values import is_name

PLACES = ["inline", "local"]


@mlfn.function
@mlfn.handler(outputs=["größe", "точность"])
def обучить(größe: Any, ctx: mlfn.Context) -> tuple[Any, float]:  # noqa: PLC2401
    ctx.log_metric("損失", 0.5)
    ctx.log_artifact("रिपोर्ट", "text")
    return größe, 0.75


@pytest.mark.parametrize("place", PLACES)
def test_names_of_any_script_go_through_a_run(place: str) -> None:
    run = обучить.on(place).submit(b"x" * 20_000)

    assert run.result(timeout=60) == (b"x" * 20_000, 0.75)
    assert run.name == "обучить" and list(mlfn.runs(name="обучить")) == [run]
    assert run.outputs["точность"] == 0.75 and run.metrics["損失"] == 0.5
    assert Path(run.artifacts["रिपोर्ट"].path).read_text() == "text"
    assert run.promote("лучший").run == mlfn.get_function("обучить:лучший").run


def test_a_sweep_selects_by_them() -> None:
    sweep = обучить.on("inline").grid(größe=[1, 2]).with_options(select="max.größe").submit()
    sweep.wait()

    assert sweep.best.iteration == 2


def test_what_a_folder_cannot_be_called_is_no_name() -> None:
    assert is_name("a" * 128, signs="_-.", first="_") and not is_name("a" * 129, signs="_-.", first="_")
    assert is_name("損" * 80, signs="_-.", first="_") and not is_name("損" * 81, signs="_-.", first="_")
    for text in ("", ".a", "-a", "a/b", "a b", "..", "a\0", "a\udcff", "a\n", "a\u202e", None, 3):
        assert not is_name(text, signs="_-.", first="_")


def test_where_ascii_is_meant_the_message_says_so() -> None:
    with pytest.raises(OptionError, match="of ASCII letters, digits and '_'"):
        mlfn.function(env={"größe": "1"})
    with pytest.raises(OptionError, match="letters and digits of any script"):
        mlfn.function(name="no good")
    with pytest.raises(ParameterError, match="letters and digits of any script"):
        mlfn.context().log_result("no good", 1)
