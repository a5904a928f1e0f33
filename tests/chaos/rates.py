"""How often what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """How often what happens, from 0 to 1, and for how many seconds at most."""

    unreachable: float = 0.0  # a call finds the engine cut off, and so do the next ones
    unanswered: float = 0.0  # a call does what it is to do, and its answer is lost
    refused: float = 0.0  # a create is refused for good
    unavailable: float = 0.0  # a reservation finds no room for a while
    late: float = 0.0  # a report arrives later than those after it
    doubled: float = 0.0  # a report arrives twice
    replayed: float = 0.0  # a journal is delivered again from its first line
    longest: float = 1.0


NONE = Rates()
HARSH = Rates(
    unreachable=0.03,
    unanswered=0.05,
    refused=0.05,
    unavailable=0.1,
    late=0.15,
    doubled=0.15,
    replayed=0.05,
    longest=3.0,
)
"""For stories in virtual time."""

ROUGH = Rates(unreachable=0.02, unanswered=0.05, unavailable=0.05, late=0.1, doubled=0.2, replayed=0.1, longest=0.2)
"""For real time: each run is created in the end, and nothing takes long."""
