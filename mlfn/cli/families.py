"""A sweep and its children, and runs below runs: as plain data, as a table, as a tree. Rows are read, nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlfn.cli.describing import describe_param, plain
from mlfn.cli.printing import complain, harmless, say, state_text, write_facts, write_table
from mlfn.cli.telling import shown_value, span
from mlfn.client import Client
from mlfn.errors import OptionError
from mlfn.spec.record import RunRecord
from mlfn.store.families import ChildRow
from mlfn.store.reading import RunFilter
from mlfn.sweep.body import SweepBody
from mlfn.sweep.child import Child
from mlfn.sweep.grammar import Selector
from mlfn.sweep.selection import best, pareto
from mlfn.sweep.standing import standing_of

_FEW = 10  # branches of each run in a short tree
_MANY = 10_000
_DEEP = 6
_LONGEST = 40


def describe_family(client: Client, record: RunRecord) -> dict[str, Any]:
    """Return what a sweep has come to: its counts, its best, and every child."""
    body = SweepBody.from_json(client.store.sweep_body(record.id))
    rows = client.store.children(record.id)
    scores = client.store.family_scores(record.id)
    standing = standing_of(client.store, body)
    leader, front = _leading(standing.children(rows, scores), standing.selectors)
    children = [_child(client, row, scores.get(row.run, {})) for row in rows]
    return {
        "size": body.size,
        "counts": {state.value: count for state, count in client.store.child_counts(record.id).items()},
        "keys": list(body.keys or dict.fromkeys(key for row in rows for key in row.point)),
        "select": list(body.select),
        "subject_to": list(body.subject_to),
        "parallel": body.parallel,
        "stop_when": body.stop_when,
        "stopped": (record.progress or {}).get("stopped"),
        "after": body.after,
        "best": next((child for child in children if child["iteration"] == leader), None),
        "front": front,
        "children": children,
    }


def tell_family(family: Mapping[str, Any], *, most: int) -> None:
    """Write a sweep's counts, its best and a table of its children: the first ones, or the best where there are more."""
    counts = ", ".join(f"{count} {state_text(state)}" for state, count in family["counts"].items()) or "none yet"
    whole = f" of {family['size']}" if family["size"] is not None else ""
    facts = [("children", f"{sum(family['counts'].values())}{whole}: {counts}")]
    if family["stopped"]:
        facts.append(("stopped", harmless(family["stopped"])))
    if family["best"] is not None:
        facts.append(("best", harmless(_best(family))))
    if family["front"]:
        facts.append(("front", ", ".join(f"child {number}" for number in family["front"])))
    write_facts(facts)
    children = family["children"]
    if not children:
        return
    shown = _shown(family, most)
    say()
    _write_table(family, shown)
    if len(shown) < len(children):
        which = f"the best {len(shown)} by {family['select'][0]}" if family["best"] is not None else f"the first {most}"
        complain(f"{which} of {len(children)} children; --json has all.")


def tell_tree(client: Client, record: RunRecord, *, whole: bool) -> bool:
    """Write the runs below a run as a tree, a few of each run or all; say whether there are any."""
    lines = list(_branches(client, record, "", 1, _MANY if whole else _FEW))
    if lines:
        say()
        say(f"{record.id[:8]}  {harmless(record.name)}")
        for line in lines:
            say(line)
    return bool(lines)


def has_grandchildren(client: Client, record: RunRecord) -> bool:
    """Say whether one of the first children of a run has children of its own."""
    children = client.store.list_runs(RunFilter(parent=record.id), limit=_FEW, newest=False)
    return any(client.store.list_runs(RunFilter(parent=child.id), limit=1) for child in children)


def progress_of(run: Mapping[str, Any]) -> str:
    """Return how many of a sweep's children have ended, in a cell."""
    if not run["sweep"]:
        return ""
    progress = run["progress"] or {}
    total = progress.get("total")
    return f"{progress.get('done', 0)}/{'?' if total is None else total}"


