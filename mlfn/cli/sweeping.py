"""`mlfn sweep`: many runs of one function, and what they came to."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mlfn.cli.arguments import Call, HandlerCommand
from mlfn.cli.commands import Chosen, MlfnCommand
from mlfn.cli.submitting import target_command, with_target
from mlfn.cli.swept import GRAMMAR, read_lists, read_spaces
from mlfn.cli.targets import AnyFunction
from mlfn.errors import ParameterError

if TYPE_CHECKING:
    from mlfn.signature import Signature
    from mlfn.sweep.description import Sweep
    from mlfn.sweep.sweep_run import SweepRun

_WAYS = ("grid", "zip", "random", "search")
_DRAWN = ("random", "search")
# What goes with some ways alone.
_ONLY = {"n": _DRAWN, "seed": _DRAWN, "method": ("random",), "sampler": ("search",), "pruner": ("search",)}
_PLAIN = ("parallel", "max_failures", "max_failure_rate", "retry", "memo", "deterministic", "name")


class SweptCommand(HandlerCommand):
    """The command of a function that is swept: parameters may be missing, since they are swept."""

    def _refuse_lacking(self, values: dict[str, Any]) -> None:
        del values  # looked at when it is known what is swept


def _sweep(chosen: Chosen, *, target: str, rest: Sequence[str], resume: bool, **before: Any) -> Any:
    if resume:
        return _resumed(chosen, [target, *rest])
    if target == "resume":
        return _resumed(chosen, rest)

    def submit(function: AnyFunction, call: Call, **values: Any) -> int:
        from mlfn.identity import now

        sweep = _described(function, call, values)
        begun = now()
        # Inline, the handler writes to this very stdout, where the document is to be alone.
        with contextlib.redirect_stdout(sys.stderr) if chosen.json else contextlib.nullcontext():
            run = sweep.submit(*call.args, **call.kwargs)
        went_on = run.record.created < begun
        return _see_through(
            chosen, run, "goes on" if went_on and not run.done() else "was over before" if went_on else ""
        )

    return with_target(chosen, target, rest, submit, own=_options(), before=before, command_type=SweptCommand)


def _resumed(chosen: Chosen, rest: Sequence[str]) -> Any:
    path = f"{click.get_current_context().command_path} resume"
    with resume.make_context(path, list(rest), obj=chosen) as inner:
        return resume.invoke(inner)


def _resume(chosen: Chosen, run: str) -> int:
    from mlfn import listing
    from mlfn.sweep.sweep_run import SweepRun

    old = listing.run(run)
    if not isinstance(old, SweepRun):
        raise ParameterError(f"{old.name} ({old.id[:8]}) is no sweep: `mlfn wait {old.id[:8]}` carries on a run.")
    was_over = old.done()
    with contextlib.redirect_stdout(sys.stderr) if chosen.json else contextlib.nullcontext():
        again = old.resume()
    if again.id != old.id:
        how = f"after {old.id[:8]}, which was {old.state}: what succeeded there is taken over"
    else:
        how = "was over before" if was_over else "goes on"
    return _see_through(chosen, again, how)


def _see_through(chosen: Chosen, run: SweepRun[Any], how: str) -> int:
    from mlfn.cli.watching import see_through

    size = run._body.size
    children = "children of unknown number" if size is None else "1 child" if size == 1 else f"{size} children"
    announced = f"sweep {run.id[:8]} of {run.name} on {run.record.place}: {children}" + (f"; {how}" if how else "")
    return see_through(run, announced=announced, follow=False, as_json=chosen.json)


def _described(function: AnyFunction, call: Call, values: Mapping[str, Any]) -> Sweep[Any]:
    """Return the sweep that the options describe."""
    signature = function._signed()
    way = _way(values, signature)
    if way in _DRAWN:
        points: Any = read_spaces(f"--{way}", values[way], signature)
    else:
        points = read_lists(f"--{way}", values[way], signature)
    more = {name: values[name] for name in _ONLY if values[name] is not None}
    if way == "search" and not values["select"]:
        raise click.UsageError(
            "--search lacks --select: say what to look for, as in --select max.accuracy.", click.get_current_context()
        )
    sweep: Sweep[Any] = getattr(function, way)(points, **more)
    _refuse_lacking(function, call, sweep)
    return sweep.with_options(**_sweep_options(values))


def _way(values: Mapping[str, Any], signature: Signature) -> str:
    ctx = click.get_current_context()
    ways = [way for way in _WAYS if values[way]]
    if len(ways) != 1:
        said = (
            f"{' and '.join(f'--{way}' for way in ways)} do not go together" if ways else "it is not said what varies"
        )
        raise click.UsageError(f"{said}: give --grid, --zip, --random or --search, as in --grid depth=4,8.", ctx)
    for name, allowed in _ONLY.items():
        if values[name] is not None and ways[0] not in allowed:
            flag = "-n" if name == "n" else f"--{name}"
            raise click.UsageError(
                f"{flag} goes with {' and '.join(f'--{way}' for way in allowed)}, not --{ways[0]}.", ctx
            )
    if ways[0] in _DRAWN and values["n"] is None:
        taken = f", before the target: {signature.name} has an n of its own" if "n" in signature.parameters else ""
        raise click.UsageError(f"--{ways[0]} lacks -n: say how many children there are to be, as in -n 50{taken}.", ctx)
    return ways[0]


def _refuse_lacking(function: AnyFunction, call: Call, sweep: Sweep[Any]) -> None:
    signature = function._signed()
    given = signature.bind_partly(call.args, call.kwargs)
    swept = {key.partition(".")[0] for key in sweep._chooser.keys}
    for name in signature.required():
        if name not in given and name not in swept:
            flag = name.replace("_", "-")
            raise click.UsageError(
                f"{signature.name} lacks {name!r}: sweep it, as in --grid {name}=..., or give it to all children, as in "
                f"--{flag} VALUE.",
                click.get_current_context(),
            )


def _sweep_options(values: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: values[name] for name in _PLAIN if values[name] is not None}
    options |= {name: list(values[name]) for name in ("select", "subject_to") if values[name]}
    if values["stop"] is not None:
        options["stop_when"] = values["stop"]
    if values["timeout"] is not None:
        options["timeout"] = _seconds(values["timeout"])
    return options


def _seconds(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _options() -> list[click.Option]:
    def option(*names: str, doc: str, **more: Any) -> click.Option:
        return click.Option(list(names), help=doc, **more)

    def several(metavar: str, doc: str) -> dict[str, Any]:
        return {"multiple": True, "metavar": metavar, "doc": doc}

    return [
        option("--grid", **several("KEY=VALUES", "Every combination, the first key varies fastest; or a file.")),
        option("--zip", **several("KEY=VALUES", "The first values of all, the second of all, and so on; or a file.")),
        option("--random", **several("KEY=SPACE", "-n children drawn from spaces.")),
        option("--search", **several("KEY=SPACE", "-n children chosen by what the earlier ones came to.")),
        option("-n", type=click.IntRange(min=1), metavar="N", doc="How many children, of --random and --search."),
        option("--seed", type=int, metavar="N", doc="What is drawn by; the same seed draws the same."),
        option("--method", metavar="NAME", doc="Of --random: random, latin or qmc."),
        option("--sampler", metavar="NAME", doc="Of --search: tpe, cmaes, gp, nsga2, qmc or random."),
        option(
            "--pruner", metavar="NAME", doc="Of --search: median, percentile, hyperband, asha, patient, threshold..."
        ),
        option(
            "--select", **several("SELECTOR", "Which is the best: max.accuracy, min.loss@best; several for a front.")
        ),
        option("--subject-to", **several("CONDITION", "What a child must meet to count, as 'mem_gb <= 16'.")),
        option(
            "--stop", metavar="CONDITION", doc="Ends the sweep once it holds, as 'accuracy > 0.97 or elapsed > 2h'."
        ),
        option("--parallel", type=click.IntRange(min=1), metavar="N", doc="How many children may run at a time."),
        option(
            "--max-failures", type=click.IntRange(min=0), metavar="N", doc="Fails the sweep at so many failed children."
        ),
        option("--max-failure-rate", type=float, metavar="SHARE", doc="Fails it where more than this share fails."),
        option("--timeout", metavar="TIME", doc="Ends it after so long, as 90 or 2h, with what it has."),
        option("--retry", type=click.IntRange(min=0), metavar="N", doc="How often a failed child is tried again."),
        option(
            "--memo", is_flag=True, default=None, doc="Take over results of runs with the same code and parameters."
        ),
        option("--deterministic", is_flag=True, default=None, doc="A search waits for rounds of --parallel children."),
        option("--name", metavar="NAME", doc="Run again under this name, it goes on instead of beginning anew."),
    ]


sweep = target_command(
    "sweep",
    _sweep,
    "Submit many runs of a function, wait for them, and print a table and the best. Ctrl-C cancels them.\n\n"
    "mlfn sweep resume ID  goes on with a sweep whose process died.\n\n\b\n" + GRAMMAR,
    *_options(),
    click.Option(
        ["--resume"], is_flag=True, help="TARGET is a sweep's id: go on with it, as `mlfn sweep resume` does."
    ),
)
resume = MlfnCommand(
    "resume",
    params=[click.Argument(["run"], metavar="ID")],
    callback=click.pass_obj(_resume),
    help="Go on with a sweep: what has ended is not run again. One that failed or was cancelled begins anew, with what "
    "succeeded taken over.",
    no_args_is_help=True,
)
