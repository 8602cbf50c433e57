"""How much each key of a sweep matters: functional ANOVA (Hutter et al. 2014), by Optuna."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from lehr.spec.search import Range, canonical
from lehr.sweep.records import History, Parameters, Trial

if TYPE_CHECKING:
    from lehr.sweep.program import Program

LEAST = 4  # finished trials
MOST = 300  # of them looked at: the time grows faster than their number, and 300 take some seconds
Space = Mapping[str, Range]

optuna.logging.set_verbosity(optuna.logging.WARNING)


def importances(program: Program, history: History) -> dict[str, float]:
    """The share of each key in the variance of the trials' ranks, most first; together they are 1.

    Ranks instead of values, because one trial that almost diverged would be all the variance; those that did
    diverge are last. A trial that ended early has its best value. A key that did not vary in a trial counts
    as in the middle of its range. Of more than MOST trials so many are taken, evenly by number.

    Returns:
        Shares by path; {} where nothing can be told: fewer than LEAST finished trials, a single key, or no
        difference between them.
    """
    search = program.search
    trials = _some([one for _, one in sorted(history.trials.items()) if _counts(search.space, one)])
    sign = 1.0 if search.mode == "min" else -1.0
    scores = ranks([sign * (trial.best(search.mode) or 0.0) for trial in trials])
    parameters = [_led(trial, sign) for trial in trials]
    keys = [path for path, given in search.space.items() if _varied(given, path, parameters)]
    if len(trials) < LEAST or len(search.space) < 2 or len(set(scores)) < 2 or not keys:
        return {}
    shares = _fanova(search.space, parameters, scores, seed=search.seed % 2**32)
    return {path: float(share) for path, share in shares.items()}


def _some(trials: Sequence[Trial]) -> Sequence[Trial]:
    """At most MOST of them, the first and the last among these."""
    gap = max(1.0, (len(trials) - 1) / (MOST - 1))
    return [trials[round(place * gap)] for place in range(min(MOST, len(trials)))]


def _counts(space: Space, trial: Trial) -> bool:
    """Whether a trial is over, has a value, and lies in the ranges as they are now."""
    held = (item for segment in trial.segments for item in segment.start.parameters.items())
    inside = all(space[path].contains(value) for path, value in held if path in space)
    return trial.over and inside and trial.best("min") is not None


def _led(trial: Trial, sign: float) -> Parameters:
    """The parameters that a trial's best value came under: those of a population's trial change."""
    if trial.diverged:
        return trial.parameters
    rated = [(sign * report.value, segment) for segment in trial.segments for report in segment.reports]
    return min(rated, key=lambda each: each[0])[1].start.parameters


def _varied(given: Range, path: str, parameters: Sequence[Parameters]) -> bool:
    return len({place(given, one.get(path)) for one in parameters}) > 1


def _fanova(
    space: Space, parameters: Sequence[Parameters], scores: Sequence[float], *, seed: int
) -> dict[str, float]:
    distributions = {path: coordinate(given) for path, given in space.items()}
    study = optuna.create_study()
    for one, score in zip(parameters, scores, strict=True):
        places = {path: place(given, one.get(path)) for path, given in space.items()}
        study.add_trial(create_trial(params=places, distributions=distributions, value=score))
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))


def ranks(values: Sequence[float]) -> list[float]:
    """The place of each value among all, from 0 for the least; equals share the mean of theirs."""
    rising = sorted(values)
    return [(bisect.bisect_left(rising, one) + bisect.bisect_right(rising, one) - 1) / 2 for one in values]


def coordinate(given: Range) -> BaseDistribution:
    """A range on the axis on which it is uniform: shares of the variance are over that."""
    if given.kind == "choice":
        return CategoricalDistribution(range(len(given.values)))
    low, high = given.values
    return FloatDistribution(_on_axis(given, low), _on_axis(given, high))


def place(given: Range, value: Any) -> Any:
    """Where a value lies on that axis; None, which is no value of a number: the middle."""
    if given.kind == "choice":
        known = [canonical(one) for one in given.values]
        return known.index(canonical(value)) if canonical(value) in known else len(known) // 2
    if value is None:
        low, high = given.values
        return (_on_axis(given, low) + _on_axis(given, high)) / 2
    return _on_axis(given, value)


def _on_axis(given: Range, value: float) -> float:
    return math.log10(value) if given.kind == "log" else float(value)
