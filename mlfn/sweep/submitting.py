"""From a description to a stored sweep that is driven; or to the one of its name, which is carried on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlfn import user_context
from mlfn.client import Client, current_client
from mlfn.errors import OptionError, ParameterError, SweepError, SweepHeldError, nearest
from mlfn.identity import new_id, now
from mlfn.planner import Plan
from mlfn.registry import strategy_name
from mlfn.signature import Signature
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.changes import Submitted
from mlfn.submission import keep, refuse_missing_secrets, tell_large, tell_limits
from mlfn.sweep.body import SweepBody
from mlfn.sweep.conduct import begin, conduct, holder
from mlfn.sweep.driver import Charge
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.sweep_run import SweepRun

if TYPE_CHECKING:
    from mlfn.sweep.description import Sweep


def submit_sweep(sweep: Sweep[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> SweepRun[Any]:
    """Check everything that can be checked, store the sweep, and drive it."""
    function, options, chooser = sweep._function, sweep._options, sweep._chooser
    signature: Signature = function._signed()
    shared = _Shared(signature, chooser.keys, args, kwargs)
    for probe in chooser.probes():
        shared.probe(probe)
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
    points = PointCodec(client.codec(), run, shared.check)
    body = SweepBody(
        strategy={"name": strategy_name(strategy), "data": strategy.to_json(points.keep)},
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
    new = _New(client, submitted, options.name, Charge(plan.body, body, strategy, points, lambda: function._function))
    return new.begin() if options.name is None else new.go_on(options.name)


class _Shared:
    """What all children have in common, and what each of them is checked by."""

    def __init__(
        self, signature: Signature, keys: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._signature = signature
        self._dotted = {key.partition(".")[0] for key in keys if "." in key}
        plain = {key for key in keys if "." not in key}
        given = signature.bind_partly(args, kwargs)
        for name in plain & given.keys():
            raise ParameterError(self._twice(name))
        self.fixed = signature.check(given)
        if keys:
            self._refuse_missing({*plain, *self._dotted})

    def bases(self) -> dict[str, Any]:
        """Return what dotted keys change a part of, where it is not swept itself."""
        found: dict[str, Any] = {}
        for name in self._dotted:
            default = self._signature.parameters[name].default
            if name not in self.fixed and default is self._signature.parameters[name].empty:
                raise ParameterError(
                    f"{self._signature.name}(): a part of {name!r} is swept, and there is no whole to change: give {name!r} to "
                    "submit(), or let it have a default."
                )
            found[name] = self.fixed.get(name, default)
        return found

    def probe(self, point: Mapping[str, Any]) -> None:
        """Refuse a point that does not fit."""
        from mlfn.sweep.placing import place

        for key, value in point.items():
            name, _, rest = key.partition(".")
            self._signature.check({name: place(self.bases()[name], rest, value) if rest else value})

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

    def __init__(self, client: Client, submitted: Submitted, name: str | None, charge: Charge) -> None:
        self._client = client
        self._submitted = submitted
        self._name = name
        self._charge = charge

    def begin(self, after: str | None = None) -> SweepRun[Any]:
        """Store it and drive it."""
        charge = replace(self._charge, body=replace(self._charge.body, after=after))
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
        self._refuse_another(record, name)
        if record.state in (RunState.FAILED, RunState.CANCELLED):
            return self.begin(after=found)
        if record.state.is_terminal or client.ticket(found) is not None:
            return SweepRun(record, client.ticket(found), client=client)
        ticket = conduct(
            client, record, self._charge.strategy, PointCodec(client.codec(), found, self._charge.points.check)
        )
        record = client.store.get_run(found)
        if ticket is None and not record.state.is_terminal:
            held = holder(client, record)
            raise SweepHeldError(
                f"The sweep {name!r} ({found[:8]}) is driven by {held or 'another process'}: wait for it with "
                f"mlfn.run({found[:8]!r}).wait(), end that process first, or choose another name=."
            )
        return SweepRun(record, ticket, client=client)

    def _refuse_another(self, record: RunRecord, name: str) -> None:
        body = SweepBody.from_json(self._client.store.sweep_body(record.id))
        differs = [
            what
            for what, ours, theirs in (
                (f"another version of {record.name}", self._submitted.function, record.function),
                ("other parameters for all children", _bare(self._charge.body.fixed), _bare(body.fixed)),
                ("other children", _bare(self._charge.body.strategy), _bare(body.strategy)),
                ("another select=", self._charge.body.select, body.select),
            )
            if ours != theirs
        ]
        if differs:
            raise SweepError(
                f"The sweep {name!r} ({record.id[:8]}) was submitted with {' and '.join(differs)}: choose another name=, or "
                "describe it as it was."
            )


def _bare(encoded: Any) -> Any:
    """Return encoded values without where their files lie, which is below the run that wrote them."""
    if isinstance(encoded, Mapping):
        return {key: _bare(value) for key, value in encoded.items() if key != "path"}
    if isinstance(encoded, (list, tuple)):
        return [_bare(item) for item in encoded]
    return encoded
