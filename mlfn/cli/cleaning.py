"""`mlfn gc`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.printing import complain, say, write_json
from mlfn.cli.telling import size

if TYPE_CHECKING:
    from mlfn.client import Client
    from mlfn.library.cleanup import Broken, Garbage
    from mlfn.store.sql import SqlStore


def _gc(chosen: Chosen, *, dry_run: bool, older_than: str | None, environments: bool, broken: str | None) -> None:
    from mlfn.client import current_client
    from mlfn.identity import now
    from mlfn.library.cleanup import find_garbage, remove_garbage

    age = _seconds(older_than)
    client = current_client()
    if broken is not None:
        _remove_broken(chosen, client, broken, dry_run=dry_run, alone=age is None and not environments)
        return
    moment = now()
    stores = [client.store, *_other_store(client)]
    try:
        found = find_garbage(stores, client.folder, now=moment, older_than=age, all_environments=environments)
    finally:
        for other in stores[1:]:
            other.session.close()
    gone = found if dry_run else remove_garbage(client.store, client.folder, found, now=moment)
    total = sum(item.size for item in gone)
    if chosen.json:
        items = [{"kind": item.kind, "name": item.name, "run": item.run, "size": item.size} for item in gone]
        write_json({"dry_run": dry_run, "folder": str(client.folder), "bytes": total, "removed": items})
        return
    for item in gone:
        say(f"{item.kind:<11} {item.name}" + (f"  {size(item.size)}" if item.kind != "run" else ""))
    verb = "would remove" if dry_run else "removed"
    complain(f"{verb} {_counted(gone)} from {client.folder}, {size(total)}.")
    if len(gone) < len(found):
        complain(f"{len(found) - len(gone)} could not be removed, or came into use meanwhile.")


def _remove_broken(chosen: Chosen, client: Client, given: str, *, dry_run: bool, alone: bool) -> None:
    """Remove one run that cannot be read, after saying what goes with it."""
    from mlfn.errors import ParameterError
    from mlfn.identity import now
    from mlfn.library.cleanup import find_broken, remove_broken

    if not alone:
        raise ParameterError(f"--broken {given} removes that one run: give --older-than and --environments without it.")
    run = client.store.find_id(given)
    moment = now()
    others = list(_other_store(client))
    try:
        broken = find_broken(client.store, client.folder, run, others=others, now=moment)
    finally:
        for other in others:
            other.session.close()
    _refuse_in_use(client, broken)
    total = sum(item.size for item in broken.found)
    if not chosen.json:
        for fault in broken.faults:
            complain(f"{fault.table}.{fault.column} of {run[:8]}{f', {fault.item}' * bool(fault.item)}: {fault.why}.")
        for item in broken.found:
            say(f"{item.kind:<11} {item.name}" + (f"  {size(item.size)}" if item.kind != "run" else ""))
        verb = "would remove" if dry_run else "removing"
        complain(f"{verb} {_counted(broken.found)} from {client.folder}, {size(total)}.")
        if broken.orphans:
            complain(
                f"its {broken.orphans} child{'ren' * (broken.orphans != 1)} stay{'s' * (broken.orphans == 1)}, without it."
            )
    gone = list(broken.found) if dry_run else remove_broken(client.store, client.folder, broken, now=moment)
    if chosen.json:
        items = [{"kind": item.kind, "name": item.name, "run": item.run, "size": item.size} for item in gone]
        freed = sum(item.size for item in gone)
        write_json({"dry_run": dry_run, "folder": str(client.folder), "bytes": freed, "removed": items})
    elif len(gone) < len(broken.found):
        complain(f"{len(broken.found) - len(gone)} could not be removed.")


def _refuse_in_use(client: Client, broken: Broken) -> None:
    from mlfn.errors import ParameterError

    run = broken.run
    if not broken.faults:
        raise ParameterError(
            f"--broken {run[:8]}: every row of that run can be read; `mlfn show {run[:8]}` shows it, --older-than removes old runs."
        )
    if tags := [f"{row.name}:{row.tag}" for row in client.store.tags() if row.run == run]:
        raise ParameterError(
            f"--broken {run[:8]}: {', '.join(tags)} was promoted from that run; promote another run under that tag first."
        )
    state, owner = client.store.raw_state(run)
    if state in ("pending", "running") and client.owner_lives(owner):
        raise ParameterError(
            f"--broken {run[:8]}: it is {state} and its client lives; end that process, or wait for the run's end, first."
        )


def _counted(gone: Sequence[Garbage]) -> str:
    runs = sum(item.kind == "run" for item in gone)
    files = len(gone) - runs
    words = [f"{runs} run{'s' * (runs != 1)}"] if runs else []
    words += [f"{files} file{'s' * (files != 1)} or folder{'s' * (files != 1)}"] if files else []
    return " and ".join(words) or "nothing"


def _seconds(text: str | None) -> float | None:
    from mlfn.errors import ParameterError
    from mlfn.spec.values import parse_seconds

    if text is None:
        return None
    if text.strip().replace(".", "").isdigit():
        raise ParameterError(
            f"--older-than {text}: write the unit, as in {text.strip()}d for days or {text.strip()}h for hours."
        )
    return parse_seconds(text, option="--older-than")


def _other_store(client: Client) -> Iterator[SqlStore]:
    """Yield the folder's own SQLite file where another store is in force: its runs may have files here."""
    from mlfn.store import open_store

    file = client.folder / "mlfn.db"
    if file.exists() and client.store.session.engine.label != str(file):
        yield open_store("", client.folder)


gc = MlfnCommand(
    "gc",
    params=[
        click.Option(["--dry-run"], is_flag=True, help="Say what would be removed, and remove nothing."),
        click.Option(
            ["--older-than"],
            metavar="AGE",
            help="Remove runs that ended so long ago, too, as 30d or 12h, with their files.",
        ),
        click.Option(
            ["--environments"],
            is_flag=True,
            help="Remove every environment of requirements= that nothing runs in; else those unused for 30 days.",
        ),
        click.Option(
            ["--broken"],
            metavar="ID",
            help="Remove this one run, which cannot be read, with its files; `mlfn doctor` names such runs.",
        ),
    ],
    callback=click.pass_obj(_gc),
    help="Remove files of the data folder that no run, function version or worker claims, once they are an hour old.",
)
