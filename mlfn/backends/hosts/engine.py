"""What Nuclio's processor on this machine is started with, as the host knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlfn.backends.kinds.nuclio.configuration import configuration
from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.backends.kinds.nuclio.triggers import Http
from mlfn.backends.places.base import PlaceConfig
from mlfn.errors import OptionError
from mlfn.spec.plan import Plan

WRAPPER = "_nuclio_wrapper.py"


def engine_of(plan: Plan, kind: Nuclio, config: PlaceConfig) -> dict[str, Any]:
    """Return the paths and the function's configuration, and how many workers there are.

    `slots` are the numbers from which the workers of each trigger count; `http` is the name of the trigger for requests, of which
    there is one, whether declared or not: mlfn asks there.
    """
    wrapper = config.wrapper or str(Path(config.processor).with_name(WRAPPER))
    if not Path(wrapper).is_file():
        raise OptionError(
            f"There is no {wrapper}, the wrapper of the processor {config.processor}: set MLFN_NUCLIO_WRAPPER to the file "
            f"{WRAPPER} of the same version of Nuclio."
        )
    made = configuration(kind, plan)
    triggers = made["spec"]["triggers"]
    http = next((name for name, item in triggers.items() if item["kind"] == Http.KIND), None)
    if http is None:
        http = "default-http"
        triggers[http] = {"kind": Http.KIND, "name": http, "numWorkers": 1, "attributes": {}}
    slots, others = {http: 0}, 0
    for name, item in triggers.items():
        if name != http:
            slots[name] = _FIRST_OF_OTHERS + others
            others += item["numWorkers"]
    return {
        "processor": config.processor,
        "wrapper": wrapper,
        "payload": plan.payload,
        "configuration": made,
        "http": http,
        "others": others,
        "slots": slots,
        "workers": _FIRST_OF_OTHERS + others,
    }


_FIRST_OF_OTHERS = 256  # as many as there may be workers for requests
