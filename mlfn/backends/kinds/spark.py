"""A Spark application, started by ``spark-submit``: the process that calls the handler is its driver."""

from __future__ import annotations

import functools
import itertools
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mlfn.backends.kinds.base import Launch, Pooled
from mlfn.backends.kinds.spark_application import JAVA_OPTIONS, spark_application
from mlfn.backends.places.base import Capabilities
from mlfn.errors import MissingExtraError, OptionError, PlaceError, RunLostError
from mlfn.host.memory import without_memory_limit
from mlfn.spec.plan import Plan
from mlfn.spec.values import option_values
from mlfn.worker.task import Extras, Task

_MEMORY = re.compile(r"(\d+)([kmgt])(?:i?b?)", re.IGNORECASE)
_LISTS = ("jars", "packages", "files", "py_files")
_COUNTS = ("executors", "driver_cores", "executor_cores")
_LOGGING = Path(__file__).with_name("spark-log4j2.properties")
_QUIET = {"spark.ui.port": "0", "spark.ui.showConsoleProgress": "false"}
_ALWAYS_SAID = b"WARNING: Using incubator modules"  # by Java, of each application
_JAVA_FOR = {3: 8, 4: 17}  # the oldest Java that a major version of Spark runs on
_NEWEST_MAJOR = max(_JAVA_FOR)
_END_SECONDS = 2.0  # in which Java has ended that does not answer
_INSTALL_JAVA = "install one, as in apt install default-jre-headless, or set JAVA_HOME"


