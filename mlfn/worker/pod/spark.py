"""Pods of a Spark application: what Spark asks of its image's entrypoint, so that an image needs none. Pure."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Mapping, Sequence

_BACKEND = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
_OPTIONS = {
    "driver-url": "DRIVER_URL",
    "executor-id": "EXECUTOR_ID",
    "cores": "EXECUTOR_CORES",
    "app-id": "APPLICATION_ID",
    "hostname": "EXECUTOR_POD_IP",
    "resourceProfileId": "RESOURCE_PROFILE_ID",
    "podName": "EXECUTOR_POD_NAME",
}


def driver(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable by which PySpark starts the application that `arguments`, Spark's own to a driver, describe."""
    properties = arguments[arguments.index("--properties-file") + 1]
    bind = f"spark.driver.bindAddress={environ['SPARK_DRIVER_BIND_ADDRESS']}"
    options = ("--deploy-mode", "client", "--properties-file", properties, "--conf", bind, "pyspark-shell")
    return {"PYSPARK_SUBMIT_ARGS": shlex.join(options)}


def executor(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command line of an executor, of which Spark's variables say the rest."""
    java = os.path.join(environ["JAVA_HOME"], "bin", "java") if environ.get("JAVA_HOME") else "java"
    options = [value for name, value in sorted(environ.items()) if name.startswith("SPARK_JAVA_OPT_")]
    given = [part for option, name in _OPTIONS.items() for part in (f"--{option}", environ[f"SPARK_{name}"])]
    classes = f"{environ['SPARK_CONF_DIR']}:{_home(environ)}/jars/*"
    return (java, *options, f"-Xmx{environ['SPARK_EXECUTOR_MEMORY']}", "-cp", classes, _BACKEND, *given)


def _home(environ: Mapping[str, str]) -> str:
    """Return the folder of Spark: the image's own, or that of the package pyspark."""
    if environ.get("SPARK_HOME"):
        return environ["SPARK_HOME"]
    package = importlib.util.find_spec("pyspark")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("kind='spark' needs an image with pyspark, or with SPARK_HOME set, and Java.")
    return package.submodule_search_locations[0]
