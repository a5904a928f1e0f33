"""`mlfn runs`, `mlfn show` and `mlfn logs`: they read rows and log files, and unpickle nothing."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfn.errors import NotFoundError, ParameterError
from mlfn.host.identity import is_alive
from mlfn.host.private_files import ensure_folder
from mlfn.settings import current as settings
from mlfn.spec.record import RunRecord
from mlfn.store import open_queries
from mlfn.ui import text
from mlfn.ui.cli.commands import Chosen, command
from mlfn.ui.cli.printing import (
    complain,
    print_children,
    read_view,
    say,
    terminal_width,
    write_json,
    write_lines,
    write_table,
)
from mlfn.ui.views import Source

if TYPE_CHECKING:
    from mlfn.backends.logs import AttemptLog
    from mlfn.ui.views.run import RunView

_MOST_NAMED = 5
_ROWS = 10  # of a sweep's table
_LINE_BYTES = 200  # a line, as a rule


@contextmanager
def open_source() -> Iterator[Source]:
    """Open the store in force for reading; what dead clients left is taken in first."""
    current = settings.current()
    folder = ensure_folder(settings.data_folder(current))
    store = open_queries(current.store, folder)
    try:
        if not all(map(is_alive, store.clients())):
            from mlfn.dispatch.session import current_session

            current_session().reconcile()
        yield Source(store, folder)
    finally:
        store.close()


@command("runs")
@click.option("--project", metavar="NAME", help="Only of this project; of all without it.")
@click.option("--name", metavar="NAME", help="Only of this function.")
@click.option("--state", multiple=True, metavar="STATE", help="Only in this state; may be repeated.")
@click.option("--since", metavar="TIME", help="Only submitted since: 2h, 7d, or 2026-03-01.")
@click.option("--parent", metavar="RUN", help="The children of this sweep, or of the run that submitted them.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only with this label; may be repeated.")
@click.option("--order", default="newest", metavar="ORDER", help="newest, oldest, or max.NAME or min.NAME of a metric.")
@click.option("--where", metavar="CONDITION", help="Only where this holds, as 'lr < 0.1 and max.accuracy > 0.9'.")
@click.option("--limit", "-n", default=20, type=click.IntRange(min=1), help="At most so many (20).")
def runs(chosen: Chosen, *, label: Sequence[str], state: Sequence[str], parent: str | None, **asked: Any) -> None:
    """List runs, newest first."""
    from mlfn.handles.run_query import find_run, make_query
    from mlfn.ui.views.listing import read_listing

    query = {**asked, "state": state or None, "label": _labels(label)}
    make_query(**query)  # refused before anything is opened
    with open_source() as source:
        if parent:
            query["parent"] = find_run(source.store, parent).id
        listing = read_listing(source, make_query(**query))
    if chosen.json:
        from mlfn.ui.json_documents import listing_document

        write_json(listing_document(listing))
        return
    if not listing.runs:
        is_filtered = any((asked["project"], asked["name"], state, label, asked["since"], asked["where"], parent))
        complain(listing.note or ("no run matches." if is_filtered else "no runs here."))
        return
    write_table(text.listing_table(listing, numbered=bool(parent)))
    _name_abandoned([run.id[:8] for run in listing.runs if run.is_abandoned])
    if len(listing.runs) == asked["limit"]:
        complain(f"the first {asked['limit']} alone; give a higher --limit for more.")


def _name_abandoned(ids: Sequence[str]) -> None:
    if len(ids) == 1:
        complain(f"the process that submitted {ids[0]} is gone; `mlfn wait {ids[0]}` resumes it.")
    elif ids:
        named = " ".join(ids[:_MOST_NAMED]) + (" ..." if len(ids) > _MOST_NAMED else "")
        complain(f"the processes that submitted {len(ids)} of them are gone; `mlfn wait {named}` resumes them.")


@command("show", no_args_is_help=True)
@click.option("--tree", is_flag=True, help="All runs below it, as a tree; without it, the first of them.")
@click.argument("run", metavar="RUN")
def show(chosen: Chosen, *, run: str, tree: bool) -> None:
    """Show one run: by the first digits of its id, the newest of a function or sweep by that name, or last."""
    from mlfn.handles.run_query import find_run
    from mlfn.ui.views.run import REPORT, WHOLE, RunView

    with open_source() as source:
        view = read_view(source, find_run(source.store, run), WHOLE if tree else REPORT)
    if chosen.json:
        from mlfn.ui.json_documents import document

        write_json(document(view))
    elif isinstance(view, RunView):
        write_lines(text.report(view, width=terminal_width()))
        _print_tree(view)
    else:
        print_children(view, _ROWS)
        say()
        write_lines(text.report(view.run, view.shared, width=terminal_width()))
        if tree or any(branch.branches for branch in view.run.branches):
            _print_tree(view.run)


def _print_tree(run: RunView) -> None:
    if run.branches:
        write_lines(["", *text.tree(run)])


@command("logs", no_args_is_help=True)
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=int, help="Of this attempt; of the last without it.")
@click.option("--rank", type=int, help="Only what this rank wrote, from 0.")
@click.option("--tail", "-n", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of what is there.")
@click.argument("run", metavar="RUN")
def logs(chosen: Chosen, *, run: str, follow: bool, attempt: int | None, rank: int | None, tail: int | None) -> None:
    """Print what a run wrote to stdout and stderr; of a sweep what its children did, each line after its child's number.

    RUN is as `mlfn show` takes it.
    """
    from mlfn.handles.run_query import find_run

    with open_source() as source:
        record = find_run(source.store, run)
        of_a_child = next((name for name, value in (("attempt", attempt), ("rank", rank)) if value is not None), None)
        if record.sweep and of_a_child:
            raise ParameterError(
                f"{record.id[:8]} is a sweep: --{of_a_child} is of a child; `mlfn runs --parent {run}` lists them."
            )
        if not follow:
            _print_log(chosen, record, attempt, _chunks(source, record, attempt, rank, tail))
            return
        skipped = 0
        if tail is not None:
            skipped = _before_last_lines("".join(_chunks(source, record, attempt, rank, None)), tail)
    _follow(record, attempt, rank, skipped=skipped, quietly=chosen.json)
    if chosen.json:
        with open_source() as source:
            record = source.store.get_run(record.id)
            _print_log(chosen, record, attempt, _chunks(source, record, attempt, rank, tail))


def _chunks(
    source: Source, record: RunRecord, attempt: int | None, rank: int | None, tail: int | None
) -> Iterable[str]:
    if record.sweep:
        return _with_last_lines(_children_chunks(source, record), tail)
    log = _log(source, record, attempt)
    if rank is not None:
        from mlfn.backends.logs import checked_of_rank

        plan = source.store.get_plan(record.plan)
        return _with_last_lines(checked_of_rank(_texts(log) if log else (), rank, record, plan), tail)
    if log is None:
        return ()
    return _texts(log) if tail is None else [_last_lines(log, tail)]


def _with_last_lines(chunks: Iterable[str], tail: int | None) -> Iterable[str]:
    if tail is None:
        return chunks
    text = "".join(chunks)
    return [text[_before_last_lines(text, tail) :]]


def _children_chunks(source: Source, record: RunRecord) -> Iterator[str]:
    from mlfn.backends.logs import numbered

    for row in source.store.children(record.id):
        if attempts := source.store.attempts(row.run):
            yield from numbered(_texts(source.log(attempts[-1])), row.iteration)


def _before_last_lines(text: str, lines: int) -> int:
    """Return how many characters stand before the last lines; the end of the text ends a line."""
    kept = text.splitlines(keepends=True)[-lines:] if lines else []
    return len(text) - sum(map(len, kept))


def _last_lines(log: AttemptLog, lines: int) -> str:
    """Return the last lines of a log, of which only the end is read."""
    most = _LINE_BYTES * (lines + 1)
    while True:
        data, size = log.tail(most)
        text = data.decode("utf-8", "replace")
        begin = _before_last_lines(text, lines)
        if begin > 0 or size <= most or not lines:  # where the first line has lost its beginning, more is read
            return text[begin:]
        most *= 2


def _print_log(chosen: Chosen, record: RunRecord, attempt: int | None, chunks: Iterable[str]) -> None:
    if chosen.json:
        write_json({"id": record.id, "attempt": attempt or record.attempt, "log": "".join(chunks)})
        return
    for chunk in chunks:
        sys.stdout.write(chunk)
        sys.stdout.flush()


def _follow(record: RunRecord, attempt: int | None, rank: int | None, *, skipped: int, quietly: bool) -> None:
    from mlfn.handles import finders
    from mlfn.ui.cli import exits
    from mlfn.ui.cli.watching import copy_logs, leave_at_once

    try:
        run = finders.run(record.id)
        if quietly:
            run.wait()
        else:
            copy_logs(_without_first(run.logs(follow=True, attempt=attempt, rank=rank), skipped), sys.stdout)
    except KeyboardInterrupt:
        leave_at_once(exits.INTERRUPTED)


def _without_first(chunks: Iterable[str], characters: int) -> Iterator[str]:
    for chunk in chunks:
        if rest := chunk[characters:]:
            yield rest
        characters = max(0, characters - len(chunk))


def _texts(log: AttemptLog) -> Iterator[str]:
    from mlfn.backends.logs import iter_chunks

    text = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in iter_chunks(log.read):
        yield text.decode(chunk)
    yield text.decode(b"", final=True)


def _log(source: Source, record: RunRecord, attempt: int | None) -> AttemptLog | None:
    """Return the log; None where there was no attempt. Say so where there is none of an attempt that has ended."""
    attempts = source.store.attempts(record.id)
    if attempt is not None and attempt not in [item.attempt for item in attempts]:
        known = ", ".join(str(item.attempt) for item in attempts) or "none yet"
        raise NotFoundError(f"{record.name} ({record.id[:8]}) has no attempt {attempt}: {known}.")
    found = next((item for item in reversed(attempts) if attempt in (None, item.attempt)), None)
    if found is None:
        return None
    log, folder = source.log(found), source.folder / "logs"
    has_ended = found.execution is not None and found.ended is not None and record.part_of is None
    if has_ended and log.where is None:
        complain(_no_log(record, folder))
    return log


def _no_log(record: RunRecord, folder: Path) -> str:
    short = record.id[:8]
    if record.failure is not None:
        why = record.failure.first_line
        return f"{record.name} ({short}) wrote nothing before it failed: {why}; `mlfn show {short}` says more."
    return f"no log of {record.name} ({short}) is in {folder}: it wrote nothing, or ran with another data folder (set MLFN_DATA to that one)."


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ParameterError(f"--label {item!r}: write key=value, as in --label team=risk.")
        labels[key] = value
    return labels
