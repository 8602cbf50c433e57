"""Who proposes parameters: pure functions of a seed, a trial's number, and what is known.

    make(search) -> Proposer        grid, random, tpe or bohb
    proposer.propose(7, history)    the parameters of trial 7; asked again, it says the same

Nothing is kept between two calls: a driver that comes back needs its journal and no state of a searcher. What
was proposed once is in the journal, and nobody is asked again.
"""

from __future__ import annotations

import itertools
import random
from typing import Any, Protocol

from lehr.spec.search import Range, Search, canonical
from lehr.sweep import space as spaces
from lehr.sweep.program import NINTH
from lehr.sweep.records import History, Parameters
from lehr.sweep.space import Space


class Proposer(Protocol):
    """Says what to try next."""

    def propose(self, number: int, history: History) -> Parameters | None:
        """The parameters of trial `number`, from 1; None: there is nothing more to try.

        What `history` knows of this trial or of later ones is left out.
        """
        ...


def make(search: Search, *, sweep: str = "", grace: float = NINTH) -> Proposer:
    """The proposer that `search.algorithm` names.

    Args:
        search: of the program: without conditions on keys that do not vary.
        sweep: the sweep's id; no draw depends on it.
        grace: share of a trial's length before the first milestone, by which trials of different lengths are
            compared.
    """
    if search.algorithm == "grid":
        return Grid(search)
    if search.algorithm == "random":
        return Random(search)
    from lehr.sweep import parzen  # Optuna takes half a second to load

    return parzen.make(search, grace)


class Random:
    """Every value by itself, from its range. Trial n is the same in every sweep with this seed and range."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def propose(self, number: int, history: History) -> Parameters:
        """See `Proposer`; nothing of `history` matters."""
        return drawn(self._search, number)


class Grid:
    """All combinations, in order. In a space that was changed: those that no trial before has had."""

    def __init__(self, search: Search) -> None:
        self._space = search.space

    def propose(self, number: int, history: History) -> Parameters | None:
        """See `Proposer`."""
        before = [trial for trial in history.trials.values() if trial.number < number]
        taken = {canonical(trial.segments[0].start.parameters) for trial in before}
        free = (one for one in spaces.combinations(self._space) if canonical(one) not in taken)
        return next(itertools.islice(free, number - 1 - len(before), None), None)


def drawn(search: Search, number: int, *, again: int = 0) -> Parameters:
    """Random parameters of a trial; `again` counts what was drawn for it before."""
    among = search.space

    def value(path: str) -> Any:
        return between(among[path], chance(search.seed, number, path, again).random())

    return settled(among, {path: value(path) for path in among})


def settled(space: Space, values: Parameters) -> Parameters:
    """Of values for all paths, those that vary given the others; in the order of the space."""
    kept = set(spaces.active(space, values))
    return {path: values[path] for path in space if path in kept}


def chance(*address: object) -> random.Random:
    """Draws at an address; Python promises the stream of a text."""
    return random.Random("/".join(map(str, address)))


def between(given: Range, share: float) -> Any:
    """The value of a range at a share of it in [0, 1)."""
    if given.kind == "log":
        low, high = given.values
        return given.nearest(low * (high / low) ** share)
    if given.count is not None:
        return given.nth(int(share * given.count))
    low, high = given.values
    return given.nearest(low + (high - low) * share)
