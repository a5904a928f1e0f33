"""The named outputs of a run, references to them, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from mlfn.artifacts.codec import reference
from mlfn.dispatch.session import Session
from mlfn.errors import NotFoundError, nearest
from mlfn.spec.record import Output, RunRecord, RunState


class AnyRun(Protocol):
    """What outputs, metrics, children and versions ask of their run."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def __mlfn_session__(self) -> Session: ...
    @property
    def record(self) -> RunRecord: ...
    @property
    def outputs(self) -> Outputs: ...
    def wait(self) -> bool: ...
    def result(self) -> Any: ...
    def rerun(self, /, **params: Any) -> Any: ...


def stored_outputs(run: AnyRun) -> list[Output]:
    """Return what the run's last attempt has reported so far."""
    record = run.record
    return run.__mlfn_session__.store.outputs(record.id, record.attempt)


class OutputReference:
    """One output of a run that may not have ended yet: give it to another `submit`, or ask for what it is."""

    __mlfn_reference__ = True

    def __init__(self, run: AnyRun, key: str) -> None:
        self.run = run
        self.key = key

    def __mlfn_encoded__(self) -> dict[str, Any]:
        return {"output": {"run": self.run.id, "key": self.key}}

    @property
    def value(self) -> Any:
        """The value; waits for the run."""
        return self.run.outputs[self.key]

    @property
    def path(self) -> Path:
        """Where its file or folder lies; waits for the run."""
        stored = self.stored()
        found = self.run.__mlfn_session__.codec().path(reference(stored))
        if found is None:
            raise NotFoundError(
                f"{self.key!r} of {self.run.name} is a value of {stored.size} bytes in the store and has no file: "
                f"use run.outputs[{self.key!r}]."
            )
        return found

    @property
    def type(self) -> str:
        """The name of its type."""
        return self.stored().type

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.stored().size

    def stored(self) -> Output:
        """Return what the store says of it; waits for the run unless it was logged before."""
        found = self._find()
        if found is None:
            self.run.wait()
            found = self._find()
        if found is None:
            self.run.result()  # a run that failed says so itself
            have = [output.key for output in stored_outputs(self.run)]
            raise NotFoundError(
                f"{self.run.name} ({self.run.id[:8]}) has no output {self.key!r}: {nearest(self.key, have)}"
            )
        return found

    def refuse_unknown(self, where: str) -> None:
        """Raise NotFoundError where the run has ended without such an output, or its name is that of another one misspelt.

        While it runs, more than what is declared may come: its handler may log a result under any name.
        """
        record = self.run.record
        if record.state is RunState.SUCCEEDED:
            known = [output.key for output in stored_outputs(self.run)]
            is_wrong = self.key not in known
        elif record.state.is_terminal:
            return  # its child fails because of that
        else:
            plan = self.run.__mlfn_session__.store.get_plan(record.plan)
            known = list(plan.outputs) or ["return"]
            is_wrong = self._find() is None and is_misspelt(self.key, known, logs=plan.shape.context is not None)
        if is_wrong:
            raise NotFoundError(
                f"{where} got output {self.key!r} of {self.run.name} ({self.run.id[:8]}), which has none of that name: "
                f"{nearest(self.key, known)}"
            )

    def _find(self) -> Output | None:
        return next((output for output in stored_outputs(self.run) if output.key == self.key), None)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "an output of a run travels as a parameter, or in lists, tuples, dicts and dataclasses; inside another value pass its "
            ".value"
        )

    def __repr__(self) -> str:
        return f"<output {self.key!r} of run {self.run.id[:8]}>"


def is_misspelt(key: str, declared: Iterable[str], *, logs: bool) -> bool:
    """Say whether `key` is meant to be one of the declared names; strict where the handler logs what it likes.

    A name that has another in it, as "test_accuracy" has "accuracy", is a name of its own.
    """
    import difflib  # 4 ms that only a name which is not declared costs

    names = list(declared)
    if key in names:
        return False
    if any(sorted(_letters(name)) == sorted(_letters(key)) for name in names):
        return True
    apart = [name for name in names if name not in key and key not in name]
    return not logs and bool(difflib.get_close_matches(key, apart, n=1, cutoff=0.75))


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


class Outputs(Mapping[str, Any]):
    """The named outputs of a run: items are values, attributes are references. Reading waits for the run."""

    def __init__(self, run: AnyRun) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        return self._run.__mlfn_session__.codec(self._run.id).value(OutputReference(self._run, key).stored())

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return OutputReference(self._run, key)

    def __iter__(self) -> Iterator[str]:
        self._run.wait()
        return iter([output.key for output in stored_outputs(self._run)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __mlfn_refused__(self) -> str:
        return f"all outputs of a run: pass one of them, as in run.outputs.{next(iter(self), 'NAME')}"

    def __repr__(self) -> str:
        return f"<outputs of run {self._run.id[:8]}: {', '.join(output.key for output in stored_outputs(self._run)) or 'none yet'}>"


class Artifacts(dict[str, OutputReference]):
    """References to those of a run's outputs that are files, by name."""

    def __init__(self, run: AnyRun, found: Mapping[str, OutputReference]) -> None:
        super().__init__(found)
        self._run = run

    def __missing__(self, key: str) -> OutputReference:
        hint = nearest(str(key), self)
        if any(output.key == key for output in stored_outputs(self._run)):
            hint = f"it is a value in the store; use run.outputs[{key!r}]."
        raise NotFoundError(f"{self._run.name} ({self._run.id[:8]}) has no file called {key!r}: {hint}")


class Metrics(Mapping[str, float]):
    """The metrics of a run: the last value of each, and their series."""

    def __init__(self, run: AnyRun) -> None:
        self._run = run

    def __getitem__(self, name: str) -> float:
        return self.history(name)[-1][1]

    def history(self, name: str) -> list[tuple[int | None, float]]:
        """Return (step, value) of each point, in the order in which they were logged."""
        record = self._run.record
        points = self._run.__mlfn_session__.store.series(record.id, record.attempt, name)
        if not points:
            raise NotFoundError(
                f"{self._run.name} ({self._run.id[:8]}) logged no metric {name!r}: {nearest(name, list(self))}"
            )
        return [(step, value) for step, value, _ in points]

    def __iter__(self) -> Iterator[str]:
        record = self._run.record
        return iter(self._run.__mlfn_session__.store.metric_names(record.id, record.attempt))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))
