"""Proposers with a model of the space: Parzen estimators, by Optuna.

Each proposal is made from nothing: a study in memory gets what the history says, and is asked once. What is
drawn depends on the seed and the trial's number, and on no earlier question.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from lehr.spec.search import Range, Search, canonical
from lehr.sweep import rungs, searchers
from lehr.sweep.observations import Observation, Observer
from lehr.sweep.records import History, Parameters

TPE_CANDIDATES, BOHB_CANDIDATES = 24, 64  # drawn for one proposal; of them the most promising is taken
BOHB_RANDOM = 1 / 3  # share of proposals without the model, so that it cannot lead astray for ever
TENTH = 10  # one of so many results counts as good, in Optuna's sampler as in Hyperopt
TRIES = 8  # at something that was not tried before

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # `group` below


def make(search: Search, grace: float) -> searchers.Proposer:
    """The proposer with a model that `search.algorithm` names."""
    return (Bohb if search.algorithm == "bohb" else Tpe)(search, grace)


def startup(search: Search) -> int:
    """How many results there are before there is a model; until then proposals are random."""
    return min(10, max(5, 2 * len(search.space)))


class Tpe:
    """Tree-structured Parzen estimators (Bergstra et al. 2011), over all keys at once, as Optuna has them.

    Trials that ended early count as worse than whole ones, by the last milestone that they reached and the
    value there; those that diverged as worse than all. Trials that run count as bad, so that nobody tries
    beside them (constant liar).
    """

    def __init__(self, search: Search, grace: float) -> None:
        self._search = search
        self._observer = Observer(search, rungs.milestones(grace, search.reduction))

    def propose(self, number: int, history: History) -> Parameters:
        """See `Proposer`."""
        known = fitting(self._search, self._observer.look(history, before=number))
        results = [one for one in known if one.state != "running"]
        valued = sum(1 for one in results if one.values)
        if len(results) < startup(self._search) or not valued:
            return searchers.drawn(self._search, number)
        told = [self._told(one) for one in fewer_diverged(known, valued)]
        return untried(asked(self._search, told, number=number, candidates=TPE_CANDIDATES), known)

    def _told(self, one: Observation) -> FrozenTrial:
        if one.state == "whole":
            return trial_of(self._search, one, TrialState.COMPLETE, value=one.values[self._observer.end])
        if one.state == "running":
            return trial_of(self._search, one, TrialState.RUNNING)
        return trial_of(self._search, one, TrialState.PRUNED, values=one.values)


class Bohb:
    """The model of BOHB (Falkner et al. 2018, arXiv:1807.01774, section 3.2): of values at one milestone.

    It is the highest one at which enough trials had a value: three more than there are keys. A third of the
    proposals are random.
    """

    def __init__(self, search: Search, grace: float) -> None:
        self._search, self._enough = search, len(search.space) + 3
        self._observer = Observer(search, rungs.milestones(grace, search.reduction))

    def propose(self, number: int, history: History) -> Parameters:
        """See `Proposer`."""
        known = fitting(self._search, self._observer.look(history, before=number))
        level, valued = self._level(known)
        by_chance = searchers.chance(self._search.seed, number, "bohb").random() < BOHB_RANDOM
        if not valued:
            return searchers.drawn(self._search, number)
        if by_chance:
            return untried(drawn_again(self._search, number), known)
        told = [trial for one in fewer_diverged(known, valued) if (trial := self._told(one, level))]
        return untried(asked(self._search, told, number=number, candidates=BOHB_CANDIDATES), known)

    def _level(self, known: Sequence[Observation]) -> tuple[int, int]:
        """The highest milestone with enough values, and how many; (0, 0): there is none."""
        levels = range(self._observer.end, 0, -1)
        counts = ((level, sum(1 for one in known if level in one.values)) for level in levels)
        return next(((level, count) for level, count in counts if count >= self._enough), (0, 0))

    def _told(self, one: Observation, level: int) -> FrozenTrial | None:
        """What a trial says at a milestone; None: it ended before."""
        if level in one.values:
            return trial_of(self._search, one, TrialState.COMPLETE, value=one.values[level])
        if one.state == "running":
            return trial_of(self._search, one, TrialState.RUNNING)
        return trial_of(self._search, one, TrialState.PRUNED) if one.state == "diverged" else None


def fewer_diverged(known: Sequence[Observation], valued: int) -> list[Observation]:
    """Without the first ones that diverged, where they are so many that some would count as good."""
    diverged = [one.number for one in known if one.state == "diverged"]
    kept = set(diverged[-(TENTH - 1) * valued :])
    return [one for one in known if one.state != "diverged" or one.number in kept]


def fitting(search: Search, known: Sequence[Observation]) -> list[Observation]:
    """Those whose values the ranges can give: a space that was changed may have left others outside."""
    space = search.space

    def fits(parameters: Parameters) -> bool:
        return all(space[path].contains(value) for path, value in parameters.items() if path in space)

    return [one for one in known if fits(one.parameters)]


def untried(proposals: Iterator[Parameters], known: Sequence[Observation]) -> Parameters:
    """The first that no trial has had, else the very first: to train the same again tells nothing."""
    tried = {canonical(one.parameters) for one in known}
    first = next(proposals)
    if canonical(first) not in tried:
        return first
    return next((one for one in proposals if canonical(one) not in tried), first)


def drawn_again(search: Search, number: int) -> Iterator[Parameters]:
    """What is drawn for a trial, and what else could be."""
    return (searchers.drawn(search, number, again=again) for again in range(TRIES))


def asked(
    search: Search, told: Sequence[FrozenTrial], *, number: int, candidates: int
) -> Iterator[Parameters]:
    """What Optuna proposes, given what it is told, and what else it could; in the end what chance does."""
    for again in range(TRIES):
        seed = searchers.chance(search.seed, number, search.algorithm, again).getrandbits(32)
        yield _asked_once(search, told, _sampler(seed, candidates))
    yield from drawn_again(search, number)


def _sampler(seed: int, candidates: int) -> TPESampler:
    # group: keys that vary in some trials only have a model of their own.
    return TPESampler(
        n_startup_trials=0, n_ei_candidates=candidates, seed=seed, multivariate=True, group=True,
        constant_liar=True,
    )  # fmt: skip


def _asked_once(search: Search, told: Sequence[FrozenTrial], sampler: TPESampler) -> Parameters:
    direction = "minimize" if search.mode == "min" else "maximize"
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials(told)
    distributions = {path: distribution(given) for path, given in search.space.items()}
    places = study.ask(fixed_distributions=distributions).params
    values = {path: value_at(search.space[path], place) for path, place in places.items()}
    return searchers.settled(search.space, values)


def trial_of(
    search: Search,
    one: Observation,
    state: TrialState,
    *,
    value: float | None = None,
    values: dict[int, float] | None = None,
) -> FrozenTrial:
    """A trial as Optuna has it."""
    space = {path: given for path, given in search.space.items() if path in one.parameters}
    return create_trial(
        state=state,
        value=value,
        params={path: place_of(given, one.parameters[path]) for path, given in space.items()},
        distributions={path: distribution(given) for path, given in space.items()},
        intermediate_values=values or {},
    )


def distribution(given: Range) -> BaseDistribution:
    """A range as Optuna has it; what can be counted by its places: there, choices are plain values and steps
    are sums of floats."""
    if given.kind == "choice":
        return CategoricalDistribution(range(len(given.values)))
    if given.kind == "log":
        return FloatDistribution(*given.values, log=True)
    if given.count is not None:
        return IntDistribution(0, given.count - 1)
    return FloatDistribution(*given.values)


def value_at(given: Range, place: Any) -> Any:
    """The value that stands for what Optuna proposed."""
    if given.kind == "log" or given.count is None:
        return given.nearest(float(place))
    return given.nth(int(place))


def place_of(given: Range, value: Any) -> Any:
    """What stands for a value of the range, to Optuna."""
    if given.kind == "choice":
        return [canonical(one) for one in given.values].index(canonical(value))
    if given.kind == "log" or given.count is None:
        return float(value)
    return round((value - given.values[0]) / float(given.step or 1))
