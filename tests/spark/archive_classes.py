"""Write an archive of the classes that Spark loads: half of the processor time until an application is there goes into them.

``python -m tests.spark.archive_classes FILE`` writes it, for ``SPARK_SUBMIT_OPTS=-XX:SharedArchiveFile=FILE``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from tests.kind_places import SparkOnLocal


def main(file: Path) -> None:
    """Run an application whose Java writes the archive at its end."""
    file.unlink(missing_ok=True)
    os.environ["SPARK_SUBMIT_OPTS"] = f"-XX:ArchiveClassesAtExit={file} -Xlog:disable"
    builder = SparkSession.builder.master("local[1]")
    for name, value in SparkOnLocal.kind.conf.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.range(10).selectExpr("sum(id)").collect()
    java = session.sparkContext._gateway.proc
    session.stop()
    java.stdin.close()  # it ends with its client
    java.wait()
    if not file.exists():
        sys.exit(f"Java wrote no archive of classes to {file}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
