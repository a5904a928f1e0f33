"""The caller's own process and thread: tracked and durable like any other, for a debugger and for tests."""

from __future__ import annotations


class InlinePlace:
    """Runs where `submit` is called; output is not captured, resources are not limited."""

    OPTIONS = ()
    LACKS = ("image", "requirements", "cpu", "mem", "gpus", "timeout", "node")
    secrets_from_caller = True  # looked up on the same machine by the same user
    runs_in_caller = True

    @staticmethod
    def check() -> None:
        """Take no option."""
