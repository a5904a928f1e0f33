"""What a context is in a service: a logger, the secrets that the function names, and metrics that the service shows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from mlfn.worker.context import Context, Reporter

logger = logging.getLogger("mlfn.serving")


class ServiceReporter(Reporter):
    """Keeps the newest point of each series, for ``/metrics``; what only a run can keep is left out, and said once."""

    def __init__(self, name: str, secrets: Mapping[str, str]) -> None:
        super().__init__()
        self.gauges: dict[str, float] = {}
        self.changes = 0  # how often a gauge was set
        self._name = name
        self._secrets = secrets
        self._lock = threading.Lock()
        self._said = False

    def metric(self, name: str, step: int | None, value: float) -> str | None:
        self.gauges[name] = value
        self.changes += 1
        return None

    def constraint(self, name: str, value: float) -> None:
        self.metric(name, None, value)

    def open_child(self, params: Mapping[str, Any]) -> tuple[int, Reporter]:
        self._leave_out("children")
        return 1, self

    def mark_best(self, child: Reporter) -> None:
        self._leave_out("children")

    def output(self, key: str, value: Any, *, file: bool, hints: Mapping[str, Any]) -> None:
        self._leave_out("artifacts" if file else "results")

    def secret(self, name: str) -> str:
        return self._secrets[name] if name in self._secrets else super().secret(name)

    def _leave_out(self, what: str) -> None:
        with self._lock:
            said, self._said = self._said, True
        if not said:
            logger.warning(
                "A service keeps no %s of %s: %s.submit() makes a run, which does", what, self._name, self._name
            )


def service_context(name: str, project: str, reporter: ServiceReporter, params: Mapping[str, Any]) -> Context:
    """Return the context of one event."""
    return Context(reporter=reporter, name=name, project=project, params=params)