@option_values
@dataclass(frozen=True)
class Spark:
    """Run the handler in the driver of a Spark application.

    A parameter annotated ``pyspark.sql.SparkSession`` gets the application's session, and no caller passes it. On this machine
    the application is local: its tasks are threads, as many as ``cpu=`` says, else executors x executor_cores, else one for each
    core; ``conf={"spark.master": ...}`` has it run on a cluster of Spark's own.

    With `share` all runs of a function version use one application, one after the other, each with a session of its own; it is
    kept for ten minutes after the last of them, or until this process ends.

    Parameters
    ----------
    conf: Spark's properties, as in ``{"spark.sql.shuffle.partitions": 400}``.
    jars, files, py_files: paths or URLs; packages: Maven coordinates, ``group:artifact:version``.
    driver_memory, executor_memory: of the Java process, as Spark writes it: ``"4g"``, ``"512m"``. `mem=` of the function limits
        the driver's Python process.
    dynamic_allocation: the fewest and the most executors, as in ``(1, 10)``.

    Raises OptionError for a value that does not fit.
    """

    ENGINES: ClassVar[Mapping[str, str]] = {"local": "local", "kubernetes": "kubernetes_operators"}
    INJECTS: ClassVar[Mapping[str, str]] = {"pyspark.sql.session.SparkSession": "spark"}

    executors: int | None = None
    conf: Mapping[str, Any] = field(default_factory=dict)
    jars: Sequence[str] = ()
    packages: Sequence[str] = ()
    files: Sequence[str] = ()
    py_files: Sequence[str] = ()
    driver_memory: str | None = None
    driver_cores: int | None = None
    executor_memory: str | None = None
    executor_cores: int | None = None
    dynamic_allocation: Sequence[int] | None = None
    share: bool = False

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        for name in ("driver_memory", "executor_memory"):
            object.__setattr__(self, name, _memory(name, getattr(self, name)))
        for name in _LISTS:
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if not isinstance(self.share, bool):
            raise OptionError(f"Spark(share={self.share!r}): True or False is allowed.")
        object.__setattr__(self, "conf", _properties(self.conf))
        object.__setattr__(self, "dynamic_allocation", _bounds(self.dynamic_allocation))

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return a process that is the driver: of its one run, or of all runs where the application is shared; elsewhere an application."""
        if capabilities.manifests:
            self._check_for_pods(plan)
            return spark_application(vars(self), self.properties(), plan)
        conf = {"spark.master": f"local[{self._threads(plan)}]", **_QUIET, **self.properties()}
        conf[JAVA_OPTIONS] = f"-Dlog4j2.configurationFile=file:{_LOGGING} {conf.get(JAVA_OPTIONS, '')}".strip()
        options = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
        env = {"PYSPARK_SUBMIT_ARGS": shlex.join([*options, "pyspark-shell"])}
        # Where Spark's own processes of Python find the user's modules.
        env["PYTHONPATH"] = os.pathsep.join(plan.workspace.sys_path)
        if self._is_local:
            env["SPARK_LOCAL_IP"] = "127.0.0.1"  # else its page listens to the network
        return Pooled(fresh=not self.share, env=env, activated=True, single=self.share)

    def _check_for_pods(self, plan: Plan) -> None:
        if self.share:
            raise OptionError(
                f"Spark(share=True): an application that runs share is a process of this machine; on={plan.place.name!r} each run "
                "has its own, so leave share= out."
            )
        if plan.gpus:
            raise OptionError(
                f"{plan.name} asks for gpus={plan.gpus}, which on={plan.place.name!r} Spark gives to executors: ask for them by "
                'Spark(conf={"spark.executor.resource.gpu.amount": ..., "spark.executor.resource.gpu.vendor": "nvidia.com"}).'
            )

    @property
    def _is_local(self) -> bool:
        return str(self.conf.get("spark.master", "local")).startswith("local")

    def properties(self) -> dict[str, str]:
        """Return all options as Spark's properties."""
        least, most = self.dynamic_allocation or (None, None)
        named = {
            "spark.executor.instances": self.executors,
            "spark.driver.memory": self.driver_memory,
            "spark.driver.cores": self.driver_cores,
            "spark.executor.memory": self.executor_memory,
            "spark.executor.cores": self.executor_cores,
            "spark.dynamicAllocation.enabled": None if most is None else "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": None if most is None else "true",
            "spark.dynamicAllocation.minExecutors": least,
            "spark.dynamicAllocation.maxExecutors": most,
            "spark.jars": ",".join(self.jars) or None,
            "spark.jars.packages": ",".join(self.packages) or None,
            "spark.files": ",".join(self.files) or None,
            "spark.submit.pyFiles": ",".join(self.py_files) or None,
        }
        return {**{name: str(value) for name, value in named.items() if value is not None}, **self.conf}

    def _threads(self, plan: Plan) -> str:
        if plan.cpu:
            return str(math.ceil(plan.cpu))
        if self.executors or self.executor_cores:
            return str((self.executors or 1) * (self.executor_cores or 1))
        return "*"

    def check_machine(self, environ: Mapping[str, str]) -> None:
        """Raise where this machine lacks what spark-submit needs: MissingExtraError for PySpark, PlaceError for Java."""
        version = _spark_version(environ)
        needed = _JAVA_FOR.get(version[0], _JAVA_FOR[_NEWEST_MAJOR]) if version else None
        java = _java(environ)
        found = _java_version(java)
        if needed is not None and found is not None and found < needed:
            shown = ".".join(map(str, version))
            raise PlaceError(
                f"PySpark {shown} needs Java {needed} or newer, and {java} is Java {found}: install a newer one, as in apt "
                f"install openjdk-{needed}-jre-headless, and set JAVA_HOME to its folder."
            )

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Start the application, where this process is not the driver of one, and supply a session."""
        return self._activated(task)

    @contextmanager
    def _activated(self, task: Task) -> Iterator[Extras]:
        self.check_machine(os.environ)
        if self._is_local:  # with this very Python the functions run that Spark calls
            os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        _start()
        session = _own_session()
        if (page := session.sparkContext.uiWebUrl) is not None:
            os.write(2, f"Spark shows this application at {page}\n".encode())
        try:
            yield Extras(supplied={"spark": session}, page=page)
        except Exception as error:
            if (code := _end_of_java(session, error)) is not None:
                _forget_application()
                raise RunLostError(
                    f"{task.run[:8]}: the Java process of its application ended ({_how(code)}); run.logs() has what it wrote, and "
                    "Spark(driver_memory=) is what it may take."
                ) from error
            _say_cause_first(error)
            raise
        finally:
            with suppress(Exception):  # Java may be gone
                self._leave(session)

    def _leave(self, session: Any) -> None:
        """Free what a run has of the application, or end it."""
        if self.share:
            session.sparkContext.cancelAllJobs()
            session.catalog.clearCache()
        else:
            session.stop()


def _start() -> None:
    """Start an application, where this process has none, by spark-submit with PYSPARK_SUBMIT_ARGS."""
    import pyspark.java_gateway
    from pyspark import SparkContext

    launch_gateway: Any = pyspark.java_gateway.launch_gateway  # PySpark has no types for it
    if SparkContext._active_spark_context is not None:
        return
    reading, writing = os.pipe()
    threading.Thread(target=_log, args=(reading,), daemon=True).start()
    try:
        with without_memory_limit():  # it is meant for the driver's Python process
            gateway = launch_gateway(popen_kwargs={"stdout": writing, "stderr": writing})
    finally:
        os.close(writing)
    SparkContext(gateway=gateway)


def _log(descriptor: int) -> None:
    """Write what the application writes to the log of the run that this process is at."""
    # Opened here: at the end of this process another thread that closes it would wait for the application's end.
    with open(descriptor, "rb") as output:
        for line in output:
            if not line.startswith(_ALWAYS_SAID):
                with suppress(OSError):  # the disk is full
                    os.write(2, line)


def _own_session() -> Any:
    """Return a session that shares with those of earlier runs the application alone."""
    from pyspark.sql import SparkSession

    session: Any = SparkSession.builder.getOrCreate().newSession()
    # What the builder gives, in code far below the handler.
    SparkSession._instantiatedSession = SparkSession._activeSession = session
    return session


def _end_of_java(session: Any, error: Exception) -> int | None:
    """Return the exit code of the application's Java, less than 0 for a signal, where that has ended; else None."""
    from py4j.protocol import Py4JError, Py4JJavaError

    is_unanswered = isinstance(error, (Py4JError, OSError)) and not isinstance(error, Py4JJavaError)
    process: Any = session.sparkContext._gateway.proc
    try:
        code: int = process.wait(_END_SECONDS if is_unanswered else 0)
    except subprocess.TimeoutExpired:
        return None
    return code


