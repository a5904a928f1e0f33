"""`mlfn doctor`: the settings in force with their sources, and checks of all that a run needs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from mlfn._version import __version__
from mlfn.backends.registry import capabilities, place_class
from mlfn.errors import MlfnError, harmless
from mlfn.host.cores import usable_cores
from mlfn.host.disk import files_below, room_of
from mlfn.host.frozen import frozen
from mlfn.host.identity import is_alive, this_host
from mlfn.host.private_files import OTHERS, ensure_folder
from mlfn.settings import current as settings
from mlfn.settings.declarations import SETTINGS
from mlfn.settings.folders import config_folder
from mlfn.settings.sources import load, without_password
from mlfn.spec.record import RunState
from mlfn.store import open_queries
from mlfn.store.queries import RunFilter
from mlfn.store.rows import Fault
from mlfn.store.sweeps import Reader
from mlfn.ui import text
from mlfn.ui.cli import exits
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.disk import Part, parts, write_parts
from mlfn.ui.cli.printing import complain, say, terminal_width, write_json, write_lines, write_table
from mlfn.ui.text import Column
from mlfn.ui.wording import amount, duration, plural, wrapped

_WORKER_SECONDS = 60
_MOST_BROKEN = 5  # runs that are named
_MOST_RUNNING = 1000  # runs of a client that are looked at
_LITTLE = 1_000_000_000  # bytes under which a disk is nearly full
_COLORS = {"ok": "green", "note": "yellow", "fails": "red"}
_PACKAGES = ("click", "cloudpickle", "fsspec", "jinja2", "pydantic", "pyyaml", "rich")


@frozen
class Finding:
    """The result of one check; the verdict is ``"ok"``, ``"note"`` or ``"fails"``."""

    name: str
    verdict: str
    text: str


@command("doctor")
def doctor(chosen: Chosen) -> int:
    """Show every setting with its source, check store, folders, key and that a worker starts, and say what takes room on the disk."""
    resolved = load(chosen.flags)
    table = resolved.explain()
    findings = list(_findings(chosen))
    used = list(_used())
    if chosen.json:
        named = [{"name": name, "value": value, "source": source, "doc": doc} for name, value, source, doc in table]
        checks = [vars(finding) for finding in findings]
        write_json({"settings": named, "checks": checks, "disk": [part.document() for part in used]})
    else:
        _print_settings(table)
        say()
        _print_findings(findings)
        say()
        write_parts(used)
    failing = [finding.name for finding in findings if finding.verdict == "fails"]
    if failing:
        complain(f"not in order: {', '.join(failing)}.")
    return exits.STORAGE if failing else exits.OK


def _print_settings(settings: Sequence[tuple[str, str, str, str]]) -> None:
    width = terminal_width()
    columns = [
        Column("SETTING", [name for name, _, _, _ in settings]),
        Column("VALUE", [value or "-" for _, value, _, _ in settings]),
        Column("FROM", [source for _, _, source, _ in settings]),
    ]
    docs = [doc for _, _, _, doc in settings]
    if width is None:
        write_table([*columns, Column("WHAT IT IS", docs)])
        return
    head, *lines = text.table_lines(columns)
    say(head)
    for line, doc in zip(lines, docs, strict=True):
        say(line)
        write_lines(wrapped(doc, width, indent=4, first=4))


def _print_findings(findings: Sequence[Finding]) -> None:
    wide = max(len(finding.name) for finding in findings)
    for finding in findings:
        verdict = click.style(finding.verdict.ljust(5), fg=_COLORS[finding.verdict])
        first, *more = wrapped(harmless(finding.text), terminal_width(), indent=wide + 9)
        say(f"{verdict}  {finding.name.ljust(wide)}  {first}")
        write_lines(more)


def _findings(chosen: Chosen) -> Iterator[Finding]:
    yield Finding("mlfn", "ok", f"{__version__}, in {Path(__file__).parents[2]}")
    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}; workers run on the same")
    yield Finding("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    checks: dict[str, Callable[[], Finding]] = {
        "data folder": _data_folder,
        "artifacts": _artifacts,
        "store": _store,
        "rows": _rows,
        "signing key": _key,
        "secrets": _secrets,
        "environments": _environments,
        "cores": _cores,
        "worker": lambda: _worker(chosen, "worker", "local"),
    }
    for name, check in checks.items():
        try:
            yield check()
        except MlfnError as error:
            yield Finding(name, "fails", str(error))
    yield from _elsewhere(chosen)
    psycopg = f"psycopg {_version('psycopg')}" if importlib.util.find_spec("psycopg") else None
    yield _optional(
        "postgresql", psycopg, "not installed; a store at postgresql:// needs: pip install 'mlfn[postgres]'"
    )
    slower = "not on PATH; environments for requirements= are built with venv and pip, slower."
    yield _optional("uv", shutil.which("uv"), slower)


def _optional(name: str, found: str | None, lacking: str) -> Finding:
    return Finding(name, "ok", found) if found else Finding(name, "note", lacking)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _data_folder() -> Finding:
    folder = ensure_folder(settings.data_folder(settings.current()))
    free = shutil.disk_usage(folder).free
    if free < _LITTLE:
        return Finding("data folder", "note", f"{folder}, {amount(free)} free: nearly full; `mlfn gc` makes room.")
    return Finding("data folder", "ok", f"{folder}, {amount(free)} free")


def _artifacts() -> Finding:
    root, folder = settings.current().artifacts, settings.data_folder(settings.current())
    if not root:
        return Finding("artifacts", "ok", f"in {folder / 'artifacts'}")
    if root.startswith("memory:"):
        return Finding("artifacts", "note", "in the memory of each process: for tests, inline.")
    from mlfn.artifacts.home import home_of
    from mlfn.artifacts.store import ArtifactStore

    home = home_of(folder)
    ArtifactStore(root, home=home).check()
    return Finding("artifacts", "ok", f"{without_password(root).rstrip('/')}/{home} can be written")


def _opened_store() -> closing[Reader]:
    current = settings.current()
    return closing(open_queries(current.store, settings.data_folder(current)))


def _used() -> Iterator[Part]:
    current = settings.current()
    folder = settings.data_folder(current)
    return parts(folder, lambda: open_queries(current.store, folder), current.artifacts)


def _store() -> Finding:
    with _opened_store() as store:
        text = f"{store.label}, schema {store.schema_version()}, {plural(store.count_runs(RunFilter()), 'run')}"
    return Finding("store", "ok", text)


def _rows() -> Finding:
    try:
        opened = _opened_store()
    except MlfnError:
        return Finding("rows", "note", "not checked: see the store.")
    with opened as store:
        every, found = store.count_runs(RunFilter()), store.survey()
    few = f"{found.runs} of {every}, the newest and the unfinished ones,"
    how_many = f"all {every}" if found.runs >= every else few
    checked = f"checked the rows of {how_many} runs, and all that belongs to the newest {found.whole}"
    broken: dict[str, Fault] = {}
    for fault in found.faults:
        broken.setdefault(fault.run, fault)
    if not broken:
        return Finding("rows", "ok", f"{checked}: all can be read")
    first = list(broken.values())[:_MOST_BROKEN]
    named = "; ".join(f"{fault.run}, {fault.table}.{fault.column}: {fault.why}" for fault in first)
    more = f"; and {len(broken) - len(first)} more" if len(broken) > len(first) else ""
    typed = "; ".join(f"mlfn gc --broken {fault.run}" for fault in first)
    return Finding(
        "rows",
        "fails",
        f"{checked}: {len(broken)} cannot be read ({named}{more}). Restore the store from a copy, or remove each run and its "
        f"files: {typed}",
    )


def _environments() -> Finding:
    folder = settings.data_folder(settings.current()) / "environments"
    found = [path for path in folder.glob("*") if path.is_dir()]
    if not found:
        return Finding("environments", "ok", "none yet; requirements= builds them where packages are lacking")
    room = room_of(files_below(folder))
    size = f"{len(found)} of requirements=, {'' if room.is_all else 'over '}{amount(room.size)}"
    return Finding("environments", "ok", f"{size}; `mlfn gc --environments` removes those that nothing runs in")


def _cores() -> Finding:
    """Count the workers at work of each client on this machine: none knows of the others."""
    cores, at_work = usable_cores(), {}
    try:
        opened = _opened_store()
    except MlfnError:
        return Finding("cores", "note", "not checked: see the store.")
    with opened as store:
        for client, host, pid, *_ in filter(is_alive, store.clients()):
            if host == this_host() and (busy := _workers(store, client)):
                at_work[pid] = busy
    each = ", ".join(f"{busy} of process {pid}" for pid, busy in sorted(at_work.items()))
    shown = f"{plural(cores, 'core')}, {plural(sum(at_work.values()), 'worker')} at work{f' ({each})' * bool(each)}"
    if len(at_work) < 2 or sum(at_work.values()) <= cores:
        return Finding("cores", "ok", shown)
    return Finding(
        "cores", "note", f"{shown}: each process counts its own alone. Set MLFN_MAX_WORKERS in each, so that all fit."
    )


def _workers(store: Reader, client: str) -> int:
    pooled = {row.id for row in store.executions(client) if capabilities(row.place).pooled}
    running = store.list_runs(RunFilter(owner=client, states=(RunState.RUNNING.value,)), limit=_MOST_RUNNING)
    return len(pooled & {record.execution for record in running})


def _key() -> Finding:
    settings.signing_key()
    return _private("signing key", config_folder() / "key")


def _secrets() -> Finding:
    file = settings.secrets_file()
    return _private("secrets", file) if file.exists() else Finding("secrets", "ok", f"none yet; they go to {file}")


def _private(name: str, file: Path) -> Finding:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & OTHERS:
        return Finding(name, "fails", f"{file} has mode {mode:04o}, others can read it. Type: chmod 600 {file}")
    return Finding(name, "ok", f"{file}, mode {mode:04o}")


def _elsewhere(chosen: Chosen) -> Iterator[Finding]:
    """Check the chosen place, where runs go to an engine: last of all a run there."""
    place = settings.current().on
    can = capabilities(place)
    if can.in_caller or can.pooled:
        return
    try:
        found = [Finding(*check) for check in place_class(place).diagnose()]
    except MlfnError as error:
        found = [Finding(place, "fails", str(error))]
    yield from found
    if not any(finding.verdict == "fails" for finding in found):
        yield _worker(chosen, f"worker on {place}", place)


def _worker(chosen: Chosen, name: str, place: str) -> Finding:
    """Run the probe at a place, by a process and in a data folder of its own."""
    with tempfile.TemporaryDirectory(prefix="mlfn-doctor-") as folder:
        own = {"data": folder, "store": "", "artifacts": "", "on": place}
        flags = [f"{SETTINGS[name].flag}={value}" for name, value in {**chosen.flags, **own}.items()]
        start = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r}); from mlfn.ui.cli.app import main; main()"
        command = [sys.executable, "-c", start, *flags, "--json", "run", "mlfn.functions.probe:answer"]
        with subprocess.Popen(
            command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                out, err = process.communicate(timeout=_WORKER_SECONDS)
            except subprocess.TimeoutExpired:
                waits = _waits_for(Path(folder))
                process.send_signal(signal.SIGINT)  # it cancels its run
                _, err = process.communicate()
                why = f": it waits for {waits}." if waits else f". {_last_line(err)}".rstrip()
                return Finding(name, "fails", f"had not answered after {_WORKER_SECONDS} s{why}")
    if process.returncode:
        return Finding(name, "fails", f"exit code {process.returncode}: {_last_line(err) or 'no output'}")
    run = json.loads(out)
    begun, over = (datetime.fromisoformat(run[name]) for name in ("created", "ended"))
    return Finding(name, "ok", f"answered {duration((over - begun).total_seconds(), exact=True)} after its start")


def _waits_for(folder: Path) -> str | None:
    """Return what the probe waits for at its place, in that one's words."""
    with closing(open_queries("", folder)) as store:
        return next((record.status for record in store.list_runs(RunFilter(), limit=1)), None)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
