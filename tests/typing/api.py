"""What a type checker knows of the public API; held by mypy and pyright, not run.

Each ignored error must be one for both of them: an ignore that hides nothing is an error itself, so a check that gets
lost is noticed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import functools
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import pandas as pd
from typing_extensions import assert_type

import mlfn
from mlfn import Context, Function, Run


# -- a function declared bare
@mlfn.function
def train(frame: pd.DataFrame, depth: int = 8, *, lr: float = 0.1) -> tuple[str, float]:
    return "model", depth * lr


frame = pd.DataFrame()
assert_type(train(frame, depth=4), tuple[str, float])
assert_type(train.submit(frame), Run[tuple[str, float]])
assert_type(train.submit(frame, 4, lr=0.2).result(), tuple[str, float])
train.submit(frame, lr=1)

train.submit()  # type: ignore[call-arg]
train.submit(frame, "4")  # type: ignore[arg-type]
train.submit(frame, depth="4")  # type: ignore[arg-type]
train.submit(frame, dept=4)  # type: ignore[call-arg]
train.submit(frame, 4, 0.2)  # type: ignore[call-arg]
train.submit("iris.csv")  # type: ignore[arg-type]
train(frame, depth=None)  # type: ignore[arg-type]
train.plan(frame, depth="4")  # type: ignore[arg-type]

# -- data() and outputs of other runs go anywhere
train.submit(mlfn.data("iris.csv"), depth=4)
train.submit(mlfn.data(Path("iris.csv")))
train.submit(mlfn.data(3))  # type: ignore[arg-type]
train.submit(train.submit(frame).outputs["return"], train.submit(frame).outputs.depth)
assert_type(train.plan(frame), str)
assert_type(train.hash, str)
assert_type(train.spec, dict[str, Any])


# -- declared with options, below or above a handler
@mlfn.function(cpu=2, mem="4Gi", kind=mlfn.Job(fresh=True), retry=mlfn.Retry(3))
@mlfn.handler(outputs=["double"])
def below(x: int) -> int:
    return 2 * x


@mlfn.handler(outputs=["double"])
@mlfn.function(cpu=2)
def above(x: int) -> int:
    return 2 * x


@mlfn.handler
def plain(x: int) -> int:
    return x


assert_type(below.submit(1).result(), int)
assert_type(above.submit(1).result(timeout=3), int)
assert_type(plain(1), int)
below.submit("1")  # type: ignore[arg-type]
above.submit("1")  # type: ignore[arg-type]
mlfn.handler(outputs=3)  # type: ignore[call-overload]
mlfn.Job(fresh="yes")  # type: ignore[arg-type]
mlfn.Job(frsh=True)  # type: ignore[call-arg]

# -- other functions of it keep the types
assert_type(below.with_options(cpu=4).submit(1).result(), int)
assert_type(below.on("inline").submit(1).result(), int)
below.with_options(cpu=4).submit("1")  # type: ignore[arg-type]
below.on("inline").submit(y=1)  # type: ignore[call-arg]


# -- async
@mlfn.function
async def fetch(url: str) -> bytes:
    return url.encode()


@mlfn.function(timeout="10m")
async def fetch_later(url: str) -> bytes:
    return await fetch(url)


a_plain_call: Coroutine[Any, Any, bytes] = fetch("a")
assert_type(fetch.submit("a").result(), bytes)
assert_type(fetch_later.submit("a").result(), bytes)
assert_type(fetch_later.submit("a").id, str)
fetch.submit(3)  # type: ignore[arg-type]


async def cell() -> bytes:
    assert_type(await fetch("a"), bytes)
    return await fetch.submit("a")


# -- a context that comes first is no part of what the caller passes
@mlfn.function
def report(ctx: Context, epochs: int = 3) -> float:
    for epoch in ctx.progress(range(epochs)):
        assert_type(epoch, int)
        ctx.log_metric("loss", 1.0, step=epoch)
    assert_type(ctx.secret("S3_KEY"), str)
    assert_type(ctx.params, Mapping[str, Any])
    with ctx.child(depth=4) as child, child.child(fold=1) as part:
        part.log_metric("loss", 1.0)
    assert_type(child.mark_best(), None)
    assert_type(ctx.mark_best, Any)  # type: ignore[attr-defined]
    ctx.log_metric("loss", "low")  # type: ignore[arg-type]
    return 0.0


@mlfn.function(cpu=1)
async def report_later(ctx: Context, epochs: int = 3) -> float:
    return 0.0


assert_type(report(epochs=2), float)
assert_type(report.submit(2).result(), float)
assert_type(report_later.submit(epochs=2).result(), float)
report.submit(mlfn.context())  # type: ignore[arg-type]
report.submit(epoch=2)  # type: ignore[call-arg]


# -- what else can be declared
class Scale:
    def __call__(self, x: int) -> int:
        return x


assert_type(mlfn.function(name="scale")(Scale()).submit(1).result(), int)
assert_type(mlfn.function(Scale()).submit(1).result(), int)
named: Function[..., int, int] = mlfn.function(name="size")(lambda x: len(str(x)))
doubled = mlfn.function(name="double")(lambda x: 2 * x + x / 2 - x**2)
assert_type(doubled.submit(3).result(), Any)
assert_type(mlfn.function(functools.partial(plain, 1))(), int)
mlfn.function(3)  # type: ignore[call-overload]


# -- what is declared by what it can do keeps its type
@mlfn.function
def total(values: Iterable[int]) -> int:
    return sum(values)


@mlfn.function
def half(value: SupportsFloat) -> float:
    return float(value) / 2


assert_type(total.submit([1]).result(), int)
total.submit(3)  # type: ignore[arg-type]
half.submit("a")  # type: ignore[arg-type]


# -- runs
run: Run[int] = below.submit(1)
assert_type(run.id, str)
assert_type(run.exception(), BaseException | None)
assert_type(run.wait(1), bool)
assert_type(run.cancel(), bool)
assert_type(run.rerun(x=2), Run[int])
assert_type(run.logs(), str)
assert_type(run.logs(follow=True), Iterator[str])
assert_type(run.outputs["double"], Any)
assert_type(run.outputs.double, Any)
assert_type(run.metrics["loss"], float)
assert_type(mlfn.run("3f2a91"), Run[Any])
assert_type(mlfn.wait([run]), tuple[list[Run[Any]], list[Run[Any]]])
for done in mlfn.as_completed([run]):
    assert_type(done, Run[int])
for listed in mlfn.runs(project="fraud", state="failed", label={"team": "risk"}, limit=20):
    assert_type(listed, Run[Any])
assert_type(mlfn.runs()[0], Run[Any])
assert_type(mlfn.runs()[1:], mlfn.Runs)
mlfn.runs(limit="20")  # type: ignore[arg-type]
run.result("soon")  # type: ignore[arg-type]


# -- methods
class Model:
    @mlfn.function
    def shifted(self, x: int) -> int:
        return x


assert_type(Model.shifted.submit(Model(), 1).result(), int)
assert_type(Model().shifted.submit(1).result(), int)
assert_type(Model().shifted(1), int)
Model().shifted("1")  # type: ignore[arg-type]


# -- a first parameter that takes anything is not taken for the context
@mlfn.function
def same(value: object, depth: int = 1) -> str:
    return str(value)


@mlfn.function(cpu=1)
def same_any(value: Any, depth: int = 1) -> str:
    return str(value)


assert_type(same.submit(3, depth=2).result(), str)
same_any.submit(value=3, depth=2)
same_any(3, 2)
