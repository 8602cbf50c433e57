"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) that waits for nobody.

A look is a multiple of `grace`, as a share of a trial's length. The first value that a trial reports at or
past a look is kept there. Once half of the population was seen at a look, a trial that comes there and is in
the bottom quantile ends, and goes on as a copy of one drawn from the top quantile: its weights, optimizer and
chains of that look, and its parameters, changed a little. All are compared as they were at the same look,
because with fewer slots than trials some are over before others begin.

A trial that diverges counts as the worst at every look that it did not reach, and goes on as a copy, too.

All draws are addressed by (seed, trial, segment, path).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lehr.spec.search import Range, Search
from lehr.sweep import space
from lehr.sweep.records import Parameters, Report, Source, Start
from lehr.sweep.rungs import GO_ON, Ruling

FACTORS = (0.8, 1.25)
RESAMPLED = 0.25  # probability that a choice is drawn anew
_SLACK = 1e-9


@dataclass(frozen=True)
class _Seen:
    """A value at a look: more is better."""

    score: float
    source: Source


class Population:
    """What was seen at the looks, and what follows for a trial that gets there.

    It does not depend on the order in which trials reported, so it can be made anew from any history.

    Args:
        search: of the sweep; its scheduler is pbt.
        grace: from look to look.
        size: of the population.
    """

    def __init__(self, search: Search, grace: float, size: int) -> None:
        self._search, self._grace, self._size = search, grace, size
        self._sign = -1.0 if search.mode == "min" else 1.0
        self._looks: dict[int, dict[int, _Seen]] = {}  # by look and trial
        self._reached: dict[int, int] = {}  # looks, by trial
        self._gone: set[int] = set()  # diverged, and no copy of them has reported yet

    def judge(self, start: Start, report: Report) -> Ruling:
        """What becomes of a trial that says this, before it is kept."""
        look = self._look(report)
        if look <= self._reached.get(start.trial, 0) or report.at >= report.steps:
            return GO_ON
        score = self._sign * report.value
        others = self._scores(look, without=start.trial)
        ranking = sorted([*others, (score, start.trial)])
        count = self._quantile(len(ranking))
        worst = {number for _, number in ranking[:count]}
        enough = len(ranking) >= max(2, math.ceil(self._size / 2))
        if not enough or start.trial not in worst or score >= ranking[-count][0]:
            return GO_ON
        told = f"{report.value:.4g} at {look * self._grace:.0%}: among the worst {count} of {len(ranking)}"
        return "copy", told

    def keep(self, start: Start, report: Report) -> None:
        """Keep a report, if it is the trial's first at a look."""
        look = self._look(report)
        self._gone.discard(start.trial)
        if look > self._reached.get(start.trial, 0):
            source = Source(start.trial, start.run, report.at)
            self._looks.setdefault(look, {})[start.trial] = _Seen(self._sign * report.value, source)
            self._reached[start.trial] = look

    def give_up(self, start: Start) -> None:
        """A trial has diverged."""
        self._gone.add(start.trial)

    def source(self, trial: int, segment: int) -> Source | None:
        """Whose state a trial's next segment begins with: that of one of the best at the last look that the
        trial reached, or at the first. None: nobody was there yet."""
        seen = self._looks.get(max(1, self._reached.get(trial, 0)), {})
        ranking = sorted((one.score, number) for number, one in seen.items() if number != trial)
        if not ranking:
            return None
        best = ranking[-max(1, self._quantile(len(ranking) + 1)) :]
        draw = _draws(self._search.seed, trial, segment, "source").random()
        return seen[best[int(draw * len(best))][1]].source

    def _look(self, report: Report) -> int:
        return int((report.at / report.steps + _SLACK) / self._grace)

    def _scores(self, look: int, *, without: int) -> list[tuple[float, int]]:
        seen = {number: one.score for number, one in self._looks.get(look, {}).items()}
        worst = {number: -math.inf for number in self._gone if self._reached.get(number, 0) < look}
        return [(score, number) for number, score in (worst | seen).items() if number != without]

    def _quantile(self, count: int) -> int:
        return min(math.ceil(count * self._search.quantile), count // 2)


def explore(search: Search, parameters: Mapping[str, Any], *, trial: int, segment: int) -> Parameters:
    """`parameters` changed a little: numbers times 0.8 or 1.25, a choice drawn anew with probability 0.25.

    A number stays in its range; one of whole steps moves by one at least, unless it is at an end. What did
    not vary before and does now, because another value changed, is drawn from its range.
    """
    found: Parameters = {}
    for path in space.ordered(search.space):
        among, draws = search.space[path], _draws(search.seed, trial, segment, path)
        if space.holds(among, found):
            found[path] = (
                _changed(among, parameters[path], draws) if path in parameters else _anew(among, draws)
            )
    return found


def _draws(seed: int, trial: int, segment: int, purpose: str) -> random.Random:
    # Python promises the stream of random() for a text: it seeds by SHA-512.
    return random.Random(f"{seed}/{trial}/{segment}/{purpose}")


def _changed(among: Range, value: Any, draws: random.Random) -> Any:
    if among.kind == "choice":
        return _anew(among, draws) if draws.random() < RESAMPLED else value
    wanted = value * FACTORS[int(draws.random() * len(FACTORS))]
    near = among.nearest(wanted)
    return _next(among, value, up=wanted > value) if near == value else near


def _next(among: Range, value: float, *, up: bool) -> Any:
    """The value one step on; the same at an end, and where there are no steps."""
    if not among.count or among.count < 2:
        return value
    low, second = among.nth(0), among.nth(1)
    place = round((value - low) / (second - low)) + (1 if up else -1)
    return among.nth(min(max(place, 0), among.count - 1))


def _anew(among: Range, draws: random.Random) -> Any:
    if among.count:
        return among.nth(int(draws.random() * among.count))
    low, high = among.values
    if among.kind == "log":
        return among.nearest(low * (high / low) ** draws.random())
    return among.nearest(low + (high - low) * draws.random())
