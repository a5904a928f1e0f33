"""Handlers of the tests of Spark, and functions that Spark calls."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import udf

import mlfn
from tests.kind_places import SparkOnLocal

QUICK = dict(SparkOnLocal.kind.conf)
PATIENCE = 150.0  # seconds within which an application has started and a run has ended, on a machine with other work
alone = mlfn.function(kind=mlfn.Spark(executors=2, conf=QUICK))
shared = mlfn.function(kind=mlfn.Spark(executors=2, conf=QUICK, share=True))


class NoPriceError(Exception):
    """An exception of the user's own."""


def price(item):  # type: ignore[no-untyped-def]  # PySpark warns of hints that it does not know
    if item > 2:
        raise NoPriceError(f"item {item} has no price")
    return 10 * item


def priced(spark: SparkSession, items: int) -> DataFrame:
    return spark.range(items).select("id", udf(price, "long")("id").alias("price"))


@shared
def total(spark: SparkSession, items: int) -> tuple[int, str, int]:
    application = spark.sparkContext.applicationId
    return priced(spark, items).selectExpr("sum(price)").first()[0], application, os.getpid()


@shared
def leaves_much(spark: SparkSession, items: int) -> tuple[list[str], str, bool]:
    """Return what earlier runs of it have left, and leave the same."""
    views = [table.name for table in spark.catalog.listTables()]
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    found = SparkSession.builder.getOrCreate() is spark
    spark.range(items).cache().createOrReplaceTempView("left")
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    return views, str(partitions), found


@shared
def unresolved(spark: SparkSession) -> None:
    spark.range(2).select("nowhere").collect()


@alone
@mlfn.handler(outputs=["prices", "master"])
def price_list(spark: SparkSession, items: int) -> tuple[DataFrame, str]:
    print("in the driver")
    return priced(spark, items).repartition(3), spark.sparkContext.master


@shared
def describe(spark: SparkSession, frame: DataFrame) -> tuple[bool, list[tuple[int, int]], pd.DataFrame]:
    rows = [(row.id, row.price) for row in frame.orderBy("id").collect()]
    return isinstance(frame, DataFrame), rows, frame.orderBy("id").toPandas()


@mlfn.function
def in_pandas(frame: pd.DataFrame) -> list[int]:
    return sorted(frame["price"].tolist())


@mlfn.function
def pandas_prices() -> pd.DataFrame:
    return pd.DataFrame({"id": [7], "price": [70]})


@mlfn.function(
    kind=mlfn.Spark(conf={**QUICK, "spark.master": "local-cluster[2,1,512]", "spark.executor.memory": "512m"})
)
def in_executors(spark: SparkSession, folder: str) -> list[int]:
    """Wait in two executors of processes of their own for a sign, and return the numbers that they were given."""

    def wait(numbers):  # type: ignore[no-untyped-def]
        Path(folder, f"begun-{os.getpid()}").touch()
        while not Path(folder, "over").exists():
            time.sleep(0.05)
        yield from numbers

    return sorted(spark.sparkContext.parallelize(range(4), 2).mapPartitions(wait).collect())


@shared
def waits(spark: SparkSession, folder: str) -> None:
    Path(folder, "begun").write_text(str(os.getpid()))
    while not Path(folder, "over").exists():
        spark.range(10).count()
        time.sleep(0.05)
