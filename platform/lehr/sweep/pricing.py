"""What a sweep costs at most, and what it likely costs with the scheduler that it has."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lehr.plan import Plan
from lehr.spec.search import Search
from lehr.sweep import demands, rungs


@dataclass(frozen=True)
class Cost:
    """A sweep's cost. Steps are of all trials together.

    Args:
        trials: wanted.
        workers: of a trial.
        slots: trials at once at most; None: as many as find room.
        steps_each: of the shortest and of the longest trial among the corners.
        marks: shares of a trial's length after which it may end or become a copy.
        steps_most: if none ends early.
        steps_expected: if the scheduler ends as many as it means to, and none diverges.
        bytes_most: of the checkpoints that lie in storage; None: the model's kind cannot tell.
    """

    trials: int
    workers: int
    slots: int | None
    steps_each: tuple[int, int]
    marks: tuple[float, ...]
    steps_most: int
    steps_expected: int
    bytes_most: int | None

    def hours(self, step_s: float, slots: int = 1) -> tuple[float, float]:
        """Of training: expected and at most, on so many slots that are never empty."""
        per_step = step_s / 3600 / min(slots, self.trials)
        return self.steps_expected * per_step, self.steps_most * per_step


def cost(search: Search, trials: int, grace: float, plans: Sequence[Plan]) -> Cost:
    """The cost of so many trials.

    Args:
        search: what the sweep is.
        trials: wanted.
        grace: share of a trial's length.
        plans: of the space's corners; trials are taken to be like them on the average.
    """
    lengths = [plan.steps for plan in plans]
    expected = statistics.fmean(plan.steps * share(search, grace, plan) for plan in plans)
    keeps = kept if search.scheduler == "pbt" else lambda plan: plan.checkpoints_kept
    sizes = [None if plan.checkpoint_bytes is None else plan.checkpoint_bytes * keeps(plan)
             for plan in plans]  # fmt: skip
    known = [size for size in sizes if size is not None]
    marks = _marks(search, grace)
    copies = len(marks) if search.scheduler == "pbt" else 0
    return Cost(
        trials=trials, workers=plans[0].workers, slots=search.concurrent,
        steps_each=(min(lengths), max(lengths)), marks=marks, steps_most=trials * max(lengths),
        steps_expected=round(trials * expected),
        bytes_most=trials * (1 + copies) * max(known) if len(known) == len(sizes) else None,
    )  # fmt: skip


def kept(plan: Plan) -> int:
    """Checkpoints that a trial of a population keeps: all of them, for others may still copy each look."""
    every = plan.checkpoint_every.steps
    return plan.checkpoints_kept if every is None else -(-plan.steps // every)


def share(search: Search, grace: float, plan: Plan) -> float:
    """The part of its length that a trial trains on the average."""
    if search.scheduler not in ("asha", "hyperband"):
        return 1.0
    marks = _reported(rungs.milestones(grace, search.reduction), search, plan)
    if search.scheduler == "asha":
        return _halved(marks, search.reduction)
    places = rungs.brackets(len(marks) + 1, search.reduction)
    return statistics.fmean(_halved(marks[place:], search.reduction) for place in places)


def _halved(marks: Sequence[float], reduction: int) -> float:
    """One of `reduction` goes on at each mark (Li et al. 2020, algorithm 2)."""
    ends = [0.0, *marks, 1.0]
    return sum((high - low) / reduction**rung for rung, (low, high) in enumerate(itertools.pairwise(ends)))


def _reported(marks: Sequence[float], search: Search, plan: Plan) -> list[float]:
    """The first report at or past each mark: there a trial learns what becomes of it. Each once, below 1."""
    every = demands.reports_every(search, plan).steps or 1
    found = (math.ceil(round(mark * plan.steps / every, 9)) * every / plan.steps for mark in marks)
    return sorted({mark for mark in found if mark < 1})


def _marks(search: Search, grace: float) -> tuple[float, ...]:
    if search.scheduler == "none":
        return ()
    if search.scheduler == "pbt":
        return tuple(look * grace for look in range(1, math.ceil(1 / grace - 1e-9)))
    return rungs.milestones(grace, search.reduction)
