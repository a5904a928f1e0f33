"""Everything that must pass before a change lands. `nox` runs it all; `nox -s tests` runs a part."""

from __future__ import annotations

import os
from pathlib import Path

import nox

OLDEST, NEWEST = "3.10", "3.13"
CLUSTER = "3.11"  # of the image python:3.11-slim, in which the cluster's pods run
HOROVOD = "3.11"  # the newest that TensorFlow 2.12 is built for, the newest that Horovod 0.28 is built against
HOROVOD_BESIDE = ("tensorflow-cpu==2.12.1", "numpy<1.24", "pandas<2.3", "pyarrow<18")  # the last for NumPy 1

# Extras that the tests use; one that takes hundreds of megabytes (spark) is in a session of its own alone.
TESTED_EXTRAS = "dask,data,kubernetes,notebook,nuclio,plots,postgres,search"
# Folders that cost an engine, a cluster or a browser have sessions of their own.
COSTLY = ("integration", "cluster", "acceptance", "horovod", "nuclio", "spark", "operators")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_missing_interpreters = True
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
# `bench` and `coverage` are left out: they measure. So is `operators`, for its time: `cluster` runs some of each; and `nuclio`,
# which needs a processor that no package has.
nox.options.sessions = [
    "lint",
    "types",
    "cluster",  # early: operators that were starved of the processor for long give up their lease, and end
    "tests",
    "minimums",
    "examples",
    "integration",
    "horovod",
    "spark",
]


def _expose_pyenv() -> None:
    """Put pyenv's own interpreters before its shims, which refuse any version that is not the chosen one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [
        str(folder)
        for minor in (NEWEST, OLDEST, CLUSTER, HOROVOD)
        for folder in sorted(root.glob(f"versions/{minor}.*/bin"))
    ]
    os.environ["PATH"] = os.pathsep.join([*found, os.environ["PATH"]])


_expose_pyenv()
PROJECT = nox.project.load_toml("pyproject.toml")


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


def _install(session: nox.Session, *more: str) -> None:
    session.install("-e", f".[{','.join([TESTED_EXTRAS, *more])}]", *_group("test"))


def _cheap_tests() -> list[str]:
    return ["tests", *(f"--ignore=tests/{folder}" for folder in COSTLY)]


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and format."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=NEWEST)
def types(session: nox.Session) -> None:
    """Hold the package, the examples and tests/typing to mypy (strict) and pyright."""
    session.install("-e", f".[{TESTED_EXTRAS}]", *_group("types"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=NEWEST)
def tests(session: nox.Session) -> None:
    """Run the tests that need no engine: unit, contract and architecture."""
    _install(session)
    session.run("pytest", "-n", "2", *_cheap_tests(), *session.posargs)


@nox.session(python=OLDEST, venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the same tests, but for those of the code's shape, on the oldest Python with the lowest version of each dependency."""
    session.install("--resolution=lowest-direct", "-e", f".[{TESTED_EXTRAS}]")
    session.install(*_group("test"))
    session.run("pytest", "-n", "2", *_cheap_tests(), "--ignore=tests/architecture", *session.posargs)


@nox.session(python=NEWEST)
def examples(session: nox.Session) -> None:
    """Run what a user sees: the examples, the README, the command line, the notebook."""
    _install(session)
    session.install(*_group("ranks"))
    session.run("pytest", "-n", "3", "tests/acceptance", *session.posargs)


@nox.session(python=NEWEST)
def integration(session: nox.Session) -> None:
    """Run against real engines: PostgreSQL, S3 and MPI, started here, and a torch of some gigabytes for the sampler that needs it."""
    _install(session, "gp")
    session.install(*_group("objects"), *_group("ranks"))
    session.run("pytest", "-n", "2", "tests/integration", *session.posargs)


@nox.session(python=NEWEST)
def spark(session: nox.Session) -> None:
    """Run against real applications of Spark, which need a Java on this machine."""
    # PySpark warns of pandas 3 in each log.
    session.install("-e", f".[{TESTED_EXTRAS},spark]", "pandas<3", *_group("test"))
    classes = Path(session.create_tmp(), "classes.jsa").resolve()
    session.run("python", "-m", "tests.spark.archive_classes", str(classes))
    env = {"SPARK_SUBMIT_OPTS": f"-XX:SharedArchiveFile={classes}"}
    session.run("pytest", "-n", "2", "tests/spark", *session.posargs, env=env)


def _require_cluster(session: nox.Session) -> None:
    if not (os.environ.get("KUBECONFIG") and os.environ.get("CLUSTER_HOST")):
        session.error(
            "KUBECONFIG names no cluster, or CLUSTER_HOST no address: CONTRIBUTING.md says what the tests need."
        )


@nox.session(python=CLUSTER)
def cluster(session: nox.Session) -> None:
    """Run against the Kubernetes cluster that KUBECONFIG names; the tests make namespaces of their own there."""
    _require_cluster(session)
    _install(session)
    session.install(*_group("objects"))
    session.run("pytest", "-n", "3", "tests/cluster", *session.posargs)  # pods are waited for


@nox.session(python=CLUSTER)
def operators(session: nox.Session) -> None:
    """Run every case of the suite of kind x place for Dask, Horovod and Spark on the cluster: most of an hour."""
    _require_cluster(session)
    _install(session)
    session.run("pytest", "-n", "3", "tests/operators", *session.posargs)


@nox.session(python=CLUSTER)
def nuclio(session: nox.Session) -> None:
    """Run against Nuclio's own processor, the one that MLFN_NUCLIO_PROCESSOR names."""
    if not os.environ.get("MLFN_NUCLIO_PROCESSOR"):
        session.error("MLFN_NUCLIO_PROCESSOR names no processor of Nuclio: CONTRIBUTING.md says what the tests need.")
    _install(session)
    session.install("msgpack")
    session.run("pytest", "-n", "2", "tests/nuclio", *session.posargs)


@nox.session(python=HOROVOD)
def horovod(session: nox.Session) -> None:
    """Run against a real Horovod, whose environment is built once and kept outside of the checkout."""
    session.install("uv>=0.5")
    said = session.run("python", "tests/horovod/build.py", silent=True)
    python = str(Path(str(said).splitlines()[-1]).parent / "bin" / "python")
    # TensorFlow 2.12 forbids a typing_extensions that pydantic needs, and works with it.
    override = Path(session.create_tmp(), "overrides.txt").resolve()
    override.write_text("typing-extensions>=4.12\n")
    install = ("uv", "pip", "install", "--quiet", "--python", python)
    tests = [item for item in _group("test") if not item.startswith("dask")]  # which wants a newer NumPy
    session.run(*install, "--override", str(override), "-e", ".[data,search]", *HOROVOD_BESIDE, *tests)
    session.run(python, "-m", "pytest", "-n", "2", "tests/horovod", *session.posargs, external=True)


@nox.session(python=NEWEST)
def coverage(session: nox.Session) -> None:
    """Run the same tests as `tests`, at twice their time, and say which lines and branches no test has reached."""
    _install(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "2", *_cheap_tests(), *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Print the table of figures; `-- --peers FOLDER` puts other libraries beside mlfn, each in its own environment."""
    session.install("-e", ".[dask,search]", *_group("bench"))
    session.run("python", "benchmarks/table.py", *session.posargs)
