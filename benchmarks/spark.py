"""``python benchmarks/spark.py``: a run of kind spark beside the same program by ``spark-submit``, in turns, the middle of each.

It needs PySpark and a Java. By hand is from the start of spark-submit to its end; ours from `submit` to the result.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyspark

import mlfn

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TURNS = 3
PROGRAM = """
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
assert spark.range(1000).selectExpr("sum(id)").first()[0] == 499500
spark.stop()
"""


@mlfn.function(kind=mlfn.Spark(executors=2))
def alone(spark: SparkSession, turn: int) -> int:
    return int(spark.range(1000).selectExpr("sum(id)").first()[0])


shared = alone.with_options(kind=mlfn.Spark(executors=2, share=True), name="shared")


def by_hand(program: Path) -> None:
    home = Path(pyspark.__file__).parent
    command = [str(home / "bin" / "spark-submit"), "--master", "local[2]", str(program)]
    environ = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    subprocess.run(command, env=environ, check=True, capture_output=True)


def seconds(function: mlfn.Function[..., int, int], turn: int) -> float:
    begun = time.perf_counter()
    assert function.submit(turn=turn).result(600) == 499500
    return time.perf_counter() - begun


def main() -> None:
    """Print seconds and ratios as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFN_DATA"] = str(Path(folder, "data"))
        program = Path(folder, "program.py")
        program.write_text(PROGRAM)
        seconds(shared, 0)  # starts the application
        taken: dict[str, list[float]] = {"by hand": [], "alone": [], "shared": []}
        for turn in range(1, TURNS + 1):
            begun = time.perf_counter()
            by_hand(program)
            taken["by hand"].append(time.perf_counter() - begun)
            taken["alone"].append(seconds(alone, turn))
            taken["shared"].append(seconds(shared, turn))
        middle = {name: statistics.median(found) for name, found in taken.items()}
        ratios = {f"spark_{name}_ratio": middle[name] / middle["by hand"] for name in ("alone", "shared")}
        print(json.dumps({"seconds": middle, **ratios}))


if __name__ == "__main__":
    main()
