"""`mlfn doctor`: what is in force and where it comes from, and whether what a run needs is there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from mlfn import settings
from mlfn._version import __version__
from mlfn.cli import exits
from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.printing import complain, harmless, say, write_json, write_table
from mlfn.cli.telling import size
from mlfn.errors import MlfnError
from mlfn.private_files import OTHERS

_WORKER_SECONDS = 60
_MOST_BROKEN = 5  # runs that are named
_LITTLE = 1_000_000_000  # bytes under which a disk is nearly full
_COLORS = {"ok": "green", "note": "yellow", "fails": "red"}
_PACKAGES = ("click", "cloudpickle", "fsspec", "pydantic", "rich")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: str
    """``"ok"``, ``"note"`` or ``"fails"``."""
    text: str


def _doctor(chosen: Chosen) -> int:
    resolved = settings.load(chosen.flags)
    table = resolved.explain()
    findings = list(_findings(chosen))
    if chosen.json:
        named = [{"name": name, "value": value, "source": source, "doc": doc} for name, value, source, doc in table]
        write_json({"settings": named, "checks": [vars(finding) for finding in findings]})
    else:
        write_table(
            ["SETTING", "VALUE", "FROM", "WHAT IT IS"],
            [[name, value or "-", source, doc] for name, value, source, doc in table],
        )
        say()
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            verdict = click.style(finding.verdict.ljust(5), fg=_COLORS[finding.verdict])
            say(f"{verdict}  {finding.name.ljust(width)}  {harmless(finding.text)}")
    failing = [finding.name for finding in findings if finding.verdict == "fails"]
    if failing:
        complain(f"not in order: {', '.join(failing)}.")
    return exits.STORAGE if failing else exits.OK


def _findings(chosen: Chosen) -> Iterator[Finding]:
    yield Finding("mlfn", "ok", f"{__version__}, in {Path(__file__).parents[1]}")
    yield _python()
    yield Finding("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("data folder", _data_folder),
        ("store", _store),
        ("rows", _rows),
        ("signing key", _key),
        ("secrets", _secrets),
        ("environments", _environments),
        ("worker", lambda: _worker(chosen)),
    ]
    for name, check in checks:
        try:
            yield check()
        except MlfnError as error:
            yield Finding(name, "fails", str(error))
    yield _postgres()
    yield _uv()


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()}, {sys.executable}; workers run on the same")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _data_folder() -> Finding:
    folder = settings.ensure_folder(settings.data_folder(settings.current()))
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {size(free)} free"
    if free < _LITTLE:
        return Finding("data folder", "note", f"{text}: nearly full; `mlfn gc` makes room.")
    return Finding("data folder", "ok", text)


def _store() -> Finding:
    from mlfn.store import open_store
    from mlfn.store.reading import RunFilter

    current = settings.current()
    store = open_store(current.store, settings.data_folder(current))
    try:
        schema = store.session.read("SELECT version FROM meta")[0][0]
        runs = store.count_runs(RunFilter())
        return Finding(
            "store", "ok", f"{store.session.engine.label}, schema {schema}, {runs} run{'' if runs == 1 else 's'}"
        )
    finally:
        store.session.close()


def _rows() -> Finding:
    from mlfn.store import open_store
    from mlfn.store.damage import survey
    from mlfn.store.reading import RunFilter

    current = settings.current()
    try:
        store = open_store(current.store, settings.data_folder(current))
    except MlfnError:
        return Finding("rows", "note", "not looked at: see the store.")
    try:
        every = store.count_runs(RunFilter())
        seen = survey(store)
    finally:
        store.session.close()
    how_many = f"all {every}" if seen.runs >= every else f"{seen.runs} of {every}, the newest and what is not over,"
    looked = f"looked at the rows of {how_many} runs, and at what hangs on the newest {seen.whole}"
    if not seen.faults:
        return Finding("rows", "ok", f"{looked}: all can be read")
    broken = dict.fromkeys(fault.run for fault in seen.faults)
    first = {fault.run: fault for fault in reversed(seen.faults)}
    named = "; ".join(
        f"{run}, {first[run].table}.{first[run].column}: {first[run].why}" for run in [*broken][:_MOST_BROKEN]
    )
    more = f"; and {len(broken) - _MOST_BROKEN} more" if len(broken) > _MOST_BROKEN else ""
    typed = " ".join(f"mlfn gc --broken {run};" for run in [*broken][:_MOST_BROKEN]).rstrip(";")
    return Finding(
        "rows",
        "fails",
        f"{looked}: {len(broken)} cannot be read ({named}{more}). Restore the store from a copy, or remove each run and its "
        f"files: {typed}",
    )


def _environments() -> Finding:
    folder = settings.data_folder(settings.current()) / "environments"
    found = [path for path in folder.glob("*") if path.is_dir()]
    weight = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
    if not found:
        return Finding("environments", "ok", "none yet; requirements= builds them where packages are lacking")
    text = f"{len(found)} of requirements=, {size(weight)}; `mlfn gc --environments` removes those that nothing runs in"
    return Finding("environments", "ok", text)


def _key() -> Finding:
    settings.signing_key()
    return _private("signing key", settings.config_folder() / "key")


def _secrets() -> Finding:
    file = settings.secrets_file()
    return _private("secrets", file) if file.exists() else Finding("secrets", "ok", f"none yet; they go to {file}")


def _private(name: str, file: Path) -> Finding:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & OTHERS:
        return Finding(name, "fails", f"{file} has mode {mode:04o}, others can read it. Type: chmod 600 {file}")
    return Finding(name, "ok", f"{file}, mode {mode:04o}")


def _worker(chosen: Chosen) -> Finding:
    """Run the probe through the real local place, in a process and a data folder of its own."""
    with tempfile.TemporaryDirectory(prefix="mlfn-doctor-") as folder:
        own = {"data": folder, "store": "", "on": "local"}
        flags = [f"{settings.SETTINGS[name].flag}={value}" for name, value in {**chosen.flags, **own}.items()]
        start = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from mlfn.cli.app import main; main()"
        )
        command = [sys.executable, "-c", start, *flags, "--json", "run", "mlfn.cli.probe:answer"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_WORKER_SECONDS, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return Finding("worker", "fails", f"had not answered after {_WORKER_SECONDS} s.")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return Finding("worker", "fails", f"exit code {done.returncode}: {said[-1] if said else 'no word'}")
    return Finding("worker", "ok", f"a process answered {_seconds(done.stdout):.2f} s after it was asked for")


def _seconds(document: str) -> float:
    from datetime import datetime

    run = json.loads(document)
    begun, over = (datetime.fromisoformat(run[name]) for name in ("created", "ended"))
    return (over - begun).total_seconds()


def _postgres() -> Finding:
    if importlib.util.find_spec("psycopg") is not None:
        return Finding("postgresql", "ok", f"psycopg {_version('psycopg')}")
    return Finding("postgresql", "note", "not installed; a store at postgresql:// needs: pip install 'mlfn[postgres]'")


def _uv() -> Finding:
    found = shutil.which("uv")
    if found:
        return Finding("uv", "ok", found)
    return Finding("uv", "note", "not on PATH; environments for requirements= are built with venv and pip, slower.")


doctor = MlfnCommand(
    "doctor",
    callback=click.pass_obj(_doctor),
    help="Show every setting with its source, and check store, folders, key and that a worker starts.",
)
