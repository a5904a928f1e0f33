"""Submit a sweep: store it and drive it, or resume the stored one of the same name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from mlfn.backends.registry import strategy_name
from mlfn.dispatch.session import Session, current_session
from mlfn.dispatch.submit import keep, refuse_missing_secrets, refuse_unmet, warn_of_large, words
from mlfn.errors import OptionError, SweepHeldError, nearest
from mlfn.handles.outputs import is_misspelt
from mlfn.host.frozen import frozen
from mlfn.host.identity import new_id, now
from mlfn.spec.plan import Plan
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.sweep.choosers import Chooser
from mlfn.sweep.conditions.grammar import parse_selector
from mlfn.sweep.controller.loop import SweepSetup
from mlfn.sweep.controller.ownership import find_driver, resume_sweep, start_sweep
from mlfn.sweep.differences import differing_children, differing_params
from mlfn.sweep.handle import SweepRun
from mlfn.sweep.options import SweepOptions
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.params.shared import Kept, SharedParams
from mlfn.sweep.results.standing import deciding
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
    kept = Kept(function.__mlfn_kept__, lambda stored: PointCodec(current_session().codec(), "").decode(stored))
    shared = SharedParams(
        function.__mlfn_signature__, chooser.keys, args=args, kwargs=kwargs, same_keys=chooser.same_keys, kept=kept
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
    warn_of_large(prepared.large)
    refuse_unmet(plan)
    refuse_missing_secrets(plan)
    session.register()
    session.once(plan.hash, lambda: keep(session, prepared))
    run = new_id()
    points = PointCodec(session.codec(), run, shared.check, function=function.__mlfn_name__, words=words(plan))
    body = SweepBody(
        strategy=_stored(strategy, points),
        keys=chooser.keys,
        fixed={**shared.kept(), **points.encode(run, shared.fixed)},
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
        labels=prepared.labels,
        parent=user_context.current_run(),
    )
    _refuse_misspelt(plan, body)
    setup = SweepSetup(plan, body, strategy, points, lambda: function.__mlfn_function__)
    new = _NewSweep(session, function, submitted, chooser, options, setup)
    return new.begin() if options.name is None else new.resume_or_begin(options.name)


def _refuse_misspelt(plan: Plan, body: SweepBody) -> None:
    """Refuse a metric that can only be a declared output misspelt; what a handler logs is known when it has."""
    known = list(plan.outputs) or ["return"]
    for option, name in deciding(body):
        if is_misspelt(name, known, logs=plan.shape.context is not None):
            raise OptionError(f"{option}: {plan.name} has no output {name!r}: {nearest(name, known)}")


def _stored(strategy: Strategy, points: PointCodec) -> dict[str, Any]:
    return {"name": strategy_name(strategy), "data": strategy.to_json(points.keep)}


@frozen
class _NewSweep:
    """A sweep that is about to be stored."""

    session: Session
    function: Sweepable[Any]
    submitted: Submitted
    chooser: Chooser
    options: SweepOptions
    setup: SweepSetup

    def begin(self, *, after: str | None = None, seed: int | None = None, replaces: str | None = None) -> SweepRun[Any]:
        """Store and drive it; `after` is the sweep whose results it takes over, `seed` the seed of that one.

        It has the name that `replaces` holds, where that is not over.
        """
        setup = self._setup_for(self.options.parallel, seed)
        setup = replace(setup, body=replace(setup.body, after=after))
        made = start_sweep(self.session, self.submitted, self.options.name, setup, replaces=replaces)
        if made is None:
            return self.resume_or_begin(str(self.options.name))  # another process stored its name first
        return SweepRun(*made, session=self.session)

    def resume_or_begin(self, name: str) -> SweepRun[Any]:
        """Resume the sweep of this name, or begin it: where there is none, or one that is described otherwise."""
        session = self.session
        session.reconcile()
        found = session.store.find_sweep(self.submitted.project, name)
        if found is None:
            return self.begin()
        record = session.store.get_run(found)
        if self.options.again == "new":
            logger.warning("%s", self._begun_anew(record, "again='new'"))
            return self.begin(replaces=found)
        stored = SweepBody.from_json(session.store.get_sweep_body(found))
        seed = _seed(stored)
        setup = self._setup_for(stored.parallel, seed)
        other, judged = self._differences(record, stored, setup)
        if other or judged:
            logger.warning("%s", self._begun_anew(record, "; ".join(other + judged)))
            # Another choice of the best makes no child another.
            return self.begin(after=None if other else found, seed=None if other else seed, replaces=found)
        if record.state in (RunState.FAILED, RunState.CANCELLED):
            done = session.store.child_counts(found).get(RunState.SUCCEEDED, 0)
            logger.warning(
                "%s (%s) ended as %s: goes on as another sweep, which takes over the %s that succeeded",
                name,
                found[:8],
                record.state,
                done,
            )
            return self.begin(after=found, seed=seed)
        if record.state.is_terminal or session.inflight(found) is not None:
            self._say_that_it_goes_on(record, stored)
            self._warn_of_kept_options(record, stored)
            return SweepRun(record, session.inflight(found), session=session)
        points = PointCodec(session.codec(), found, setup.points.check, function=record.name, words=words(setup.plan))
        if record.state is RunState.PENDING and (record.owner == session.id or not session.owner_lives(record.owner)):
            self._say_that_it_goes_on(record, stored)  # first: an inline sweep is over when it has been resumed
        inflight = resume_sweep(session, record, setup.strategy, points, options=vars(setup.body))
        record = session.store.get_run(found)
        if inflight is None and not record.state.is_terminal:
            held = find_driver(session, record)
            raise SweepHeldError(
                f"The sweep {name!r} ({found[:8]}) is driven by {held or 'another process'}: wait for it with "
                f"mlfn.run({found[:8]!r}).wait(), end that process first, or begin another by again='new' or another name=."
            )
        return SweepRun(record, inflight, session=session)

    def _say_that_it_goes_on(self, record: RunRecord, stored: SweepBody) -> None:
        counts = self.session.store.child_counts(record.id)
        done = sum(count for state, count in counts.items() if state.is_terminal)
        size = stored.size if stored.size is not None else "an unknown number"
        what = "returns" if record.state.is_terminal else "goes on with"
        anew = "; again='new' begins it anew" if record.state.is_terminal else ""
        logger.warning("%s %s (%s): %s of %s done%s", what, self.options.name, record.id[:8], done, size, anew)

    def _begun_anew(self, record: RunRecord, why: str) -> str:
        short = record.id[:8]
        if record.state.is_terminal:
            old = f"`mlfn show {short}` shows the earlier one"
        elif record.state is RunState.RUNNING and self.session.owner_lives(record.owner):
            old = f"the earlier one still runs, and `mlfn cancel {short}` ends it"
        else:
            old = f"`mlfn sweep resume {short}` goes on with the earlier one"
        return f"begins {self.options.name} anew: {why}; {old}"

    def _setup_for(self, parallel: int | None, seed: int | None) -> SweepSetup:
        """Return the setup as it would be with this `parallel`, and with this seed where none was given."""
        redrawn = seed is not None and self.chooser.unseeded
        if parallel == self.options.parallel and not redrawn:
            return self.setup
        chooser = self.chooser.seeded(seed) if seed is not None and redrawn else self.chooser
        strategy = chooser.strategy(replace(self.options, parallel=parallel))
        body = replace(self.setup.body, strategy=_stored(strategy, self.setup.points))
        return replace(self.setup, body=body, strategy=strategy)

    def _differences(self, record: RunRecord, stored: SweepBody, setup: SweepSetup) -> tuple[list[str], list[str]]:
        """Return in words how the stored sweep differs: what makes other children, and what judges them otherwise."""
        other: list[str] = []
        if self.submitted.function != record.function:
            changes = self.function.__mlfn_differences__(record.function)
            other.append(f"another version of {record.name}: {', '.join(changes) or 'the same code in other words'}")
        other += differing_params(stored, self.setup.body) + differing_children(stored, setup.body)
        # A sweep that has ended is not judged again: its successor takes the other options.
        decide = ("select",) if record.state.is_terminal else _deciding(self.setup.body, stored)
        changed = stored.changed_in(self.setup.body, decide)
        return other, [f"{name}={old!r} (now {new!r})" for name, (old, new) in changed.items()]

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
