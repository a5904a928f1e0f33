"""What the kind spark becomes on Kubernetes: a ``SparkApplication``, of which the Spark operator makes a driver and executors. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlfn.backends.kinds.base import Manifest, Pod
from mlfn.backends.kinds.pods import image_of
from mlfn.spec.plan import Plan

ACCOUNT = "spark"
"""The driver's service account, which makes the executors' pods."""
_INSTALL = "helm install spark-operator spark-operator --repo https://kubeflow.github.io/spark-operator -n spark-operator --create-namespace"
_DEFAULT_MEMORY = "1g"  # Spark's own
_MAIN = "local:///mlfn/worker/mlfn.py"  # by its name Spark knows that it is Python; what the driver's pod runs is its command
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_LOGGING = "-Dlog4j2.configurationFile=jar:file:/mlfn/worker/mlfn.zip!/mlfn/backends/kinds/spark-log4j2.properties"
_DEPS = {"jars": "jars", "packages": "packages", "files": "files", "py_files": "pyFiles"}
# What the manifest has fields for, and the conf need not say again.
_FIELDS = (
    "spark.executor.",
    "spark.driver.",
    "spark.dynamicAllocation.",
    "spark.jars",
    "spark.files",
    "spark.submit.pyFiles",
)


def spark_application(options: Mapping[str, Any], properties: Mapping[str, str], plan: Plan) -> Manifest:
    """Return the application that runs a plan, of the options of its kind, also as `properties`; its driver's pod is the main one."""
    bounds = options["dynamic_allocation"]
    driver = {
        "cores": options["driver_cores"] or 1,
        "memory": options["driver_memory"] or _DEFAULT_MEMORY,
        # What is not Java's is the handler's.
        **({"memoryOverhead": f"{math.ceil(plan.mem / (1 << 20))}m"} if plan.mem else {}),
        **({"coreRequest": f"{round(plan.cpu * 1000)}m"} if plan.cpu else {}),
        "template": Pod("driver", account=ACCOUNT, resources={}),
    }
    executor = {
        "cores": options["executor_cores"] or 1,
        "memory": options["executor_memory"] or _DEFAULT_MEMORY,
        "deleteOnTermination": True,
        **({"instances": options["executors"] or 1} if bounds is None else {}),
        "template": Pod("executor", ("executor",), resources={}),
    }
    spec = {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": _spark_version(),
        "image": image_of(plan),
        "imagePullPolicy": "IfNotPresent",
        "mainApplicationFile": _MAIN,
        "sparkConf": _conf(options["conf"], properties),
        "deps": {name: list(options[option]) for option, name in _DEPS.items() if options[option]},
        "dynamicAllocation": bounds and _between(bounds, options["executors"]),
        # An attempt is an application: what is tried again is another one.
        "restartPolicy": {"type": "Never"},
        "driver": driver,
        "executor": executor,
    }
    return Manifest(
        "sparkoperator.k8s.io/v1beta2",
        "SparkApplication",
        "sparkapplications",
        {key: value for key, value in spec.items() if value},
        install=_INSTALL,
    )


def _conf(given: Mapping[str, str], properties: Mapping[str, str]) -> dict[str, str]:
    """Return what users have set themselves, and of the options what the manifest has no field for."""
    options = {name: value for name, value in properties.items() if not name.startswith(_FIELDS)}
    return {**options, **given, JAVA_OPTIONS: f"{_LOGGING} {given.get(JAVA_OPTIONS, '')}".strip()}


def _between(bounds: Sequence[int], first: int | None) -> dict[str, Any]:
    least, most = bounds
    return {"enabled": True, "initialExecutors": first or least, "minExecutors": least, "maxExecutors": most}


def _spark_version() -> str:
    """Return this machine's version of Spark, which the image will have too; a recent one where it has none."""
    try:
        return version("pyspark")
    except PackageNotFoundError:
        return "4.0.0"
