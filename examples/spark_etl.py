"""Clean raw orders with Spark, keep them as parquet, and report on them: two functions, one chained to the other.

You learn: a `SparkSession` parameter is filled in by the run; a Spark DataFrame is an output that the executors write as
parquet, and the input of another run; `share=True` starts one application for all runs of a sweep. It needs a Java and
``pip install 'mlfn[spark]'``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, to_date
from pyspark.sql.functions import sum as sum_of

import mlfn


@mlfn.function(kind=mlfn.Spark(executors=2, conf={"spark.sql.shuffle.partitions": 2}))
@mlfn.handler(outputs=["orders", "refused"])
def clean(spark: SparkSession, folder: str) -> tuple[DataFrame, int]:
    raw = spark.read.json(folder)
    orders = raw.where("price > 0").withColumn("day", to_date("day")).dropDuplicates(["id"])
    return orders, raw.where("price <= 0").count()


@mlfn.function(kind=mlfn.Spark(share=True, conf={"spark.sql.shuffle.partitions": 2}))
def turnover(spark: SparkSession, orders: DataFrame, day: str) -> float:
    return float(orders.where(col("day") == day).agg(sum_of("price")).first()[0])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2, 3):
            orders = [{"id": 10 * number + n % 4, "day": f"2024-05-0{number}", "price": n - 1.0} for n in range(6)]
            Path(folder, f"{number}.json").write_text("\n".join(map(json.dumps, orders)))
        cleaned = clean.submit(folder)
        print(f"{cleaned.outputs['refused']} orders refused; the others lie in {cleaned.outputs.orders.path}")

        days = [f"2024-05-0{number}" for number in (1, 2, 3)]
        report = turnover.grid(day=days).submit(orders=cleaned.outputs.orders)
        for one, total in zip(days, (child.result(300) for child in report), strict=True):
            print(f"{one}: {total}")


if __name__ == "__main__":
    main()