def _leading(children: Sequence[Child], selectors: Sequence[Selector]) -> tuple[int | None, list[int]]:
    if not selectors:
        return None, []
    try:
        leader = best(children, selectors)
    except OptionError:  # no child reports the metric: the sweep's own error says so
        return None, []
    front = pareto(children, selectors) if len(selectors) > 1 else []
    return None if leader is None else leader.iteration, [child.iteration for child in front]


def _child(client: Client, row: ChildRow, scores: Mapping[str, float]) -> dict[str, Any]:
    failure = row.failure or {}
    first = str(failure.get("message", "")).partition("\n")[0]
    return {
        "iteration": row.iteration,
        "id": row.run,
        "state": row.state.value,
        "params": {key: describe_param(client, value) for key, value in row.point.items()},
        "metrics": {name: plain(value) for name, value in sorted(scores.items())},
        "seconds": None if row.started is None or row.ended is None else round(row.ended - row.started, 6),
        "error": f"{str(failure.get('type', '')).rpartition('.')[2]}: {first}" if failure else None,
        "reused": row.reused,
    }


def _best(family: Mapping[str, Any]) -> str:
    child = family["best"]
    params = " ".join(f"{key}={_cell(value)}" for key, value in child["params"].items())
    return f"child {child['iteration']} ({child['id'][:8]}) by {family['select'][0]}: {params}"


def _shown(family: Mapping[str, Any], most: int) -> list[Mapping[str, Any]]:
    children: list[Mapping[str, Any]] = family["children"]
    if len(children) <= most or family["best"] is None:
        return children[:most]
    from mlfn.sweep.grammar import parse_selector

    selector = parse_selector(family["select"][0])
    sign = -1 if selector.direction == "max" else 1

    def rank(child: Mapping[str, Any]) -> tuple[bool, bool, float, int]:
        value = child["metrics"].get(selector.name)
        known = child["state"] == "succeeded" and isinstance(value, (int, float))
        return (
            child["iteration"] != family["best"]["iteration"],
            not known,
            sign * value if known else 0.0,
            child["iteration"],
        )

    return sorted(children, key=rank)[:most]


def _write_table(family: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> None:
    metrics = list(dict.fromkeys(name for child in children for name in child["metrics"]))
    failed = any(child["error"] for child in children)
    leading = {*family["front"], *([family["best"]["iteration"]] if family["best"] is not None else [])}
    rows = [
        [
            "*" if child["iteration"] in leading else "",
            str(child["iteration"]),
            child["state"],
            *(_cell(child["params"].get(key)) for key in family["keys"]),
            *(_number(child["metrics"].get(name)) for name in metrics),
            span(child["seconds"]),
            child["id"][:8],
            *([child["error"] or ""] if failed else []),
        ]
        for child in children
    ]
    columns = ["", "CHILD", "STATE", *family["keys"], *metrics, "TOOK", "ID", *(["ERROR"] if failed else [])]
    write_table(columns, rows, state=2)


def _cell(described: Mapping[str, Any] | None) -> str:
    if described is None:
        return "-"
    value = described.get("value")
    if isinstance(value, str):
        text = value
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = shown_value(described)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


def _branches(client: Client, record: RunRecord, indent: str, depth: int, most: int) -> Iterator[str]:
    if depth > _DEEP:
        return
    children = client.store.list_runs(RunFilter(parent=record.id), limit=most + 1, newest=False)
    for number, child in enumerate(children[:most], start=1):
        last = number == len(children)
        yield f"{indent}{'└─' if last else '├─'} {_in_a_line(client, child)}"
        yield from _branches(client, child, indent + ("   " if last else "│  "), depth + 1, most)
    if len(children) > most:
        count = client.store.count_runs(RunFilter(parent=record.id))
        yield f"{indent}└─ ... {count - most} more; --tree shows all"


def _in_a_line(client: Client, record: RunRecord) -> str:
    params = " ".join(f"{key}={_cell(describe_param(client, value))}" for key, value in record.params.items())
    number = f"{record.iteration}  " if record.iteration else ""
    return f"{number}{record.id[:8]}  {state_text(record.state.value)}  {harmless(f'{record.name}  {params}').rstrip()}"
