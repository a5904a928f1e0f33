"""What all runs of one plan share on the worker's side: environment, folders, limits, code and secrets."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlfn.artifacts.codec import PinnedCodec
from mlfn.artifacts.store import ArtifactStore
from mlfn.code import payload
from mlfn.errors import EnvironmentBuildError, StorageError
from mlfn.host.memory import counted_memory, lift_memory_limit, limit_memory
from mlfn.settings import members
from mlfn.worker import children
from mlfn.worker.execution import reserve_memory, resolve_secrets
from mlfn.worker.logging_setup import set_up_logging
from mlfn.worker.task import Calling, Extras, Task

# Numeric libraries read these when they are imported, to choose their number of threads.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


class Binding:
    """One plan, as its place sends it to a worker."""

    def __init__(self, plan: Mapping[str, Any], folder: Path | None = None) -> None:
        self.plan = plan
        self._folder = folder  # of the execution, on this side
        self.calling = Calling.from_json(plan["calling"])
        self._function: Callable[..., Any] | None = None
        self._artifacts = ArtifactStore(**plan["artifacts"])
        self._refusal: EnvironmentBuildError | MemoryError | None = None

    def apply(self) -> None:
        """Set up what the plan asks for. What fails is raised by each run: a worker that ended here would not report it."""
        try:
            self._apply()
        except (OSError, ValueError) as error:
            self._refusal = EnvironmentBuildError(
                f"{self.calling.name}: the worker could not apply cwd={self.plan['cwd']!r} and mem={self.plan['mem']!r}: "
                f"{error}."
            )
        except MemoryError:
            lift_memory_limit()  # the run fails before it begins, and needs memory to report that
            size = counted_memory()
            self._refusal = MemoryError(*([f"a worker alone takes {size / 2**20:.0f}Mi"] if size else []))

    def load(self, secrets: dict[str, str]) -> Callable[..., Any]:
        """Return the function, after putting the values of its secrets into `secrets` and into the environment."""
        secrets.update(self.secrets())
        for secret in self.calling.secrets:
            if secret.env:
                os.environ[secret.env] = secrets[secret.key or secret.name]
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        if self._function is None:
            data = read_payload(Path(self.plan["payload"]), self.calling.name)
            # What a kind prepares this process for, it shares with processes of an engine that have no module of the user's.
            is_shared = self.plan["activated"] and not self.plan["command"]
            own, pin = None if is_shared else tuple(self.plan["by_reference"]), self.plan["pin"]
            function: Callable[..., Any] = payload.unpack_function(data, pin=pin, own=own)
            self._function = function
            children.prepare(Path(self.plan["payload"]), pin, own, self._folder)
            set_up_logging(self.plan["logging"])  # not before: what the code imports has its loggers by now
        return self._function

    def activated(self, task: Task) -> AbstractContextManager[Extras]:
        """Return what prepares this process for a run, as the plan's kind does."""
        kind: Any = members.load("kind", self.plan["kind"]["name"])(**self.plan["kind"]["options"])
        activated: AbstractContextManager[Extras] = kind.activate(task)
        return activated

    def codec(self) -> PinnedCodec:
        """Return how values are packed on this side: signed by the execution's own key, the only one that is here."""
        return PinnedCodec(
            key=bytes.fromhex(self.plan["key"]),
            artifacts=self._artifacts,
            by_reference=tuple(self.plan["by_reference"]),
            execution=self.plan["execution"],
        )

    def secrets(self) -> dict[str, str]:
        """Return the values of the secrets by name; raise SecretNotFoundError for one that is missing here."""
        if not self.calling.secrets:
            return {}
        environ = {**os.environ, **self.plan["secrets"]}
        return resolve_secrets(self.calling.secrets, environ, Path(self.plan["secrets_file"]))

    def _apply(self) -> None:
        plan = self.plan
        os.environ.update(plan["env"])
        if plan["threads"]:
            # A variable that the function's own env sets is its author's decision.
            os.environ.update({name: str(plan["threads"]) for name in _THREAD_VARIABLES if name not in plan["env"]})
        os.chdir(plan["cwd"])
        # The caller's own folders first, as for the caller; the folder of mlfn itself must not hide a requirement.
        others = [path for path in sys.path if path not in (*plan["sys_path"], plan["root"])]
        sys.path[:] = [*plan["sys_path"], *others, plan["root"]]
        if plan["mem"]:
            limit_memory(plan["mem"])
            reserve_memory()
        for name, source in plan["sources"].items():
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)


def read_payload(path: Path, name: str) -> bytes:
    """Return the packed function called `name`; raise StorageError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"The code of {name} cannot be read from {path} ({error.strerror}): submit {name} again, from where it is declared."
        ) from error
