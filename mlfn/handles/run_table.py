"""A listing of runs as a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.formats.base import load
from mlfn.spec.record import RunRecord
from mlfn.store.sweeps import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def make_table(store: Reader, records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return one row a run: run, name, project, state, created, seconds, its parameters, its numbers, and its error.

    A parameter that would have to be loaded is there by its type.
    """
    pandas = load("pandas")
    scores = store.scores_among([record.id for record in records])
    params = [_params(record) for record in records]
    names = list(dict.fromkeys(name for own in params for name in own))
    numbers = list(dict.fromkeys(name for record in records for name in scores.get(record.id, {})))
    columns: dict[str, Any] = {
        "run": [record.id for record in records],
        "name": [record.name for record in records],
        "project": [record.project for record in records],
        "state": [record.state.value for record in records],
        "created": pandas.to_datetime([record.created for record in records], unit="s", utc=True),
        "seconds": [record.duration for record in records],
    }
    for name in names:
        columns[f"param.{name}" if name in columns else name] = [own.get(name) for own in params]
    for name in numbers:
        columns[f"result.{name}" if name in columns else name] = [scores.get(r.id, {}).get(name) for r in records]
    columns["error"] = [record.failure.first_line if record.failure else None for record in records]
    return pandas.DataFrame(columns)  # type: ignore[no-any-return]


def _params(record: RunRecord) -> dict[str, Any]:
    return {name: _plain(value) for name, value in record.params.items()}


def _plain(stored: Mapping[str, Any]) -> Any:
    if stored.get("packer") == "json" and "inline" in stored:
        try:
            return tagged_json.decode(stored["inline"])
        except Exception:  # noqa: BLE001 - a row may hold anything
            return "<unreadable>"
    if "input" in stored:
        return stored["input"]
    return stored.get("shown") or f"<{stored.get('type', 'value')}>"
