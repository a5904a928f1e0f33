"""The caller's own process and thread, for debuggers and tests: runs are stored as anywhere else."""

from __future__ import annotations

from mlfn.backends.places.base import Capabilities
from mlfn.spec.plan import Plan

_HERE = "it runs in the caller's own process"


class InlinePlace:
    """Runs where `submit` is called; output is not captured, resources are not limited."""

    OPTIONS = ()
    CAPABILITIES = Capabilities(
        in_caller=True,
        secrets_of_caller=True,
        unsupported={"requirements": f"{_HERE}, which lacks them: install them here, or use on='local'"},
        ignored=dict.fromkeys(("image", "cpu", "mem", "gpus", "timeout", "node"), _HERE),
    )

    @staticmethod
    def check() -> None:
        """Take no option."""

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Take every plan."""
