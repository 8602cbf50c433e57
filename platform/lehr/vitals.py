"""What the worker of this process does right now: for those who watch over it while it trains.

Written by the training thread and read by others, field by field: each is one small value, so nobody locks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

WAITING = "exchange"  # the phase of a worker that waits for its peers


@dataclass
class Vitals:
    """Signs of life of one worker.

    Args:
        rank: of the worker.
        step: steps done.
        phase: what the training thread is doing: "start", "data", "compute", "exchange", "checkpoint",
            "samples", "validation", "pause" or "end". The exchange lies inside the compiled step, so a worker
            that waits for its peers may also show "compute".
        since: when that phase began, on `time.monotonic`.
        times: seconds a step by phase, of the last entry: the journal's `time/*_s`.
        examples_per_s: of the whole run, of the last entry.
        uploaded_bytes: that this worker sent to the store for checkpoints.
        checkpoint_at: when the newest checkpoint was committed, in seconds since 1970; 0.0 before the first.
    """

    rank: int = 0
    step: int = 0
    phase: str = "start"
    since: float = field(default_factory=time.monotonic)
    times: dict[str, float] = field(default_factory=dict)
    examples_per_s: float = 0.0
    uploaded_bytes: int = 0
    checkpoint_at: float = 0.0

    def enter(self, phase: str) -> None:
        """The training thread begins something else."""
        self.phase, self.since = phase, time.monotonic()


OURS = Vitals()
"""Those of this process."""
