"""`mlfn gc`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import click

from mlfn.dispatch.garbage_collection import Broken, Garbage, find_broken, find_garbage, remove_broken, remove_garbage
from mlfn.dispatch.session import Session, current_session
from mlfn.errors import ParameterError
from mlfn.host.identity import now
from mlfn.spec.values import parse_seconds
from mlfn.store import open_queries
from mlfn.store.queries import Queries
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.printing import complain, say, write_json
from mlfn.ui.wording import amount, plural


@command("gc")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option(
    "--older-than", metavar="AGE", help="Remove runs that ended so long ago, too, as 30d or 12h, with their files."
)
@click.option(
    "--environments",
    is_flag=True,
    help="Remove every environment of requirements= that nothing runs in; else those unused for 30 days.",
)
@click.option(
    "--broken",
    metavar="ID",
    help="Remove this one run, which cannot be read, with its files; `mlfn doctor` names such runs.",
)
def gc(chosen: Chosen, *, dry_run: bool, older_than: str | None, environments: bool, broken: str | None) -> None:
    """Remove files of the data folder, and of its own folder at the artifact root, that no run, function version or worker claims, once they are an hour old."""
    age = None if older_than is None else _seconds(older_than)
    session, moment = current_session(), now()
    if broken is not None:
        _remove_broken(chosen, session, broken, dry_run=dry_run, alone=age is None and not environments)
        return
    with _other_stores(session) as others:
        stores = [session.store, *others]
        found = find_garbage(
            stores,
            session.folder,
            now=moment,
            artifacts=session.artifacts,
            older_than=age,
            all_environments=environments,
        )
    gone = (
        found
        if dry_run
        else remove_garbage(session.store, session.folder, found, now=moment, artifacts=session.artifacts)
    )
    if chosen.json:
        _write_document(session, gone, dry_run=dry_run)
        return
    _print_items(gone)
    complain(f"{'would remove' if dry_run else 'removed'} {_counted(session, gone)}.")
    if len(gone) < len(found):
        complain(f"{len(found) - len(gone)} could not be removed, or came into use meanwhile.")


def _remove_broken(chosen: Chosen, session: Session, given: str, *, dry_run: bool, alone: bool) -> None:
    """Remove one run that cannot be read, after naming its faults and files."""
    if not alone:
        raise ParameterError(f"--broken {given} removes that one run: give --older-than and --environments without it.")
    run, moment = session.store.resolve_id(given), now()
    with _other_stores(session) as others:
        broken = find_broken(session.store, session.folder, run, others=others, now=moment, artifacts=session.artifacts)
    _refuse_in_use(session, broken)
    if not chosen.json:
        for fault in broken.faults:
            complain(f"{fault.table}.{fault.column} of {run[:8]}{f', {fault.item}' * bool(fault.item)}: {fault.why}.")
        _print_items(broken.found)
        complain(f"{'would remove' if dry_run else 'removing'} {_counted(session, broken.found)}.")
        if count := broken.orphans:
            complain(f"its {count} child{'ren' * (count != 1)} stay{'s' * (count == 1)}, without it.")
    gone = (
        list(broken.found)
        if dry_run
        else remove_broken(session.store, session.folder, broken, now=moment, artifacts=session.artifacts)
    )
    if chosen.json:
        _write_document(session, gone, dry_run=dry_run)
    elif len(gone) < len(broken.found):
        complain(f"{len(broken.found) - len(gone)} could not be removed.")


def _write_document(session: Session, gone: Sequence[Garbage], *, dry_run: bool) -> None:
    items = [{"kind": item.kind, "name": item.name, "run": item.run, "size": item.size} for item in gone]
    write_json(
        {"dry_run": dry_run, "folder": str(session.folder), "bytes": sum(item.size for item in gone), "removed": items}
    )


def _print_items(items: Sequence[Garbage]) -> None:
    for item in items:
        say(f"{item.kind:<11} {item.name}" + (f"  {amount(item.size)}" if item.kind != "run" else ""))


def _refuse_in_use(session: Session, broken: Broken) -> None:
    run = broken.run
    if not broken.faults:
        raise ParameterError(
            f"--broken {run[:8]}: every row of that run can be read; `mlfn show {run[:8]}` shows it, --older-than removes old runs."
        )
    if tags := [f"{row.name}:{row.tag}" for row in session.store.tags() if row.run == run]:
        raise ParameterError(
            f"--broken {run[:8]}: {', '.join(tags)} was promoted from that run; promote another run under that tag first."
        )
    state, owner = session.store.raw_state(run)
    if state in ("pending", "running") and session.owner_lives(owner):
        raise ParameterError(
            f"--broken {run[:8]}: it is {state} and its client lives; end that process, or wait for the run's end, first."
        )


def _counted(session: Session, gone: Sequence[Garbage]) -> str:
    runs = sum(item.kind == "run" for item in gone)
    files = len(gone) - runs
    words = [plural(runs, "run")] if runs else []
    words += [f"{files} file{'s' * (files != 1)} or folder{'s' * (files != 1)}"] if files else []
    return f"{' and '.join(words) or 'nothing'} from {session.folder}, {amount(sum(item.size for item in gone))}"


def _seconds(text: str) -> float:
    if text.strip().replace(".", "").isdigit():
        raise ParameterError(
            f"--older-than {text}: write the unit, as in {text.strip()}d for days or {text.strip()}h for hours."
        )
    return parse_seconds(text, option="--older-than")


@contextmanager
def _other_stores(session: Session) -> Iterator[list[Queries]]:
    """Open the folder's own SQLite file where another store is in force: its runs may have files here."""
    file = session.folder / "mlfn.db"
    if not file.exists() or session.store.label == str(file):
        yield []
        return
    with closing(open_queries("", session.folder)) as other:
        yield [other]
