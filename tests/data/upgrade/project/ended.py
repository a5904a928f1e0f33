"""Runs of many kinds of code and values, all over; a script, so that some of the code is of ``__main__``."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from shop import prices
from shop.orders import ClosedError, Colour, NoPriceError, NoStockError, Order, Point, Service, ShortShelf
from shop.prices import RULES, with_tax

import mlfn
from mlfn import Context, Pruned

SPACES = {"depth": mlfn.randint(1, 9), "rate": mlfn.loguniform(1e-3, 1), "kind": mlfn.choice(["a", "b"])}


class Basket:
    """Of ``__main__``: no reader can import it."""

    def __init__(self, orders: list[Order]) -> None:
        self.orders = orders

    def count(self) -> int:
        return len(self.orders)


class EmptyBasketError(Exception):
    """Of ``__main__``, with an attribute that is set after it was made."""


class NotReadyError(Exception):
    pass


# -- values --------------------------------------------------------------------------------------------------


@mlfn.function
@mlfn.handler(outputs=["values", "moment"])
def plain(n: int = 3) -> tuple[dict[str, Any], datetime]:
    values = {
        "n": n,
        "items": (1, None, 2.5, float("inf")),
        "set": {1, 2},
        "bytes": b"raw",
        1: Decimal("1.50"),
        "path": Path("no/such/file"),
    }
    return values, datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=1)))


@mlfn.function
@mlfn.handler(outputs=["text", "raw"])
def long_values() -> tuple[str, bytes]:
    return "a line of text\n" * 2000, bytes(20_000)


@mlfn.function
@mlfn.handler(outputs=["order"])
def ordered(number: int, colour: Colour = Colour.BLUE) -> Order:
    return Order(number, colour, Point(1, number))


@mlfn.function
def filled(*numbers: int) -> Basket:
    return Basket([Order(number) for number in numbers])


@mlfn.function
def written(ctx: Context) -> Path:
    folder = Path(os.environ["MLFN_DATA"]).parent / "scratch" / ctx.run_id
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "one.txt").write_text("one")
    (folder / "note.txt").write_text("a note\n")
    ctx.log_artifact("all", folder)
    ctx.log_artifact("short", "a short text")
    return folder / "note.txt"


@mlfn.function
@mlfn.handler(outputs=["array", "frame", "series"])
def tables(prices: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame, pd.Series]:
    return np.arange(6).reshape(2, 3), prices[["price"]], prices["price"]


@mlfn.function
def own_values() -> dict[str, Any]:
    return {
        "retry": mlfn.Retry(2, on=[NoStockError]),
        "space": mlfn.uniform(0, 1),
        "unset": mlfn.UNSET,
        "item": mlfn.data("prices.csv"),
        "error": mlfn.errors.RunLostError("it is gone"),
        "service": Service.GIFT | Service.EXPRESS,
    }


# -- code ----------------------------------------------------------------------------------------------------


def priced_by(factor: float) -> Callable[[float], float]:
    def priced(price: float) -> float:
        return factor * with_tax(price)

    return priced


priced = mlfn.function(name="priced")(priced_by(10))


@mlfn.function
def by_module(price: float) -> float:
    return prices.with_tax(price) + prices.RATE


@mlfn.function
def by_table(price: float) -> dict[str, float]:
    return {name: rule(price) for name, rule in sorted(RULES.items())}


@mlfn.function
def imports_late(price: float) -> float:
    from shop.late import four_times

    return four_times(price)


@mlfn.function
def shelved(*numbers: int) -> int:
    shelf = ShortShelf()
    shelf.items += [Order(number) for number in numbers]
    return shelf.room()


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        return self.factor * value

    @mlfn.function(name="method")
    def fit(self, value: int) -> int:
        return self(value) + 1


scaled = mlfn.function(name="scaled")(Scaler(3))
averaged = mlfn.function(name="averaged")(statistics.mean)


@mlfn.function
async def waits(ctx: mlfn.Context, seconds: float = 0.01) -> str:
    await asyncio.sleep(seconds)
    return ctx.name


@mlfn.function(
    cpu=1,
    env={"SHOP_MODE": "fast"},
    labels={"team": "risk", "tier": "gold"},
    secrets=["SHOP_TOKEN", mlfn.Secret("SHOP_KEY", env="SHOP_KEY_VALUE")],
    timeout="5m",
    retry=mlfn.Retry(2, delay=0.0, on=[NoStockError, "oom"]),
    node=mlfn.Node(spot="allow"),
    kind=mlfn.Job(),
    project="risk",
)
def declared(ctx: mlfn.Context) -> list[object]:
    print("token", ctx.secret("SHOP_TOKEN"))
    return [os.environ["SHOP_MODE"], len(ctx.secret("SHOP_TOKEN")), len(os.environ["SHOP_KEY_VALUE"])]


GRID = ordered.grid(number=[1, 2, 3])


@mlfn.function
def mentions(choice: Any = mlfn.UNSET) -> list[object]:
    """Name, besides a declared function, what only mlfn itself can give back."""
    return [len(GRID), sorted(SPACES), declared.__class__.__name__, choice is mlfn.UNSET, ordered(7).number]


@mlfn.function
def looks(run: str) -> list[object]:
    """Name submodules of mlfn by chance: as attributes of what it handles."""
    found = mlfn.run(run)
    return [found.outputs["order"].number, str(found.state), issubclass(mlfn.errors.RunLostError, mlfn.MlfnError)]


@mlfn.function
def takes(order: Order, bare: Any = None) -> int:
    return order.number + (bare or 0)


# -- ends ----------------------------------------------------------------------------------------------------


@mlfn.function
@mlfn.handler(outputs=["order"])
def no_stock(item: str) -> Order:
    raise NoStockError(item, 2)


@mlfn.function
def empty_basket() -> None:
    error = EmptyBasketError("nothing in it")
    error.baskets = [1, 2]  # type: ignore[attr-defined]
    raise error


@mlfn.function
def closed() -> None:
    raise ClosedError("closed on Sunday")


@mlfn.function
def no_price() -> None:
    raise NoPriceError("pen")


@mlfn.function
def missing_key() -> None:
    {}["key"]


@mlfn.function
def exits() -> None:
    sys.exit(3)


@mlfn.function
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@mlfn.function(timeout=0.3)
def too_slow() -> None:
    time.sleep(60)


@mlfn.function
def pruned() -> None:
    raise Pruned("not worth it")


@mlfn.function
def cancelled(begun: str) -> None:
    Path(begun).touch()
    time.sleep(60)


@mlfn.function(retry=mlfn.Retry(3, delay=0.0, on=[NotReadyError]))
def flaky(ctx: Context) -> int:
    print(f"attempt {ctx.attempt}")
    if ctx.attempt < 3:
        raise NotReadyError(f"not at attempt {ctx.attempt}")
    return ctx.attempt


# -- reports -------------------------------------------------------------------------------------------------


@mlfn.function
def reports(ctx: Context, epochs: int = 3) -> int:
    for epoch in ctx.progress(range(epochs), text="epochs"):
        ctx.log_metric("loss", 1 / (epoch + 1), step=epoch)
        print(f"epoch {epoch}", flush=True)
    ctx.log_result("accuracy", 0.75)
    ctx.log_constraint("memory", -1.0)
    print("to stderr", file=sys.stderr)
    return epochs


@mlfn.function
def folds(ctx: Context) -> int:
    for depth in (4, 8):
        with ctx.child(depth=depth) as child:
            child.log_metric("loss", 1 / depth, step=0)
            child.log_result("score", depth)
            child.mark_best()
    return 2


@mlfn.function(project="risk")
@mlfn.handler(outputs=["model", "score"])
def trained(depth: int, rows: int = 10) -> tuple[dict[str, int], float]:
    return {"depth": depth, "rows": rows}, depth / 10


def main() -> None:
    first = ordered.submit(7)
    parted = no_stock.submit("pen")
    ended = [first, parted, ordered.on("inline").submit(7)]
    for place in ("local", "inline"):
        ended += [
            plain.on(place).submit(),
            long_values.on(place).submit(),
            filled.on(place).submit(1, 2),
            written.on(place).submit(),
            tables.on(place).submit("prices.csv"),
            own_values.on(place).submit(),
            priced.on(place).submit(4),
            by_module.on(place).submit(4),
            by_table.on(place).submit(4),
            imports_late.on(place).submit(4),
            shelved.on(place).submit(1),
            scaled.on(place).submit(5),
            Scaler(2).fit.on(place).submit(5),
            averaged.on(place).submit([1, 2, 3, 6]),
            waits.on(place).submit(),
            declared.on(place).submit(),
            mentions.on(place).submit(),
            takes.on(place).submit(first.outputs.order),
            takes.on(place).submit(Order(5, Colour.RED), bare=3),
            reports.on(place).submit(epochs=3),
            folds.on(place).submit(),
            flaky.on(place).submit(),
            no_price.on(place).submit(),
            missing_key.on(place).submit(),
            empty_basket.on(place).submit(),
            closed.on(place).submit(),
            pruned.on(place).submit(),
        ]
        first.wait()
        ended.append(looks.on(place).submit(first.id))
    ended += [exits.submit(), killed.submit(), too_slow.submit(), takes.submit(parted.outputs.order)]
    called_off = cancelled.submit("../ledgers/cancelled")
    while not Path("../ledgers/cancelled").exists():
        time.sleep(0.01)
    called_off.cancel()
    model = trained.submit(4)
    model.wait()
    model.promote("prod")
    mlfn.wait(ended)
    for run in ended:
        run.exception()


if __name__ == "__main__":
    main()
