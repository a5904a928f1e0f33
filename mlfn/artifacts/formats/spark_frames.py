"""Spark's DataFrames, as folders of parquet that the executors write; pandas reads them where there is no Spark."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

from mlfn.artifacts.formats.base import Packed, Stored, load


class SparkDataFramePacker:
    """A DataFrame of Spark; one of Spark in an application, and one of pandas elsewhere."""

    name = "spark-dataframe"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is a DataFrame of Spark."""
        return is_spark_frame(value)

    def pack(self, value: Any, /) -> Packed:
        """Have the executors write it, one file for each partition; where they do not share the driver's disk, the driver does."""
        if value.isStreaming:
            raise TypeError("it is a stream, which has no end: write it to a sink, and return where that is")
        folder = tempfile.mkdtemp(prefix="mlfn-")
        parts = Path(folder, "parts")
        try:
            if _is_disk_shared(value.sparkSession):
                value.write.parquet(parts.as_uri())
                _keep_parts(parts)
            else:
                parts.mkdir()
                load("pyarrow.parquet").write_table(value.toArrow(), parts / "part-00000.parquet")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        packed = Packed(
            self.name, "pyspark.sql.DataFrame", content=parts, size=sum(part.stat().st_size for part in parts.iterdir())
        )
        weakref.finalize(packed, shutil.rmtree, folder, ignore_errors=True)  # the store has a copy by then
        return packed

    def unpack(self, stored: Stored, /) -> Any:
        """Read the folder, by the application that this process is the driver of, else by pandas."""
        session = active_session()
        if session is not None and _is_disk_shared(session):
            return session.read.parquet(stored.file.as_uri())
        if session is not None:
            return session.createDataFrame(load("pyarrow.parquet").read_table(stored.file))
        load("pyarrow")
        return load("pandas").read_parquet(stored.file, engine="pyarrow")


def is_spark_frame(value: Any) -> bool:
    """Return whether a value is a DataFrame of Spark; without Spark there is none."""
    kind = getattr(sys.modules.get("pyspark.sql"), "DataFrame", None)
    return kind is not None and isinstance(value, kind)


def active_session() -> Any:
    """Return the session of the application that this process is the driver of; None where there is none."""
    sessions = getattr(sys.modules.get("pyspark.sql"), "SparkSession", None)
    return None if sessions is None else sessions.getActiveSession()


def as_frame_of(value: Any, annotation_name: str | None) -> Any:
    """Return a DataFrame of pandas as one of Spark, or the reverse, where that is what the annotation asks for."""
    if annotation_name == "pandas.DataFrame" and is_spark_frame(value):
        return value.toPandas()
    is_pandas = type(value) is getattr(sys.modules.get("pandas"), "DataFrame", None)
    if annotation_name == "pyspark.DataFrame" and is_pandas and (session := active_session()) is not None:
        return session.createDataFrame(value)
    return value


def _is_disk_shared(session: Any) -> bool:
    """Return whether executors see the driver's files: pods do not."""
    return not session.sparkContext.master.startswith("k8s:")


def _keep_parts(folder: Path) -> None:
    """Leave the parts alone, named by their order: the same rows are then the same artifact."""
    parts = sorted(path for path in folder.iterdir() if path.name.startswith("part-"))
    for path in folder.iterdir():
        if path not in parts:
            path.unlink()
    for number, path in enumerate(parts):
        path.rename(folder / f"part-{number:05}.parquet")