def _forget_application() -> None:
    """Let the next run of this process start another one."""
    from pyspark import SparkContext

    SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.Signals(-code).name}"


def _say_cause_first(error: Exception) -> None:
    """Put the cause before all that Spark and Java say of it; the text is then fixed, as it comes from the application."""
    kind = type(error)
    if not kind.__module__.startswith(("pyspark.", "py4j.")):
        return
    text = str(error)
    cause = _python_cause(text) or _java_cause(text)
    shown = text if cause is None or text.startswith(cause) else f"{cause}\n{text}"
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__str__": lambda _: shown}
    error.__class__ = type(kind.__name__, (kind,), named)


def _python_cause(text: str) -> str | None:
    """Return the last line of the last Python traceback in a text: the exception that a function of the user's raised."""
    _, _, tail = text.rpartition("Traceback (most recent call last):\n")
    own = itertools.takewhile(lambda line: not line.startswith("\tat "), tail.split("\n"))
    return next((line for line in own if line and not line.startswith(" ")), None) if tail != text else None


def _java_cause(text: str) -> str | None:
    causes = [line.removeprefix("Caused by: ") for line in text.split("\n") if line.startswith("Caused by: ")]
    return causes[-1] if causes else None


def _spark_version(environ: Mapping[str, str]) -> tuple[int, ...]:
    """Return the version of PySpark; nothing where SPARK_HOME names a Spark of its own."""
    import importlib.metadata

    if environ.get("SPARK_HOME"):
        return ()
    try:
        found = importlib.metadata.version("pyspark")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError("kind='spark' needs PySpark: pip install 'mlfn[spark]'.") from None
    return tuple(int(part) for part in found.split(".")[:3] if part.isdigit())


def _java(environ: Mapping[str, str]) -> str:
    """Return the program that Spark will start."""
    home = environ.get("JAVA_HOME")
    if home:
        program = os.path.join(home, "bin", "java")
        if not os.access(program, os.X_OK):
            raise PlaceError(
                f"kind='spark' needs Java, and JAVA_HOME={home!r} has no bin/java: set it to the folder of a Java, or unset it."
            )
        return program
    found = shutil.which("java", path=environ.get("PATH"))
    if found is None:
        raise PlaceError(f"kind='spark' needs Java, and there is no java on PATH: {_INSTALL_JAVA}.")
    return found


@functools.cache
def _java_version(program: str) -> int | None:
    """Return the major version of a Java by the file beside it; None where that does not say."""
    try:
        text = (Path(program).resolve().parent.parent / "release").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE)
    return int(match[1]) if match else None


def _check_count(name: str, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise OptionError(f"Spark({name}={value!r}): a whole number, 1 or more, is allowed.")


def _memory(name: str, value: Any) -> str | None:
    """Return a size as Spark writes it; to Spark 4g and 4Gi are the same."""
    if value is None:
        return None
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise OptionError(f"Spark({name}={value!r}): a text such as '512m' or '4g' is allowed.")
    return f"{match[1]}{match[2].lower()}"


def _texts(name: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item for item in items):
        raise OptionError(f"Spark({name}={value!r}): a list of texts is allowed.")
    return tuple(items)


def _properties(conf: Any) -> dict[str, str]:
    if not isinstance(conf, Mapping):
        raise OptionError(
            f"Spark(conf={conf!r}): a mapping is allowed, as in conf={{'spark.sql.shuffle.partitions': 400}}."
        )
    for name, value in conf.items():
        if not isinstance(name, str) or not name.startswith("spark."):
            raise OptionError(
                f"Spark(conf={{{name!r}: ...}}): Spark's properties are allowed, whose names begin with 'spark.'."
            )
        if not isinstance(value, (str, int, float)):
            raise OptionError(f"Spark(conf={{{name!r}: {value!r}}}): a text, a number, True or False is allowed.")
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in sorted(conf.items())}


def _bounds(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(type(item) is int for item in value)
    if not is_pair or not 0 <= value[0] <= value[1] or value[1] < 1:
        raise OptionError(
            f"Spark(dynamic_allocation={value!r}): the fewest and the most executors are allowed, as in (1, 10)."
        )
    return value[0], value[1]
