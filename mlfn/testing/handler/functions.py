"""The functions that the cases call: each is served as it stands."""

# ruff: noqa: D101, D103
from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Literal

import mlfn
from mlfn.worker.context import Context


def init_context(context: Any) -> None:
    context.user_data.begun = getattr(context.user_data, "begun", 0) + 1
    context.user_data.pid = os.getpid()


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


@mlfn.function(kind="nuclio")
def typed(rows: list[list[float]], scale: float = 1.0) -> list[float]:
    """Add up each row.

    The sums are multiplied by `scale`.
    """
    return [sum(row) * scale for row in rows]


@mlfn.function(kind="nuclio")
def rich(
    point: Point,
    colour: Colour = Colour.RED,
    day: date | None = None,
    mode: Literal["a", "b"] = "a",
    *,
    tags: list[str] = [],  # noqa: B006
) -> dict[str, Any]:
    shown = day.isoformat() if day else None
    return {"x": point.x, "y": point.y, "colour": colour.name, "day": shown, "mode": mode, "tags": tags}


@mlfn.function(kind="nuclio")
def text(name: str) -> str:
    return f"Hello, {name}"


@mlfn.function(kind="nuclio")
def raw(data: bytes) -> bytes:
    return data[::-1]


@mlfn.function(kind="nuclio")
def value(what: str) -> Any:
    return {
        "none": None,
        "true": True,
        "list": [1, 2],
        "empty": [],
        "nan": math.nan,
        "zero": 0,
        "date": date(2026, 1, 2),
    }[what]


@mlfn.function(kind="nuclio")
async def later(seconds: float) -> float:
    import asyncio

    await asyncio.sleep(seconds)
    return seconds


@mlfn.function(kind="nuclio")
def streamed(n: int) -> Iterator[dict[str, int]]:
    for number in range(n):
        yield {"number": number}


@mlfn.function(kind="nuclio")
async def streamed_later(n: int) -> AsyncIterator[str]:
    for number in range(n):
        yield f"{number}\n"


@mlfn.function(kind="nuclio")
@mlfn.handler(outputs=["label", "score"])
def named(x: float) -> tuple[str, float]:
    return "high" if x > 1 else "low", x


@mlfn.function(kind="nuclio")
def anything(first: int, **others: int) -> dict[str, int]:
    return {"first": first, **others}


@mlfn.function(kind="nuclio")
def with_context(ctx: Context, loss: float) -> str:
    ctx.logger.info("the loss is %s", loss)
    ctx.log_metric("loss", loss)
    return ctx.name


@mlfn.function(kind="nuclio")
def failing(how: str = "raise") -> None:
    if how == "exit":
        sys.exit(3)
    raise ValueError("the secret reason")


@mlfn.function(kind="nuclio")
def unfit() -> Any:
    return object()


@mlfn.function(kind="nuclio")
def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@mlfn.function(kind="nuclio")
def classic(context: Any, event: Any) -> Any:
    return context.Response(
        body={
            "body": event.body.decode() if isinstance(event.body, bytes) else event.body,
            "type": event.content_type,
            "method": event.method,
            "path": event.path,
            "fields": event.fields,
            "header": event.get_header("x-colour"),
            "trigger": event.trigger.kind,
            "begun": context.user_data.begun,
            "size": event.size,
        },
        headers={"X-Made-By": "classic", "X-Nuclio-Filestream-Path": "/etc/passwd"},
        status_code=201,
    )


@mlfn.function(kind="nuclio")
def classic_value(context: Any, event: Any) -> Any:
    return {
        "str": "text",
        "bytes": b"\x00\xff",
        "dict": {"a": math.nan},
        "list": [{"a": 1}, {"b": 2}],
        "empty": [],
        "int": 7,
        "none": None,
        "status": (404, "not here"),
        "status_dict": (202, {"a": 1}),
        "response_list": context.Response(body=["a"]),
        "no_content": context.Response(status_code=204),
    }[event.fields["what"]]


@mlfn.function(kind="nuclio")
async def classic_later(context: Any, event: Any) -> Any:
    return {"body": event.body}


@mlfn.function(kind="nuclio")
def classic_failing(context: Any, event: Any) -> Any:
    raise ValueError("the secret reason")


@mlfn.function(kind="nuclio")
def classic_ids(context: Any, event: Any) -> Any:
    return event.id


@mlfn.function(kind="nuclio")
def classic_echo(context: Any, event: Any) -> Any:
    return event.body


def __getattr__(name: str) -> Any:
    if name != "table":
        raise AttributeError(name)
    import pandas as pd

    def table(frame: Any) -> Any:
        return frame.assign(a=frame["a"] * 2)

    table.__annotations__ = {"frame": pd.DataFrame, "return": pd.DataFrame}
    return mlfn.function(kind="nuclio")(table)
