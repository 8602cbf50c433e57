"""What the worker of this process does right now: for those who watch over it while it trains.

Written by the training thread and read by others, field by field: each is one small value, so nobody locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PHASES = ("start", "between", "pause", "validation", "samples", "checkpoint", "data", "compute", "end")
"""In the order in which a worker goes through them from the count of one step to that of the next."""


@dataclass
class Vitals:
    """Signs of life of one worker.

    Args:
        rank: of the worker.
        step: steps done.
        phase: what the training thread is doing, one of PHASES. The exchange lies inside the compiled step,
            so a worker that waits for its peers shows "compute".
        since: when that phase began, on `time.monotonic`.
        warm: whether a step of this attempt is done: the first one compiles.
        times: seconds a step by phase, of the last entry: the journal's `time/*_s` without prefix and unit.
        examples_per_s: of the whole run, of the last entry.
        uploaded_bytes: that this worker sent to the store for checkpoints.
        checkpoint_at: when the newest checkpoint was committed, on another rank than 0 when its part of it
            was, in seconds since 1970; 0.0 before the first.
        tell: takes an event and its fields: rank 0 has it in the journal, others in their logs.
    """

    rank: int = 0
    step: int = 0
    phase: str = "start"
    since: float = field(default_factory=time.monotonic)
    warm: bool = False
    times: dict[str, float] = field(default_factory=dict)
    examples_per_s: float = 0.0
    uploaded_bytes: int = 0
    checkpoint_at: float = 0.0
    tell: Callable[..., None] | None = None

    def begin(self, rank: int, tell: Callable[..., None]) -> None:
        """A new attempt, in a process that may have had one before."""
        vars(self).update(vars(Vitals(rank=rank, tell=tell)))  # in place: others hold this object

    def enter(self, phase: str) -> None:
        """The training thread begins something else."""
        self.phase, self.since = phase, time.monotonic()

    def arrive(self, step: int) -> None:
        """The training thread has done a step."""
        self.step, self.warm = step, True
        self.enter("between")

    def rates(self, values: Mapping[str, float]) -> None:
        """Take the times and the rate of an entry: those that begin with `time/`, and the examples."""
        self.examples_per_s = values["rate/examples_per_s"]
        self.times = {
            name.removeprefix("time/").removesuffix("_s"): seconds
            for name, seconds in values.items()
            if name.startswith("time/")
        }

    def document(self) -> dict[str, Any]:
        """What travels to those who ask; `cpu_s` is what this process has used of its processors."""
        return {
            "rank": self.rank,
            "step": self.step,
            "phase": self.phase,
            "since": self.since,
            "warm": self.warm,
            "uploaded_bytes": self.uploaded_bytes,
            "cpu_s": time.process_time(),
        }


OURS = Vitals()
"""Those of this process."""
