"""What trials say to a model of the space: which parameters led to which value, and how far it is to be
trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lehr.spec.search import Search
from lehr.sweep import rungs
from lehr.sweep.records import History, Parameters, Report, Trial


@dataclass(frozen=True)
class Observation:
    """One trial.

    Args:
        number: of the trial.
        parameters: those of its last segment.
        state: whole: its last step is done. part: it ended before. running: nobody knows yet. diverged.
        values: by the number of milestones reached, the first value there; a whole trial has its best one at
            the end.
    """

    number: int
    parameters: Parameters
    state: Literal["whole", "part", "running", "diverged"]
    values: dict[int, float]


@dataclass(frozen=True)
class Observer:
    """Looks at a history as one does who proposes.

    Args:
        search: of the program.
        milestones: shares of a trial's length.
    """

    search: Search
    milestones: tuple[float, ...]

    @property
    def end(self) -> int:
        """What a whole trial's value is filed under."""
        return len(self.milestones) + 1

    def look(self, history: History, *, before: int) -> list[Observation]:
        """The trials before that number. Failed and interrupted ones without a value say nothing."""
        trials = (history.trials[number] for number in sorted(history.trials) if number < before)
        seen = (self.of(trial) for trial in trials)
        return [one for one in seen if one.values or one.state in ("running", "diverged")]

    def of(self, trial: Trial) -> Observation:
        """What one trial says."""
        outcome = trial.last.outcome
        values = dict(self._filed(trial.last.reports))
        if outcome is None:
            return Observation(trial.number, trial.parameters, "running", values)
        if outcome == "diverged":
            return Observation(trial.number, trial.parameters, "diverged", {})
        if outcome == "completed" and values:
            best = (min if self.search.mode == "min" else max)(one.value for one in trial.last.reports)
            return Observation(trial.number, trial.parameters, "whole", values | {self.end: best})
        return Observation(trial.number, trial.parameters, "part", values)

    def _filed(self, reports: list[Report]) -> Iterator[tuple[int, float]]:
        last = -1
        for report in reports:
            now = rungs.reached(self.milestones, report.at, report.steps)
            if now > last:
                yield now, report.value
                last = now
