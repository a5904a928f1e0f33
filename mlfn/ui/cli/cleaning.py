"""`mlfn rm` and `mlfn gc`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import click

from mlfn.dispatch.garbage import Garbage, freed_by
from mlfn.dispatch.garbage_collection import Broken, Wanted, find_broken, find_garbage, remove_broken, remove_garbage
from mlfn.dispatch.remains import Left, find_left, remove_left
from mlfn.dispatch.removal import Removal, find_removal, remove_found
from mlfn.dispatch.session import Session, current_session
from mlfn.errors import ParameterError
from mlfn.handles.run_query import find_run
from mlfn.host.identity import now
from mlfn.settings import current as settings
from mlfn.spec.values import parse_bytes, parse_seconds
from mlfn.store import open_queries
from mlfn.store.sweeps import Reader
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.printing import complain, is_terminal, say, write_json
from mlfn.ui.text import state_text
from mlfn.ui.wording import amount, plural


@command("rm", no_args_is_help=True)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def rm(chosen: Chosen, runs: Sequence[str], *, yes: bool) -> None:
    """Remove runs that have ended, and sweeps with their children: their rows, artifacts and logs. A terminal is asked first.

    RUN is as `mlfn show` takes it: of a name, the newest run alone. A run that another one or a tagged version needs is refused.
    """
    session, moment = current_session(), now()
    session.reconcile()
    named = [find_run(session.store, run) for run in runs]
    removal = find_removal(session.store, session.folder, named, now=moment, artifacts=session.artifacts)
    if not yes and is_terminal(sys.stdin):
        _print_removal(removal)
        if not click.confirm("Remove them?" if len(removal.runs) + removal.below > 1 else "Remove it?", err=True):
            complain("nothing was removed.")
            return
    with _other_stores(session) as others:
        gone = remove_found(
            session.store, session.folder, removal, others=others, now=moment, artifacts=session.artifacts
        )
    if chosen.json:
        _write_document(session, gone, dry_run=False)
        return
    complain(f"removed {_counted(session, gone)}.")
    if len(gone) < len(removal.found):
        complain(f"{len(removal.found) - len(gone)} could not be removed; `mlfn gc` removes them later.")


def _print_removal(removal: Removal) -> None:
    for record in removal.runs:
        click.echo(f"{record.id[:8]}  {state_text(str(record.state))}  {record.name}", err=True)
    if removal.below:
        click.echo(f"and {plural(removal.below, 'run')} below", err=True)
    click.echo(f"{amount(freed_by(removal.found))} in all", err=True)


@command("gc")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing.")
@click.option(
    "--older-than", metavar="AGE", help="Remove runs that ended so long ago, too, as 30d or 12h, with their files."
)
@click.option("--larger-than", metavar="SIZE", help="Remove ended runs whose files take more, too, as 1Gi or 500M.")
@click.option("--name", metavar="NAME", help="Remove ended runs of this function, too.")
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
def gc(
    chosen: Chosen,
    *,
    dry_run: bool,
    yes: bool,
    older_than: str | None,
    larger_than: str | None,
    name: str | None,
    environments: bool,
    broken: str | None,
) -> None:
    """Remove files of the data folder, and of its own folder at the artifact root, that no run, function version or worker claims, once they are an hour old.

    Of --older-than, --larger-than and --name, all that are given must hold of a run; a sweep counts with its children. A run
    that one which stays needs, or a tagged version, stays.

    At the place of --on, what dead clients left there goes, too, as Jobs in a cluster; a terminal is asked before.
    """
    wanted = _wanted(older_than, larger_than, name)
    session, moment = current_session(), now()
    if broken is not None:
        _remove_broken(chosen, session, broken, dry_run=dry_run, alone=wanted is None and not environments)
        return
    with _other_stores(session) as others:
        stores = [session.store, *others]
        found = find_garbage(
            stores,
            session.folder,
            now=moment,
            artifacts=session.artifacts,
            wanted=wanted,
            all_environments=environments,
        )
        place = settings.current().on
        left = find_left(place, stores, session.folder, lives=session.owner_lives)
    if left and not dry_run and not yes and is_terminal(sys.stdin):
        _print_items([_shown(item) for item in left])
        if not click.confirm(f"Remove what lies on {place}?", err=True):
            left = []
    gone_there = left if dry_run else remove_left(session.store, left)
    gone = (
        found
        if dry_run
        else remove_garbage(session.store, session.folder, found, now=moment, artifacts=session.artifacts)
    )
    everything = [*map(_shown, gone_there), *gone]
    if chosen.json:
        _write_document(session, everything, dry_run=dry_run)
        return
    _print_items(everything)
    complain(f"{'would remove' if dry_run else 'removed'} {_counted(session, gone)}.")
    if gone_there:
        complain(f"{'would remove' if dry_run else 'removed'} {plural(len(gone_there), 'object')} on {place}.")
    if len(everything) < len(found) + len(left):
        complain(f"{len(found) + len(left) - len(everything)} could not be removed, or came into use meanwhile.")


def _shown(left: Left) -> Garbage:
    """Return what lies at an engine as a line of what goes."""
    return Garbage("object", left.found.name, 0, age=left.found.age)


def _remove_broken(chosen: Chosen, session: Session, given: str, *, dry_run: bool, alone: bool) -> None:
    """Remove one run that cannot be read, after naming its faults and files."""
    if not alone:
        raise ParameterError(f"--broken {given} removes that one run: give the other options without it.")
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
    write_json({"dry_run": dry_run, "folder": str(session.folder), "bytes": freed_by(gone), "removed": items})


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
    return f"{' and '.join(words) or 'nothing'} from {session.folder}, {amount(freed_by(gone))}"


def _wanted(older_than: str | None, larger_than: str | None, name: str | None) -> Wanted | None:
    if older_than is larger_than is name is None:
        return None
    return Wanted(
        None if older_than is None else _seconds(older_than),
        None if larger_than is None else parse_bytes(larger_than, option="--larger-than"),
        name,
    )


def _seconds(text: str) -> float:
    if text.strip().replace(".", "").isdigit():
        raise ParameterError(
            f"--older-than {text}: write the unit, as in {text.strip()}d for days or {text.strip()}h for hours."
        )
    return parse_seconds(text, option="--older-than")


@contextmanager
def _other_stores(session: Session) -> Iterator[list[Reader]]:
    """Open the folder's own SQLite file where another store is in force: its runs may have files here."""
    file = session.folder / "mlfn.db"
    if not file.exists() or session.store.label == str(file):
        yield []
        return
    with closing(open_queries("", session.folder)) as other:
        yield [other]
