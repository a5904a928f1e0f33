"""`mlfn sweep`: many runs of one function, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mlfn.errors import ParameterError
from mlfn.ui.cli.arguments import Call, HandlerCommand
from mlfn.ui.cli.commands import Chosen, MlfnCommand, command, run_inner, usage_error
from mlfn.ui.cli.submitting import target_command
from mlfn.ui.cli.swept import read_lists, read_spaces
from mlfn.ui.cli.targets import AnyFunction

if TYPE_CHECKING:
    from mlfn.dispatch.signature import Signature
    from mlfn.sweep.description import Sweep
    from mlfn.sweep.handle import SweepRun

_WAYS = ("grid", "zip", "random", "search")
_DRAWN = ("random", "search")
# Options that only some ways take.
_ONLY = {"n": _DRAWN, "seed": _DRAWN, "method": ("random",), "sampler": ("search",), "pruner": ("search",)}


class SweptCommand(HandlerCommand):
    """The command of a function that is swept: parameters may be missing, since they are swept."""

    def _refuse_lacking(self, values: Mapping[str, Any]) -> None:
        del values  # checked once it is known which parameters are swept


class SweepCommand(MlfnCommand):
    """The command that sweeps a target, or resumes a sweep, which is then in the target's place."""

    def __init__(self, name: str, *, params: list[click.Parameter], **more: Any) -> None:
        note = "TARGET is a sweep's id: go on with it, as `mlfn sweep resume` does."
        super().__init__(name, params=[*params, click.Option(["--resume"], is_flag=True, help=note)], **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Resume where that is asked for."""
        ctx.ensure_object(Chosen).take(ctx.params)
        target, rest = ctx.params["target"], ctx.params["rest"]
        if ctx.params.pop("resume"):
            return run_inner(resume, "resume", [target, *rest], ctx.obj)
        if target == "resume":
            return run_inner(resume, "resume", rest, ctx.obj)
        return super().invoke(ctx)


def _wait_and_print(chosen: Chosen, run: SweepRun[Any], how: str) -> int:
    from mlfn.ui.cli.watching import wait_and_print

    size = run._body.size
    children = "children of unknown number" if size is None else "1 child" if size == 1 else f"{size} children"
    announced = f"sweep {run.id[:8]} of {run.name} on {run.record.place}: {children}" + (f"; {how}" if how else "")
    return wait_and_print(run, announced=announced, follow=False, as_json=chosen.json)


def _described(function: AnyFunction, call: Call, values: Mapping[str, Any]) -> Sweep[Any]:
    """Return the sweep that the options describe."""
    signature = function.__mlfn_signature__
    way = _way(values, signature)
    if way in _DRAWN:
        points: Any = read_spaces(f"--{way}", values[way], signature)
    else:
        points = read_lists(f"--{way}", values[way], signature)
    more = {name: values[name] for name in _ONLY if values[name] is not None}
    if way == "search" and not values["select"]:
        raise usage_error("--search lacks --select: name a metric, as in --select max.accuracy.")
    sweep: Sweep[Any] = getattr(function, way)(points, **more)
    _refuse_lacking(function, call, sweep)
    taken = {*_WAYS, *_ONLY}
    return sweep.with_options(**{k: v for k, v in values.items() if k not in taken and v not in (None, ())})


def _way(values: Mapping[str, Any], signature: Signature) -> str:
    ways = [way for way in _WAYS if values[way]]
    if len(ways) != 1:
        problem = f"{' and '.join(f'--{way}' for way in ways)} do not go together" if ways else "nothing varies"
        raise usage_error(f"{problem}: give --grid, --zip, --random or --search, as in --grid depth=4,8.")
    for name, allowed in _ONLY.items():
        if values[name] is not None and ways[0] not in allowed:
            flag = "-n" if name == "n" else f"--{name}"
            raise usage_error(f"{flag} goes with {' and '.join(f'--{way}' for way in allowed)}, not --{ways[0]}.")
    if ways[0] in _DRAWN and values["n"] is None:
        taken = f", before the target: {signature.name} has an n of its own" if "n" in signature.parameters else ""
        raise usage_error(f"--{ways[0]} lacks -n: give the number of children, as in -n 50{taken}.")
    return ways[0]


def _refuse_lacking(function: AnyFunction, call: Call, sweep: Sweep[Any]) -> None:
    signature = function.__mlfn_signature__
    given = signature.bind_partly(call.args, call.kwargs)
    swept = {key.partition(".")[0] for key in sweep.chooser.keys}
    for name in signature.required():
        if name not in given and name not in swept:
            flag = name.replace("_", "-")
            raise usage_error(
                f"{signature.name} lacks {name!r}: sweep it, as in --grid {name}=..., or give it to all children, as in "
                f"--{flag} VALUE."
            )


def _option(flag: str, metavar: str | None, doc: str, *names: str, **more: Any) -> click.Option:
    return click.Option([flag, *names], metavar=metavar, help=doc, **more)


_FROM_0, _FROM_1 = click.IntRange(min=0), click.IntRange(min=1)
_OPTIONS = [
    _option("--grid", "KEY=VALUES", "Every combination, the first key varies fastest; or a file.", multiple=True),
    _option("--zip", "KEY=VALUES", "The first values of all, the second of all, and so on; or a file.", multiple=True),
    _option("--random", "KEY=SPACE", "-n children drawn from spaces.", multiple=True),
    _option("--search", "KEY=SPACE", "-n children chosen by the results of earlier ones.", multiple=True),
    _option("-n", "N", "How many children, of --random and --search.", type=_FROM_1),
    _option("--seed", "N", "What is drawn by; the same seed draws the same.", type=int),
    _option("--method", "NAME", "Of --random: random, latin or qmc."),
    _option("--sampler", "NAME", "Of --search: tpe, cmaes, gp, nsga2, qmc or random."),
    _option("--pruner", "NAME", "Of --search: median, percentile, hyperband, asha, patient, threshold..."),
    _option(
        "--select", "SELECTOR", "Which is the best: max.accuracy, min.loss@best; several for a front.", multiple=True
    ),
    _option("--subject-to", "CONDITION", "What a child must meet to count, as 'mem_gb <= 16'.", multiple=True),
    _option("--stop", "CONDITION", "Ends the sweep once it holds, as 'accuracy > 0.97 or elapsed > 2h'.", "stop_when"),
    _option("--parallel", "N", "How many children may run at a time.", type=_FROM_1),
    _option("--max-failures", "N", "Fails the sweep at so many failed children.", type=_FROM_0),
    _option("--max-failure-rate", "SHARE", "Fails it where more than this share fails.", type=float),
    _option("--timeout", "TIME", "Ends it after so long, as 90 or 2h, with what it has."),
    _option("--retry", "N", "How often a failed child is tried again.", type=_FROM_0),
    _option("--memo", None, "Take over results of runs with the same code and parameters.", is_flag=True, default=None),
    _option("--deterministic", None, "A search waits for rounds of --parallel children.", is_flag=True, default=None),
    _option("--strict/--no-strict", None, "End it where the first child lacks a metric of --select.", default=None),
    _option("--name", "NAME", "Run again under this name, it goes on instead of beginning anew."),
    _option("--again", None, "With --name: 'new' begins it anew, whatever is there.", type=click.Choice(["new"])),
]


@target_command("sweep", *_OPTIONS, made_as=SweepCommand, read_as=SweptCommand)
def sweep(chosen: Chosen, function: AnyFunction, call: Call, **values: Any) -> int:
    """Submit many runs of a function, wait for them, and print a table and the best. Ctrl-C cancels them.

    mlfn sweep resume ID  goes on with a sweep whose process died.

    \b
    VALUES of --grid and --zip: 4,8,16; a range with both its ends, 1..10 or 0..1..0.25 (by steps); a text that holds a
    comma, in double quotes. A file of lists (.csv, .json, .yaml) in place of KEY=VALUES. KEY may be part of a parameter:
    model.depth=4,8.
    SPACE of --random and --search: uniform(0,1), log(1e-4,1), int(2,32), logint(1,1024), quniform(0,1,0.25),
    normal(0,1), choice(adam,sgd), ordinal(small,medium,large); adam,sgd or adam|sgd for choice; 2..32 for int or
    uniform. With .when(opt=sgd), or .when(opt=sgd|rms), only beside these values of another. Quote what holds ( or |
    from the shell.
    """  # noqa: D301 - click's mark of text that stands as it is
    from mlfn.host.identity import now

    described = _described(function, call, values)
    begun = now()
    with chosen.answer_alone():
        run = described.submit(*call.args, **call.kwargs)
    how = ""
    if run.record.created < begun:
        how = "was over before" if run.done() else "goes on"
    return _wait_and_print(chosen, run, how)


@command("resume", no_args_is_help=True)
@click.argument("run", metavar="SWEEP")
def resume(chosen: Chosen, run: str) -> int:
    """Go on with a sweep: what has ended is not run again.

    One that failed or was cancelled begins anew, with what succeeded taken over.
    """
    from mlfn.handles import finders as listing
    from mlfn.sweep.handle import SweepRun

    old = listing.run(run)
    if not isinstance(old, SweepRun):
        raise ParameterError(f"{old.name} ({old.id[:8]}) is no sweep: `mlfn wait {old.id[:8]}` resumes a run.")
    how = "was over before" if old.done() else "goes on"
    with chosen.answer_alone():
        again = old.resume()
    if again.id != old.id:
        how = f"after {old.id[:8]}, which was {old.state}: what succeeded there is taken over"
    return _wait_and_print(chosen, again, how)
