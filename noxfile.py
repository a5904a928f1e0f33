"""Everything that must pass before a change lands. `nox` runs it all; `nox -s tests-3.13` runs a part."""

from __future__ import annotations

import os
from pathlib import Path

import nox

OLDEST, NEWEST = "3.10", "3.13"
CLUSTER = "3.11"  # of the image python:3.11-slim, in which the cluster's pods run
COVERAGE_FLOOR = 95  # per cent of lines and branches together, over all that ran on the newest Python

# Extras that the tests use. One that takes hundreds of megabytes (spark) joins with its first test.
TESTED_EXTRAS = "data,kubernetes,notebook,plots,postgres,search"
# Folders that cost an engine, a cluster or a browser have sessions of their own.
COSTLY = ("integration", "cluster", "acceptance")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_missing_interpreters = True
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
# `bench` is left out: it measures.
nox.options.sessions = ["lint", "types", "tests", "minimums", "examples", "integration", "cluster", "coverage"]


def _expose_pyenv() -> None:
    """Put pyenv's own interpreters before its shims, which refuse any version that is not the chosen one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [
        str(folder) for minor in (NEWEST, OLDEST, CLUSTER) for folder in sorted(root.glob(f"versions/{minor}.*/bin"))
    ]
    os.environ["PATH"] = os.pathsep.join([*found, os.environ["PATH"]])


_expose_pyenv()
PROJECT = nox.project.load_toml("pyproject.toml")


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


def _install(session: nox.Session, *more: str) -> None:
    session.install("-e", f".[{','.join([TESTED_EXTRAS, *more])}]", *_group("test"))


def _measured(session: nox.Session, *pytest_args: str) -> None:
    """Run pytest under coverage; every process it starts is measured too."""
    session.run("coverage", "run", "-m", "pytest", *pytest_args, *session.posargs)


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


@nox.session(python=[OLDEST, NEWEST])
def tests(session: nox.Session) -> None:
    """Run the tests that need no engine: unit, contract and architecture."""
    _install(session)
    if session.python == NEWEST:
        # What an earlier run left would count as covered today.
        session.run("coverage", "erase")
        _measured(session, "-n", "2", *_cheap_tests())
    else:
        session.run("pytest", "-n", "2", *_cheap_tests(), *session.posargs)


@nox.session(python=OLDEST, venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the same tests on the oldest Python with the lowest version that each dependency declares."""
    session.install("--resolution=lowest-direct", "-e", f".[{TESTED_EXTRAS}]")
    session.install(*_group("test"))
    session.run("pytest", "-n", "2", *_cheap_tests(), *session.posargs)


@nox.session(python=NEWEST)
def examples(session: nox.Session) -> None:
    """Run what a user sees: the examples, the README, the command line, the notebook."""
    _install(session)
    _measured(session, "-n", "2", "tests/acceptance")


@nox.session(python=NEWEST)
def integration(session: nox.Session) -> None:
    """Run against real engines: PostgreSQL and S3, started here, and a torch of some gigabytes for the sampler that needs it."""
    _install(session, "gp")
    session.install(*_group("objects"))
    _measured(session, "-n", "2", "tests/integration")


@nox.session(python=CLUSTER)
def cluster(session: nox.Session) -> None:
    """Run against the Kubernetes cluster that KUBECONFIG names; the tests make namespaces of their own there."""
    if not os.environ.get("KUBECONFIG"):
        session.error("KUBECONFIG names no cluster; CONTRIBUTING.md says what the tests need there.")
    _install(session)
    _measured(session, "tests/cluster")


@nox.session(python=NEWEST)
def coverage(session: nox.Session) -> None:
    """Add up what the sessions before it measured, and hold it to the floor."""
    session.install(*(item for item in _group("test") if item.startswith("coverage")))
    session.run("coverage", "combine")
    session.run("coverage", "report", f"--fail-under={COVERAGE_FLOOR}")


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Print the table of figures; `-- --peers FOLDER` puts other libraries beside mlfn, each in its own environment."""
    session.install("-e", ".[search]", *_group("bench"))
    session.run("python", "benchmarks/table.py", *session.posargs)
