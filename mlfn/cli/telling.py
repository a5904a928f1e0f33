"""A run in words."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

import click

from mlfn.cli import printing
from mlfn.cli.printing import harmless, say, state_text, write_facts

_LONGEST = 100
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def tell_end(run: Mapping[str, Any]) -> None:
    """Write how a run ended, its results and where they lie."""
    facts = [("run", run["id"]), ("state", _state(run)), *_named(run["outputs"])]
    facts += [(name, run[name]) for name in ("artifacts", "log") if run[name]]
    write_facts([(name, text if name == "state" else harmless(text)) for name, text in facts])
    tell_error(run, err=True)


def tell_whole(run: Mapping[str, Any]) -> None:
    """Write all that is known of a run."""
    facts = [
        ("run", run["id"]),
        ("function", f"{run['name']}  (project {run['project']}, version {run['function'][:12]}, on {run['place']})"),
        ("state", _state(run)),
        ("created", local(run["created"])),
    ]
    facts += [(name, local(run[name])) for name in ("started", "ended") if run[name]]
    if run["parent"]:
        number = f", of which it is child {run['iteration']}" if run["iteration"] else ""
        facts.append(("parent", f"{run['parent']}{number}"))
    if run["reused"]:
        facts.append(("reused", f"{run['reused']}, whose results it took over"))
    facts += [(name, run[name]) for name in ("artifacts", "log") if run[name]]
    if run["labels"]:
        facts.append(("labels", ", ".join(f"{key}={value}" for key, value in run["labels"].items())))
    if run["abandoned"]:
        facts.append(("note", f"its client is gone; `mlfn wait {run['id'][:8]}` carries it on"))
    if run["progress"]:
        facts.append(("progress", _progress(run["progress"])))
    write_facts([(name, text if name == "state" else harmless(text)) for name, text in facts])
    defaults = [(name, f"{text}  (default)") for name, text in _named(run["defaults"])]
    _section("parameters", [*_named(run["params"]), *defaults])
    _section("outputs", _named(run["outputs"]))
    _section("metrics", [(name, str(value)) for name, value in run["metrics"].items()])
    _section("attempts", [(str(a["attempt"]), _attempt(a)) for a in run["attempts"]])
    _section("events", [(local(e["time"]), " ".join(filter(None, (e["what"], e["detail"])))) for e in run["events"]])
    tell_error(run, err=False)


def tell_error(run: Mapping[str, Any], *, err: bool) -> None:
    """Write why a run failed, with the user's own frames."""
    error = run["error"]
    if error is None or run["state"] != "failed":
        return
    text = error["traceback"] or f"{error['type']}: {error['message']}"
    if not err:
        _section("error", [])
    click.echo(harmless(text.rstrip()), err=err)


def shown_value(described: Mapping[str, Any]) -> str:
    """Return one parameter or output in a line."""
    if "output" in described:
        return f"output {described['output']['key']!r} of run {described['output']['run'][:8]}"
    if "input" in described:
        return f"input {described['input']}"
    if described.get("shown"):
        return str(described["shown"])
    if "path" in described:
        return f"{_type(described)}, {size(described['size'])}  {described['path']}"
    if "shown" in described:
        return _type(described)
    text = json.dumps(described["value"], ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def size(count: int | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return "size unknown"
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def local(time: str | None) -> str:
    """Return an ISO time as the reader's clock shows it."""
    if time is None:
        return "-"
    return datetime.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """Return a duration for people."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def _state(run: Mapping[str, Any]) -> str:
    words = state_text(run["state"])
    if run["reason"] and run["state"] == "failed":
        words += f" ({run['reason']})"
    return words + (f" after {span(run['seconds'])}" if run["seconds"] is not None else "")


def _named(described: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(name, shown_value(item)) for name, item in described.items()]


def _type(described: Mapping[str, Any]) -> str:
    from mlfn.snapshot import type_shown  # what loads more than most commands need

    return type_shown(str(described["type"] or described["packer"]))


def _progress(progress: Mapping[str, Any]) -> str:
    done = f"{progress.get('done')}" + (f"/{progress['total']}" if progress.get("total") else "")
    return f"{done} {progress.get('text') or ''}".strip()


def _attempt(attempt: Mapping[str, Any]) -> str:
    reason = f" ({attempt['reason']})" if attempt["reason"] else ""
    failure = f"  {attempt['failure']}" if attempt["failure"] else ""
    return f"{attempt['state']}{reason}  {local(attempt['started'])} .. {local(attempt['ended'])}{failure}"


def _section(title: str, facts: list[tuple[str, str]]) -> None:
    if facts or title == "error":
        say()
        say(click.style(title, bold=True))
        printing.write_facts([(harmless(name), harmless(text)) for name, text in facts], indent="  ")
