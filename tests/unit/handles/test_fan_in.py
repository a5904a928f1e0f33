"""Outputs of runs within a parameter, and a whole sweep as one: awaited, checked, and named when they fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mlfn
from mlfn.errors import InputNotFoundError, NotFoundError, ParameterError, ParentFailedError

pytestmark = pytest.mark.parametrize("place", ["inline", "local"])


@mlfn.function
@mlfn.handler(outputs=["v"])
def plus(x: int, by: int = 1) -> int:
    if x < 0:
        raise ValueError("negative")
    return x + by


@mlfn.function
@mlfn.handler(outputs=["text"])
def word(x: int) -> str:
    return "w" * x


@mlfn.function
def total(values: list[int]) -> int:
    return sum(values)


@mlfn.function
def several(*xs: int, **more: int) -> int:
    return sum(xs) + sum(more.values())


@mlfn.function
def same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Config:
    depth: int
    others: tuple[int, ...] = ()


@mlfn.function
def configured(config: Config) -> int:
    return config.depth + sum(config.others)


@mlfn.function
def rows(table: pd.DataFrame) -> int:
    return len(table)


def test_outputs_in_a_list_arrive_as_values(place: str) -> None:
    runs = [plus.on(place).submit(x) for x in range(3)]

    joined = total.on(place).submit([run.outputs.v for run in runs])

    assert joined.result(60) == 6
    assert [item.run for item in joined.params["values"]] == runs


def test_outputs_in_mappings_tuples_and_dataclasses_arrive(place: str) -> None:
    one = plus.on(place).submit(0).outputs.v

    value = {"a": (one, [2]), "b": Config(one, (one, 3))}

    assert same.on(place).submit(value).result(60) == {"a": (1, [2]), "b": Config(1, (1, 3))}


def test_a_mapping_with_an_output_becomes_the_dataclass(place: str) -> None:
    one = plus.on(place).submit(0).outputs.v

    assert configured.on(place).submit({"depth": one, "others": (one,)}).result(60) == 2  # type: ignore[arg-type]


def test_outputs_among_args_arrive(place: str) -> None:
    one = plus.on(place).submit(0).outputs.v

    assert several.on(place).submit(one, 2, more=one).result(60) == 4


def test_a_file_in_a_list_is_read(place: str, tmp_path: Path) -> None:
    Path(tmp_path, "a.csv").write_text("x\n1\n")

    [frame] = same.on(place).submit([mlfn.data(tmp_path / "a.csv")]).result(60)

    assert frame["x"].tolist() == [1]


def test_a_file_in_a_list_must_be_there(place: str) -> None:
    with pytest.raises(InputNotFoundError, match=r"same\(value\[0\]=...\) names an input that is not there"):
        same.on(place).submit([mlfn.data("missing.csv")])


def test_a_map_arrives_as_the_list_of_its_results(place: str) -> None:
    assert total.on(place).submit(plus.on(place).map([1, 2]).submit()).result(60) == 5


def test_a_sweep_arrives_as_what_its_best_child_returned(place: str) -> None:
    best = plus.on(place).grid(x=[1, 5, 3]).with_options(select="max.v").submit()

    assert same.on(place).submit({"best": best}).result(60) == {"best": 6}


def test_outputs_in_a_list_are_swept(place: str) -> None:
    one = plus.on(place).submit(0).outputs.v

    sweep = total.on(place).grid(values=[[one], [one, one]]).submit()

    assert sweep.result(60) == [1, 2]
    assert str(sweep.table()["values"][0][0]) == f"<output 'v' of run {one.run.id[:8]}>"


def test_a_value_that_does_not_fit_names_its_run(place: str) -> None:
    good, bad = plus.on(place).submit(0), word.on(place).submit(2)

    with pytest.raises(
        ParameterError,
        match=rf"values=\[1, 'ww'\]\) does not fit list\[int\]: \[1\].* output 'text' of word \({bad.id[:8]}",
    ):
        total.on(place).submit([good.outputs.v, bad.outputs.text]).result(60)
    with pytest.raises(ParameterError, match=r"plus\(x='ww'\) does not fit int"):
        plus.on(place).submit(bad.outputs.text).result(60)
    with pytest.raises(ParameterError, match=r"several\(xs\[0\]='ww'\) does not fit int"):
        several.on(place).submit(bad.outputs.text).result(60)


def test_a_failed_member_is_named(place: str) -> None:
    failed = plus.on(place).submit(-1)

    with pytest.raises(
        ParentFailedError, match=rf"plus \({failed.id[:8]}\), which failed: ValueError: negative"
    ) as seen:
        total.on(place).submit([plus.on(place).submit(1).outputs.v, failed.outputs.v]).result(60)
    assert isinstance(seen.value.__cause__, ValueError)


def test_a_failed_child_of_a_map_is_named(place: str) -> None:
    sweep = plus.on(place).map([1, -1]).submit()

    with pytest.raises(ParentFailedError, match=r"and child 2 failed: ValueError: negative; `mlfn show") as seen:
        total.on(place).submit(sweep).result(60)
    assert isinstance(seen.value.__cause__, ValueError)


def test_what_stands_for_no_value_is_refused(place: str) -> None:
    run = plus.on(place).submit(1)

    with pytest.raises(ParameterError, match=r"total\(values\[0\]=...\) got .* a whole run: pass an output of it"):
        total.on(place).submit([run])  # type: ignore[list-item]
    with pytest.raises(ParameterError, match=r"all outputs of a run: pass one of them, as in run\.outputs\.v"):
        same.on(place).submit(run.outputs)
    with pytest.raises(ParameterError, match=r"only described: pass what its submit\(\) returns"):
        same.on(place).submit(plus.map([1]))
    run.wait(60)
    with pytest.raises(NotFoundError, match=r"values\[0\]=...\) got output 'w'"):
        total.on(place).submit([run.outputs.w])


def test_a_run_with_outputs_in_a_list_runs_again(place: str) -> None:
    joined = total.on(place).submit([plus.on(place).submit(1).outputs.v])

    assert joined.result(60) == joined.rerun().result(60) == 2


def test_a_file_that_a_run_gave_is_read_where_a_table_is_meant(place: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["file"])
    def write() -> Path:
        Path("rows.csv").write_text("x\n1\n2\n")
        return Path("rows.csv")

    assert rows.on(place).submit(write.on(place).submit().outputs.file).result(60) == 2
