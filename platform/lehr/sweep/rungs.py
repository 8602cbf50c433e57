"""Successive halving that waits for nobody (Li et al. 2020, arXiv:1810.05934, algorithm 2).

A milestone is a share of a trial's own length: `grace`, `grace * reduction`, and so on below 1. The first
value that a trial reports at or past a milestone is kept there. The trial ends if that value is worse than
the percentile above which one of `reduction` lies among what was kept there before: the rule of Ray's
AsyncHyperBandScheduler. The first at a milestone, and equals, go on.

`hyperband` (Li et al. 2018, arXiv:1603.06560, section 3) plays this in brackets: bracket b knows no milestone
before its b-th, the last one none at all. Trials go to brackets by number, in Hyperband's proportions.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from functools import lru_cache

from lehr.spec.search import Search
from lehr.sweep.records import Report, Start, Verdict

Ruling = tuple[Verdict, str]
GO_ON: Ruling = ("continue", "")
MOST_TRIALS = 100_000
_SLACK = 1e-9  # of a trial's length: milestones are products of floats, steps are whole


def milestones(grace: float, reduction: int) -> tuple[float, ...]:
    """Shares of a trial's length at which it may end, rising, all below 1."""
    found = []
    while grace < 1 - _SLACK:
        found.append(grace)
        grace *= reduction
    return tuple(found)


def reached(marks: tuple[float, ...], at: int, steps: int) -> int:
    """How many of the milestones lie at or before step `at` of `steps`."""
    return bisect_right(marks, at / steps + _SLACK)


def cutoff(scores: list[float], reduction: int) -> float:
    """What a score must have to be among the best of `reduction`; `scores` rise, more is better.

    The percentile is interpolated as NumPy does; next to a divergence (-inf) it is that one.
    """
    below, rest = divmod((len(scores) - 1) * (reduction - 1), reduction)
    low = scores[below]
    if not rest or low == -math.inf:
        return low
    return low + (scores[below + 1] - low) * rest / reduction


@lru_cache(maxsize=16)
def brackets(count: int, reduction: int) -> tuple[int, ...]:
    """The brackets, from 0, of trials 1, 2, ...; then from the start again.

    Bracket b of `count` halves s = count - 1 - b times, and Hyperband begins
    ceil(count / (s + 1) * reduction**s) trials there (algorithm 1, line 3). Each trial goes where most are
    missing, so that the shares are kept after any number of them.
    """
    weights = [math.ceil(count / (s + 1) * reduction**s) for s in range(count - 1, -1, -1)]
    whole, given = sum(weights), [0] * count
    found: list[int] = []
    for number in range(1, min(whole, MOST_TRIALS) + 1):
        missing = [number * weight - there * whole for weight, there in zip(weights, given, strict=True)]
        chosen = missing.index(max(missing))
        given[chosen] += 1
        found.append(chosen)
    return tuple(found)


class Rungs:
    """What was kept at the milestones of a sweep, and what follows for a trial that gets there.

    It does not depend on the order in which values were kept, so it can be made anew from any history.

    Args:
        search: of the sweep; its scheduler is asha or hyperband.
        grace: the first milestone.
    """

    def __init__(self, search: Search, grace: float) -> None:
        self.milestones = milestones(grace, search.reduction)
        self._reduction, self._sign = search.reduction, -1.0 if search.mode == "min" else 1.0
        count = len(self.milestones) + 1 if search.scheduler == "hyperband" else 1
        self._brackets = brackets(count, search.reduction)
        self._kept: dict[tuple[int, int], list[float]] = {}  # scores, rising, by bracket and milestone
        self._reached: dict[int, int] = {}  # milestones, by trial

    def judge(self, start: Start, report: Report) -> Ruling:
        """What becomes of a trial that says this, before it is kept."""
        place = self._place(start.trial, report)
        scores = self._kept.get(place, []) if place else []
        if not place or not scores or report.at >= report.steps:
            return GO_ON
        least = cutoff(scores, self._reduction)
        if self._sign * report.value >= least:
            return GO_ON
        mark = f"{self.milestones[place[1]]:.0%}"
        return (
            "stop",
            f"{report.value:.4g} at {mark}; of {len(scores)} there, {self._sign * least:.4g} goes on",
        )

    def keep(self, start: Start, report: Report) -> None:
        """Keep a report, if it is the first at a milestone."""
        place = self._place(start.trial, report)
        if place:
            insort(self._kept.setdefault(place, []), self._sign * report.value)
        now = reached(self.milestones, report.at, report.steps)
        self._reached[start.trial] = max(now, self._reached.get(start.trial, 0))

    def give_up(self, start: Start) -> None:
        """A trial has diverged: it is the worst at every milestone that it did not reach."""
        own = self._bracket(start.trial)
        for index in range(max(own, self._reached.get(start.trial, 0)), len(self.milestones)):
            insort(self._kept.setdefault((own, index), []), -math.inf)
        self._reached[start.trial] = len(self.milestones)

    def _place(self, trial: int, report: Report) -> tuple[int, int] | None:
        """Bracket and milestone where a report belongs: of several passed at once, the last."""
        now, own = reached(self.milestones, report.at, report.steps), self._bracket(trial)
        return (own, now - 1) if now > max(own, self._reached.get(trial, 0)) else None

    def _bracket(self, trial: int) -> int:
        return self._brackets[(trial - 1) % len(self._brackets)]
