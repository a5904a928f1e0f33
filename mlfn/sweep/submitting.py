"""From a description to a stored sweep that is driven; or to the one of its name, which is carried on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlfn import user_context
from mlfn.client import Client, current_client
from mlfn.errors import InputNotFoundError, OptionError, ParameterError, SweepError, SweepHeldError, nearest
from mlfn.identity import new_id, now
from mlfn.planner import Plan
from mlfn.registry import strategy_name
from mlfn.signature import Signature
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.submission import keep, refuse_missing_secrets, tell_large, tell_limits, words
from mlfn.sweep.body import DECIDING, DRIVING, SweepBody
from mlfn.sweep.conduct import begin, conduct, holder
from mlfn.sweep.driver import Charge
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.placing import placed_in
from mlfn.sweep.strategy import Strategy
from mlfn.sweep.sweep_run import SweepRun

if TYPE_CHECKING:
    from mlfn.sweep.description import Sweep

logger = logging.getLogger(__name__)


def submit_sweep(sweep: Sweep[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> SweepRun[Any]:
    """Check everything that can be checked, store the sweep, and drive it."""
    function, options, chooser = sweep._function, sweep._options, sweep._chooser
    signature: Signature = function._signed()
    shared = _Shared(signature, chooser.keys, args, kwargs, alike=chooser.alike)
    for probe in chooser.probes():
        shared.probe(probe)
    for iteration, row in chooser.rows():
        shared.check_row(iteration, row)
    strategy = chooser.strategy(options)
    if options.deterministic and strategy.adaptive and options.parallel is None:
        raise OptionError(
            f"{function._name}: deterministic=True has what is learned come in rounds of `parallel` children, and the cores of "
            "this machine are no part of a sweep: give parallel=, as in with_options(deterministic=True, parallel=4)."
        )
    client = current_client()
    prepared = function._prepare()
    plan: Plan = prepared.plan
    tell_large(prepared.described.capture.large)
    tell_limits({**plan.body, "node": plan.spec.get("node")})
    refuse_missing_secrets(plan.body)
    client.register()
    client.once(plan.hash, lambda: keep(client, plan, prepared.payload))
    run = new_id()
    points = PointCodec(client.codec(), run, shared.check, function=signature.name, words=words(plan.body))
    body = SweepBody(
        strategy=_described(strategy, points),
        keys=chooser.keys,
        fixed=points.encode(run, shared.fixed),
        bases=points.encode(run, shared.bases()),
        **options.driving(),
        judged=shared.judged(options.select) if strategy.judges else None,
        mapped=sweep._mapped,
        size=chooser.size,
    )
    submitted = Submitted(
        run=run,
        name=plan.name,
        project=plan.project,
        function=plan.function,
        plan=plan.hash,
        place=plan.body["place"]["name"],
        owner=client.id,
        params=body.fixed,
        time=now(),
        labels=plan.spec.get("labels", {}),
        parent=user_context.current_run(),
    )
    charge = Charge(plan.body, body, strategy, points, lambda: function._function)

    def charge_at(parallel: int | None, seed: int | None) -> Charge:
        """Return the charge with the strategy that this description has where so many children run at a time.

        Where it draws and no seed was given, it is drawn by `seed`.
        """
        redrawn = seed is not None and chooser.unseeded
        if parallel == options.parallel and not redrawn:
            return charge
        ours = chooser.seeded(seed) if seed is not None and redrawn else chooser
        other = ours.strategy(replace(options, parallel=parallel))
        return replace(charge, body=replace(body, strategy=_described(other, points)), strategy=other)

    new = _New(client, submitted, options.name, charge, charge_at)
    return new.begin() if options.name is None else new.go_on(options.name)


def _described(strategy: Strategy, points: PointCodec) -> dict[str, Any]:
    return {"name": strategy_name(strategy), "data": strategy.to_json(points.keep)}


class _Shared:
    """What all children have in common, and what each of them is checked by."""

    def __init__(
        self,
        signature: Signature,
        keys: tuple[str, ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        alike: bool,
    ) -> None:
        """`alike` says that every child has all the keys; otherwise each is to be checked by itself."""
        self._signature = signature
        self._dotted = {key.partition(".")[0] for key in keys if "." in key}
        given = signature.bind_partly(args, kwargs)
        self._given = {*given, *given.get(str(signature.shape.varkw), {})} - {signature.shape.varkw}
        if alike:
            self._refuse_twice(keys)
        self.fixed = signature.check(given)
        if alike and keys:
            self._refuse_missing({key.partition(".")[0] for key in keys})

    def bases(self) -> dict[str, Any]:
        """Return what dotted keys change a part of, where it is not swept itself."""
        return {name: self._base(name) for name in self._dotted}

    def probe(self, point: Mapping[str, Any]) -> None:
        """Refuse a point that does not fit."""
        self._signature.check(self._placed(point))

    def check_row(self, iteration: int, row: Mapping[str, Any]) -> None:
        """Refuse the parameters of a child that do not fit, by its number."""
        try:
            self._refuse_collecting(row)
            self._refuse_twice(row)
            self.check(self._placed(row))
        except (ParameterError, InputNotFoundError) as error:
            raise type(error)(f"Child {iteration}: {error}") from None

    def check(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a child's own parameters as they are submitted; refuse what does not fit."""
        signature = self._signature
        own = {name: value for name, value in params.items() if name in signature.parameters}
        more = {name: value for name, value in params.items() if name not in signature.parameters}
        if more and signature.shape.varkw is None:
            name = next(iter(more))
            raise ParameterError(f"{signature.name}() has no parameter {name!r}: {nearest(name, signature.parameters)}")
        if more:
            own[str(signature.shape.varkw)] = {**self.fixed.get(str(signature.shape.varkw), {}), **more}
        for name in own.keys() & self.fixed.keys() - self._dotted - {signature.shape.varkw}:
            raise ParameterError(self._twice(name))
        self._refuse_missing(own)
        return signature.check(own)

    def judged(self, select: tuple[str, ...]) -> str | None:
        """Return the metric whose points decide whether a child goes on."""
        from mlfn.sweep.grammar import parse_selector

        return parse_selector(select[0]).name if select else None

    def _placed(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that a point changes, dotted keys put in place."""
        placed: dict[str, Any] = {}
        for key, value in point.items():
            name = key.partition(".")[0]
            if name == key:
                placed[name] = value
            else:
                base = placed[name] if name in placed else self._base(name)
                placed[name] = placed_in(self._signature.name, base, key, value)
        return placed

    def _base(self, name: str) -> Any:
        signature = self._signature
        if name not in signature.parameters:
            raise ParameterError(f"{signature.name}() has no parameter {name!r}: {nearest(name, signature.parameters)}")
        default = signature.parameters[name].default
        if name not in self.fixed and default is signature.parameters[name].empty:
            raise ParameterError(
                f"{signature.name}(): a part of {name!r} is swept, and there is no whole to change: give {name!r} to "
                "submit(), or let it have a default."
            )
        return self.fixed.get(name, default)

    def _refuse_collecting(self, keys: Iterable[str]) -> None:
        shape = self._signature.shape
        for name in [key.partition(".")[0] for key in keys]:
            if name in (shape.varargs, shape.varkw):
                raise ParameterError(
                    f"{self._signature.name}(): {name!r} takes any number of arguments and cannot be swept."
                )

    def _refuse_twice(self, keys: Iterable[str]) -> None:
        for name in keys:
            if name in self._given:
                raise ParameterError(self._twice(name))

    def _twice(self, name: str) -> str:
        return f"{self._signature.name}(): {name!r} is both swept and given to submit(): leave one of them out."

    def _refuse_missing(self, swept: Any) -> None:
        for name in self._signature.required():
            if name not in swept and name not in self.fixed:
                raise ParameterError(
                    f"{self._signature.name}() lacks parameter {name!r}: sweep it, or give it to all children, as in "
                    f"submit({name}=...)."
                )


class _New:
    """A sweep that is about to be stored."""

    def __init__(
        self,
        client: Client,
        submitted: Submitted,
        name: str | None,
        charge: Charge,
        charge_at: Callable[[int | None, int | None], Charge],
    ) -> None:
        self._client = client
        self._submitted = submitted
        self._name = name
        self._charge = charge
        self._charge_at = charge_at

    def begin(self, after: str | None = None, *, seed: int | None = None) -> SweepRun[Any]:
        """Store it and drive it; after another one of its name, with what that one has drawn."""
        charge = self._charge_at(self._charge.body.parallel, seed)
        charge = replace(charge, body=replace(charge.body, after=after))
        made = begin(self._client, self._submitted, self._name, charge)
        if made is None:
            return self.go_on(str(self._name))  # another process was quicker
        return SweepRun(*made, client=self._client)

    def go_on(self, name: str) -> SweepRun[Any]:
        """Carry on the sweep of this name, or begin it."""
        client = self._client
        client.reconcile()
        found = client.store.find_sweep(self._submitted.project, name)
        if found is None:
            return self.begin()
        record = client.store.get_run(found)
        stored = SweepBody.from_json(client.store.sweep_body(found))
        seed = _seed(stored)
        charge = self._charge_at(stored.parallel, seed)
        self._refuse_another(record, stored, charge)
        if record.state in (RunState.FAILED, RunState.CANCELLED):
            return self.begin(after=found, seed=seed)
        if record.state.is_terminal or client.ticket(found) is not None:
            self._tell_unheard(record, stored)
            return SweepRun(record, client.ticket(found), client=client)
        in_words = words(charge.plan)
        points = PointCodec(client.codec(), found, charge.points.check, function=record.name, words=in_words)
        ticket = conduct(client, record, charge.strategy, points, options=vars(charge.body))
        record = client.store.get_run(found)
        if ticket is None and not record.state.is_terminal:
            held = holder(client, record)
            raise SweepHeldError(
                f"The sweep {name!r} ({found[:8]}) is driven by {held or 'another process'}: wait for it with "
                f"mlfn.run({found[:8]!r}).wait(), end that process first, or choose another name=."
            )
        return SweepRun(record, ticket, client=client)

    def _refuse_another(self, record: RunRecord, stored: SweepBody, charge: Charge) -> None:
        """Refuse to go on with a sweep that is another one; `charge` is ours with the stored one's `parallel`."""
        ours = self._charge.body
        differs = [
            what
            for what, is_same in (
                (f"another version of {record.name}", self._submitted.function == record.function),
                ("other parameters for all children", _bare(ours.fixed) == _bare(stored.fixed)),
                ("other children", _bare(charge.body.strategy) == _bare(stored.strategy)),
            )
            if not is_same
        ]
        # What has been decided by the other options is over, and what begins after it is decided by these.
        decide = ("select",) if record.state.is_terminal else _deciding(ours, stored)
        changed = stored.changed_in(ours, decide)
        differs += [f"{name}={old!r} (now {new!r})" for name, (old, new) in changed.items()]
        if differs:
            raise SweepError(
                f"The sweep {self._name!r} ({record.id[:8]}) was submitted with {' and '.join(differs)}: choose another name=, "
                "or describe it as it was."
            )

    def _tell_unheard(self, record: RunRecord, stored: SweepBody) -> None:
        """Say which options come too late for a sweep that is over, or driven in this very process."""
        ours = self._charge.body
        is_over = record.state.is_terminal
        changed = stored.changed_in(ours, _deciding(ours, stored) if is_over else DRIVING)
        if changed:
            said = ", ".join(f"{name} {old!r}, not {new!r}" for name, (old, new) in changed.items())
            why = "is over" if is_over else "runs in this process"
            logger.warning("the sweep %r (%s) %s, and keeps its options: %s", self._name, record.id[:8], why, said)


def _seed(stored: SweepBody) -> int | None:
    """Return what a stored sweep was drawn by; None where nothing is drawn, or by something of its own."""
    data = stored.strategy["data"]
    found = data.get("seed") if stored.strategy["name"] in ("random", "search") else None
    return int(found) if found is not None else None


def _deciding(ours: SweepBody, stored: SweepBody) -> tuple[str, ...]:
    """Return the options that say what children are, or which one wins: in rounds, how many a round has is one."""
    return (*DECIDING, "parallel") if ours.deterministic and stored.deterministic else DECIDING


_BESIDE = ("path", "shown")  # what an encoded value has beside itself


def _bare(encoded: Any) -> Any:
    """Return encoded values without where their files lie, which is below the run that wrote them."""
    if isinstance(encoded, Mapping):
        if isinstance(encoded.get("packer"), str):  # one value; what it holds may have a "path" of its own
            return {key: value for key, value in encoded.items() if key not in _BESIDE}
        return {key: _bare(value) for key, value in encoded.items()}
    if isinstance(encoded, (list, tuple)):
        return [_bare(item) for item in encoded]
    return encoded
