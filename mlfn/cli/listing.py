"""`mlfn runs`, `mlfn show` and `mlfn logs`: they read rows and log files, and unpickle nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.describing import describe, describe_whole, plain
from mlfn.cli.printing import complain, say, write_json, write_table
from mlfn.cli.telling import local, span, tell_whole
from mlfn.errors import NotFoundError, ParameterError

_MOST_NAMED = 5
_COLUMNS = ("NAME", "PROJECT", "CREATED", "TOOK")
_ROWS = 10  # of a sweep's table


def _runs(
    chosen: Chosen,
    project: str | None,
    name: str | None,
    state: Sequence[str],
    label: Sequence[str],
    order: str,
    limit: int,
    since: str | None,
    parent: str | None,
) -> None:
    from mlfn import listing
    from mlfn.cli.families import progress_of
    from mlfn.client import current_client
    from mlfn.snapshot import from_record, in_a_line

    listed = listing.runs(
        project=project,
        name=name,
        state=state or None,
        label=_labels(label),
        since=since,
        order=order,
        limit=limit,
        parent=listing.run(parent) if parent else None,
    )
    client = current_client()
    records = [run.record for run in listed]
    metric = listed.metric
    scores = [listed.scores.get(record.id) for record in records] if metric else []
    described = [describe(client, record) for record in records]
    if chosen.json:
        for item, score in zip(described, scores):
            item["metrics"] = {metric: plain(score)}
        write_json(described)
        return
    if not described:
        asked = project or name or state or label or since or parent
        complain(listed.note or ("no run matches." if asked else "no runs here."))
        return
    sweeps = any(run["sweep"] for run in described)
    rows = [
        [
            run["id"][:8],
            *([str(run["iteration"] or "")] if parent else []),
            run["state"],
            *([progress_of(run)] if sweeps else []),
            run["name"],
            run["project"],
            local(run["created"]),
            span(run["seconds"]),
            *([_score(scores[number])] if metric else []),
            in_a_line(from_record(records[number]).params),
        ]
        for number, run in enumerate(described)
    ]
    columns = ["ID", *(["CHILD"] if parent else []), "STATE", *(["SWEEP"] if sweeps else []), *_COLUMNS]
    write_table([*columns, *([metric] if metric else []), "PARAMETERS"], rows, state=columns.index("STATE"))
    _tell_abandoned([run["id"] for run in described if run["abandoned"]])
    if len(described) == limit:
        complain(f"the first {limit} alone; give a higher --limit for more.")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _tell_abandoned(runs: Sequence[str]) -> None:
    if len(runs) == 1:
        complain(f"the client of {runs[0][:8]} is gone; `mlfn wait {runs[0][:8]}` carries it on.")
    elif runs:
        ids = " ".join(run[:8] for run in runs[:_MOST_NAMED]) + (" ..." if len(runs) > _MOST_NAMED else "")
        complain(f"the clients of {len(runs)} runs are gone; `mlfn wait {ids}` carries them on.")


def _show(chosen: Chosen, *, run: str, tree: bool) -> None:
    from mlfn import listing
    from mlfn.cli.families import describe_family, has_grandchildren, tell_family, tell_tree
    from mlfn.client import current_client

    record = listing.run(run).record
    client = current_client()
    described = describe_whole(client, record)
    family = describe_family(client, record) if record.sweep else None
    if chosen.json:
        write_json(described if family is None else {**described, "family": family})
        return
    if family is not None:  # what is swept has no default
        described["defaults"] = {k: v for k, v in described["defaults"].items() if k not in family["keys"]}
    tell_whole(described)
    if family is not None:
        say()
        tell_family(family, most=_ROWS)
    if tree or family is None or has_grandchildren(client, record):
        tell_tree(client, record, whole=tree)


def _logs(chosen: Chosen, *, run: str, follow: bool, attempt: int | None) -> None:
    from mlfn import listing

    item = listing.run(run)
    if attempt is not None and attempt not in [known.attempt for known in item.attempts]:
        tries = ", ".join(str(known.attempt) for known in item.attempts) or "none yet"
        raise NotFoundError(f"{item.name} ({item.id[:8]}) has no attempt {attempt}: {tries}.")
    if chosen.json:
        if follow:
            item.wait()
        write_json({"id": item.id, "attempt": attempt or item.record.attempt, "log": "".join(_chunks(item, attempt))})
        return
    try:
        if follow:
            # The log that is followed is that of the attempt at hand; its file is looked at below.
            _own_log(item, attempt)
            chunks = item.logs(follow=True, attempt=attempt)
        else:
            chunks = _chunks(item, attempt)
        for chunk in chunks:
            sys.stdout.write(chunk)
            sys.stdout.flush()
    except KeyboardInterrupt:
        from mlfn.cli import exits
        from mlfn.cli.watching import leave_at_once

        leave_at_once(exits.INTERRUPTED)


def _chunks(item: Any, attempt: int | None) -> Any:
    path = _own_log(item, attempt)
    if path is None:
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _own_log(item: Any, attempt: int | None) -> Path | None:
    """Return the log file; None where nothing was written. One of another data folder is refused, naming that."""
    from mlfn.client import current_client

    path: Path | None = item.log_path(attempt)
    folder = current_client().folder / "logs"
    recorded = [Path(tried.log) for tried in item.attempts if tried.log and attempt in (None, tried.attempt)]
    if path is None and recorded and not recorded[-1].is_relative_to(folder):
        raise NotFoundError(
            f"The log of {item.name} ({item.id[:8]}) lies at {recorded[-1]}, outside {folder}: "
            "it is of another data folder. Set MLFN_DATA to that one."
        )
    return path


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ParameterError(f"--label {item!r}: write key=value, as in --label team=risk.")
        labels[key] = value
    return labels


runs = MlfnCommand(
    "runs",
    params=[
        click.Option(["--project"], metavar="NAME", help="Only of this project; of all without it."),
        click.Option(["--name"], help="Only of this function.", metavar="NAME"),
        click.Option(["--state"], multiple=True, metavar="STATE", help="Only in this state; may be repeated."),
        click.Option(["--since"], metavar="TIME", help="Only submitted since: 2h, 7d, or 2026-03-01."),
        click.Option(["--parent"], metavar="ID", help="The children of this sweep, or of the run that submitted them."),
        click.Option(["--label"], multiple=True, metavar="KEY=VALUE", help="Only with this label; may be repeated."),
        click.Option(
            ["--order"], default="newest", metavar="ORDER", help="newest, oldest, or max.NAME or min.NAME of a metric."
        ),
        click.Option(["--limit"], default=20, type=click.IntRange(min=1), help="At most so many (20)."),
    ],
    callback=click.pass_obj(_runs),
    help="List runs, newest first.",
)
show = MlfnCommand(
    "show",
    params=[
        click.Option(["--tree"], is_flag=True, help="All runs below it, as a tree; without it, the first of them."),
        click.Argument(["run"], metavar="ID"),
    ],
    callback=click.pass_obj(_show),
    help="Show one run, by its id or the first digits of it.",
    no_args_is_help=True,
)
logs = MlfnCommand(
    "logs",
    params=[
        click.Option(["--follow", "-f"], is_flag=True, help="Go on until the run ends."),
        click.Option(["--attempt"], type=int, help="Of this attempt; of the last without it."),
        click.Argument(["run"], metavar="ID"),
    ],
    callback=click.pass_obj(_logs),
    help="Print what a run wrote to stdout and stderr.",
    no_args_is_help=True,
)
