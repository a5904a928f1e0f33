"""Submit a sweep: store it and drive it, or resume the stored one of the same name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from mlfn.backends.registry import strategy_name
from mlfn.dispatch.session import Session, current_session
from mlfn.dispatch.submit import keep, refuse_missing_secrets, refuse_unmet, warn_of_large, words
from mlfn.errors import OptionError, SweepError, SweepHeldError
from mlfn.host.frozen import frozen
from mlfn.host.identity import new_id, now
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.sweep.choosers import Chooser
from mlfn.sweep.conditions.grammar import parse_selector
from mlfn.sweep.controller.loop import SweepSetup
from mlfn.sweep.controller.ownership import find_driver, resume_sweep, start_sweep
from mlfn.sweep.handle import SweepRun
from mlfn.sweep.options import SweepOptions
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.params.shared import SharedParams
from mlfn.sweep.spec import DECIDING, DRIVING, SweepBody
from mlfn.sweep.strategy import Strategy
from mlfn.sweep.sweepable import Sweepable
from mlfn.worker import context as user_context

R = TypeVar("R")
logger = logging.getLogger(__name__)


def submit_sweep(
    function: Sweepable[R],
    chooser: Chooser,
    options: SweepOptions,
    *,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mapped: bool,
) -> SweepRun[R]:
    """Check everything that can be checked, store the sweep, and drive it."""
    shared = SharedParams(
        function.__mlfn_signature__, chooser.keys, args=args, kwargs=kwargs, same_keys=chooser.same_keys
    )
    for probe in chooser.probes():
        shared.probe(probe)
    for iteration, row in chooser.rows():
        shared.check_row(iteration, row)
    strategy = chooser.strategy(options)
    if options.deterministic and strategy.adaptive and options.parallel is None:
        raise OptionError(
            f"{function.__mlfn_name__}: deterministic=True learns in rounds of `parallel` children, whose number must not depend on the "
            "cores of this machine: give parallel=, as in with_options(deterministic=True, parallel=4)."
        )
    session = current_session()
    prepared = function.__mlfn_prepare__()
    plan = prepared.plan
    warn_of_large(prepared.capture.large)
    refuse_unmet(plan)
    refuse_missing_secrets(plan)
    session.register()
    session.once(plan.hash, lambda: keep(session, prepared))
    run = new_id()
    points = PointCodec(session.codec(), run, shared.check, function=function.__mlfn_name__, words=words(plan))
    body = SweepBody(
        strategy=_stored(strategy, points),
        keys=chooser.keys,
        fixed=points.encode(run, shared.fixed),
        bases=points.encode(run, shared.bases()),
        **options.to_body(),
        judged=parse_selector(options.select[0]).name if strategy.judges and options.select else None,
        mapped=mapped,
        size=chooser.size,
    )
    submitted = Submitted(
        run=run,
        name=plan.name,
        project=plan.project,
        function=plan.function,
        plan=plan.hash,
        place=plan.place.name,
        owner=session.id,
        params=body.fixed,
        time=now(),
        labels=prepared.spec.labels,
        parent=user_context.current_run(),
    )
    setup = SweepSetup(plan, body, strategy, points, lambda: function.__mlfn_function__)
    new = _NewSweep(session, submitted, chooser, options, setup)
    return new.begin() if options.name is None else new.resume_or_begin(options.name)


def _stored(strategy: Strategy, points: PointCodec) -> dict[str, Any]:
    return {"name": strategy_name(strategy), "data": strategy.to_json(points.keep)}


@frozen
class _NewSweep:
    """A sweep that is about to be stored."""

    session: Session
    submitted: Submitted
    chooser: Chooser
    options: SweepOptions
    setup: SweepSetup

    def begin(self, after: str | None = None, *, seed: int | None = None) -> SweepRun[Any]:
        """Store and drive it; `after` is the ended sweep of its name, `seed` the seed of that one."""
        setup = self._setup_for(self.options.parallel, seed)
        setup = replace(setup, body=replace(setup.body, after=after))
        made = start_sweep(self.session, self.submitted, self.options.name, setup)
        if made is None:
            return self.resume_or_begin(str(self.options.name))  # another process stored its name first
        return SweepRun(*made, session=self.session)

    def resume_or_begin(self, name: str) -> SweepRun[Any]:
        """Resume the sweep of this name, or begin it."""
        session = self.session
        session.reconcile()
        found = session.store.find_sweep(self.submitted.project, name)
        if found is None:
            return self.begin()
        record = session.store.get_run(found)
        stored = SweepBody.from_json(session.store.get_sweep_body(found))
        seed = _seed(stored)
        setup = self._setup_for(stored.parallel, seed)
        self._refuse_another(record, stored, setup)
        if record.state in (RunState.FAILED, RunState.CANCELLED):
            return self.begin(after=found, seed=seed)
        if record.state.is_terminal or session.inflight(found) is not None:
            self._warn_of_kept_options(record, stored)
            return SweepRun(record, session.inflight(found), session=session)
        points = PointCodec(session.codec(), found, setup.points.check, function=record.name, words=words(setup.plan))
        inflight = resume_sweep(session, record, setup.strategy, points, options=vars(setup.body))
        record = session.store.get_run(found)
        if inflight is None and not record.state.is_terminal:
            held = find_driver(session, record)
            raise SweepHeldError(
                f"The sweep {name!r} ({found[:8]}) is driven by {held or 'another process'}: wait for it with "
                f"mlfn.run({found[:8]!r}).wait(), end that process first, or choose another name=."
            )
        return SweepRun(record, inflight, session=session)

    def _setup_for(self, parallel: int | None, seed: int | None) -> SweepSetup:
        """Return the setup as it would be with this `parallel`, and with this seed where none was given."""
        redrawn = seed is not None and self.chooser.unseeded
        if parallel == self.options.parallel and not redrawn:
            return self.setup
        chooser = self.chooser.seeded(seed) if seed is not None and redrawn else self.chooser
        strategy = chooser.strategy(replace(self.options, parallel=parallel))
        body = replace(self.setup.body, strategy=_stored(strategy, self.setup.points))
        return replace(self.setup, body=body, strategy=strategy)

    def _refuse_another(self, record: RunRecord, stored: SweepBody, setup: SweepSetup) -> None:
        """Raise SweepError unless the stored sweep has the same function, parameters, children and objectives."""
        ours = self.setup.body
        same = {
            f"another version of {record.name}": self.submitted.function == record.function,
            "other parameters for all children": _without_paths(ours.fixed) == _without_paths(stored.fixed),
            "other children": _without_paths(setup.body.strategy) == _without_paths(stored.strategy),
        }
        differs = [what for what, is_same in same.items() if not is_same]
        # A sweep that has ended is not judged again: its successor takes the other options.
        decide = ("select",) if record.state.is_terminal else _deciding(ours, stored)
        changed = stored.changed_in(ours, decide)
        differs += [f"{name}={old!r} (now {new!r})" for name, (old, new) in changed.items()]
        if differs:
            raise SweepError(
                f"The sweep {self.options.name!r} ({record.id[:8]}) was submitted with {' and '.join(differs)}: choose another "
                "name=, or describe it as it was."
            )

    def _warn_of_kept_options(self, record: RunRecord, stored: SweepBody) -> None:
        """Warn of options that come too late: the sweep has ended, or this process drives it already."""
        ours = self.setup.body
        ended = record.state.is_terminal
        changed = stored.changed_in(ours, _deciding(ours, stored) if ended else DRIVING)
        if changed:
            kept = ", ".join(f"{name} {old!r}, not {new!r}" for name, (old, new) in changed.items())
            why = "is over" if ended else "runs in this process"
            logger.warning(
                "the sweep %r (%s) %s, and keeps its options: %s", self.options.name, record.id[:8], why, kept
            )


def _seed(stored: SweepBody) -> int | None:
    """Return the seed of a stored sweep; None where nothing is drawn, or a strategy of the user's own draws."""
    data = stored.strategy["data"]
    found = data.get("seed") if stored.strategy["name"] in ("random", "search") else None
    return int(found) if found is not None else None


def _deciding(ours: SweepBody, stored: SweepBody) -> tuple[str, ...]:
    """Return the options that affect parameters or winner; in rounds, the size of a round does too."""
    return (*DECIDING, "parallel") if ours.deterministic and stored.deterministic else DECIDING


def _without_paths(encoded: Any) -> Any:
    """Return encoded values without what lies below the run that wrote them: files and their summaries."""
    if isinstance(encoded, Mapping):
        if isinstance(encoded.get("packer"), str):  # one value; its own content may have a "path" too
            return {key: value for key, value in encoded.items() if key not in ("path", "shown")}
        return {key: _without_paths(value) for key, value in encoded.items()}
    if isinstance(encoded, (list, tuple)):
        return [_without_paths(item) for item in encoded]
    return encoded
