"""A sweep drawn: from its events to the arrays that `lehr.figures.sweeps` knows.

make(program, history, shares) -> PNG by name: history, parallel, slices, importance, lineage
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lehr.spec.search import Range, canonical
from lehr.sweep import results
from lehr.sweep.program import words
from lehr.sweep.records import History, Parameters, Trial

if TYPE_CHECKING:
    from lehr.figures.sweeps import Axis, Stretch, Trials
    from lehr.sweep.program import Program


def make(program: Program, history: History, shares: Mapping[str, float]) -> dict[str, bytes]:
    """Every picture that there is something to draw for; {} before a trial has a value.

    Args:
        program: what is searched.
        history: what came of it.
        shares: how much each key matters; {} when that is not known.
    """
    from lehr.figures import sweeps
    from lehr.figures.png import of_figure

    found = trials(program, history)
    if found.best is None:
        return {}
    mode = program.search.mode
    axes = [axis(path, each, history, mode) for path, each in program.search.space.items()]
    made = {
        "history": sweeps.history(found),
        "parallel": sweeps.parallel(found, axes),
        "slices": sweeps.slices(found, axes),
    }
    if shares:
        made["importance"] = sweeps.importance(shares)
    if any(len(trial.segments) > 1 for trial in history.trials.values()):
        made["lineage"] = sweeps.lineage(list(stretches(history)), metric=program.search.metric, mode=mode)
    return {name: of_figure(figure) for name, figure in made.items()}


def trials(program: Program, history: History) -> Trials:
    """What is compared, as arrays."""
    from lehr.figures.sweeps import Trials

    search, found = program.search, _ordered(history)
    best = [math.nan if trial.diverged else _number(trial.best(search.mode)) for trial in found]
    return Trials(
        search.metric,
        search.mode,
        np.array([trial.number for trial in found], np.int64),
        np.array(best, np.float64),
        np.array([trial.diverged for trial in found], bool),
    )


def axis(path: str, each: Range, history: History, mode: str) -> Axis:
    """One searched key, as arrays: of each trial the value with which it was best."""
    from lehr.figures.sweeps import Axis

    led = [results.best_segment(trial, mode).start.parameters for trial in _ordered(history)]
    if each.kind == "choice":
        known = [canonical(value) for value in each.values]
        places = [_place(known, path, one) for one in led]
        return Axis(path, np.array(places, np.float64), choices=tuple(map(words, each.values)))
    low, high = (float(end) for end in each.values)
    return Axis(path, np.array([_number(one.get(path)) for one in led], np.float64), each.kind == "log",
                bounds=(low, high), whole=each.kind == "int")  # fmt: skip


def stretches(history: History) -> Iterator[Stretch]:
    """The segments of all trials; a copy begins at its source's step."""
    from lehr.figures.sweeps import Stretch

    for trial in _ordered(history):
        for segment in trial.segments:
            source = segment.start.source
            other = source.trial if source and source.trial != trial.number else None
            begin = source.step if source else 0
            yield Stretch(trial.number, begin, segment.at, _number(segment.value), other,
                          segment.outcome == "diverged")  # fmt: skip


def _ordered(history: History) -> list[Trial]:
    return [trial for _, trial in sorted(history.trials.items())]


def _place(known: Sequence[str], path: str, given: Parameters) -> float:
    """Which of the choices, in canonical words, it is; NaN where the key did not vary."""
    text = canonical(given.get(path))
    return float(known.index(text)) if path in given and text in known else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
