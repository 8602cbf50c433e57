"""The course of a sweep: what begins next, and what becomes of a report.

Every decision is first an event in the sweep's journal and then a state. All that decides is the program and
the history, so a course that is made from a journal goes on as the one whose driver died:

    course = Course(program, proposer, History.read(entries))
    start = course.next(running)                       a segment to begin now, or to take up again
    journal(course.begin(start, steps))                stored before its run begins: see below
    journal(course.report(start, at, steps, value))    entry["verdict"]: continue, stop or copy
    journal(course.end(start, "completed", at=at))

What the journal did not get before a driver died did not happen. A run says its values again, and they are
judged against what is known then; so a trial whose last word was lost may be stopped where it was told to go
on, or the other way round. A verdict that was stored holds. Only a beginning must not be lost: with a history
that lacks some reports a trial of the same number could be proposed other parameters than its run has.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

from lehr.sweep import records
from lehr.sweep.population import Population, explore
from lehr.sweep.records import ENDS, History, Outcome, Parameters, Report, Segment, Start, Trial
from lehr.sweep.rungs import GO_ON, Ruling, Rungs

if TYPE_CHECKING:
    from lehr.journal import Entry
    from lehr.sweep.program import Program
    from lehr.sweep.searchers import Proposer

DIVERGED_IN_A_ROW = 3  # segments after which a trial of a population is not copied into once more


class Judge(Protocol):
    """A scheduler: made anew from any history, whatever the order in which it is told of trials."""

    def judge(self, start: Start, report: Report) -> Ruling:
        """What becomes of a trial that says this, before it is kept."""
        ...

    def keep(self, start: Start, report: Report) -> None:
        """Take a report."""
        ...

    def give_up(self, start: Start) -> None:
        """A segment has diverged."""
        ...


class Patience:
    """The scheduler `none`: all go on."""

    def judge(self, start: Start, report: Report) -> Ruling:
        """Go on."""
        return GO_ON

    def keep(self, start: Start, report: Report) -> None:
        """Nothing is kept."""

    def give_up(self, start: Start) -> None:
        """Nothing follows for others."""


class Course:
    """See the module. Not thread-safe.

    Args:
        program: of the sweep.
        proposer: of parameters; a pure function of a trial's number and the history.
        history: what the journal says; may be empty. The course goes on writing it.
    """

    def __init__(self, program: Program, proposer: Proposer, history: History) -> None:
        self.program, self.history = program, history
        self._proposer = proposer
        self._population: Population | None = None
        self._judge = self._scheduler()
        self._live: set[str] = set()  # runs that began and did not end in this launch
        self._failed: set[str] = set()  # runs that failed in this launch
        self._proposed: tuple[int, Parameters | None] | None = None  # until the history changes
        for trial in history.trials.values():
            for segment in trial.segments:
                self._learn(segment)

    def _scheduler(self) -> Judge:
        search, grace = self.program.search, self.program.grace
        if search.scheduler == "none":
            return Patience()
        if search.scheduler == "pbt":
            self._population = Population(search, grace, self.wanted)
            return self._population
        return Rungs(search, grace)

    def _learn(self, segment: Segment) -> None:
        for report in segment.reports:
            self._judge.keep(segment.start, report)
        if segment.outcome == "diverged":
            self._judge.give_up(segment.start)

    # --- what begins ------------------------------------------------------------------------------

    def next(self, running: Collection[str]) -> Start | None:
        """What to begin or to take up again now; asking changes nothing.

        First segments that a stop, a failure of an earlier launch or the death of a driver left, then further
        segments of copied trials, then new trials.

        Args:
            running: ids of the runs that run now.

        Returns:
            None: nothing now. If nothing runs either, nothing is left to do in this launch.
        """
        if self.reason:
            return None
        return self._left(running) or self._copy(running) or self._new()

    def _left(self, running: Collection[str]) -> Start | None:
        gone = (segment for segment in self._open() if segment.start.run not in self._failed)
        return next((segment.start for segment in gone if segment.start.run not in running), None)

    def _open(self) -> list[Segment]:
        """Segments that are not over, by trial."""
        last = (self.history.trials[number].last for number in sorted(self.history.trials))
        return [segment for segment in last if segment.outcome not in records.FINAL]

    def _copy(self, running: Collection[str]) -> Start | None:
        waiting = (trial for trial in self._copies() if trial.last.start.run not in running)
        return next((start for trial in waiting if (start := self._further(trial))), None)

    def _copies(self) -> list[Trial]:
        return [trial for _, trial in sorted(self.history.trials.items()) if trial.copies]

    def _further(self, trial: Trial) -> Start | None:
        """A copied trial's next segment; None while there is nobody to copy."""
        segment = trial.last.start.segment + 1
        source = self._population.source(trial.number, segment) if self._population else None
        if source is None:
            return None
        known = self.history.segment(source.trial, source.run).start.parameters
        parameters = explore(self.program.search, known, trial=trial.number, segment=segment)
        run = records.run_id(self.program.run_id, trial.number, segment)
        return Start(trial.number, segment, run, parameters, source)

    def _new(self) -> Start | None:
        parameters = self._proposal()
        if parameters is None:
            return None
        number = self._number
        return Start(number, 1, records.run_id(self.program.run_id, number), parameters)

    @property
    def _number(self) -> int:
        return max(self.history.trials, default=0) + 1

    def _proposal(self) -> Parameters | None:
        """Of a new trial; None: there are enough, or the grid has no more."""
        number = self._number
        if len(self.history.trials) >= self.wanted:
            return None
        if self._proposed is None or self._proposed[0] != number:
            self._proposed = number, self._proposer.propose(number, self.history)
        return self._proposed[1]

    # --- what happens -----------------------------------------------------------------------------

    def begin(self, start: Start, steps: int) -> Entry:
        """A segment begins, or is taken up again.

        Args:
            start: as `next` gave it.
            steps: its last step.

        Returns:
            The event, to be stored before the run begins.
        """
        entry = records.begun(start, steps, proposed=self._origin(start))
        self._apply(entry)
        self._live.add(start.run)
        return entry

    def _origin(self, start: Start) -> str:
        trial = self.history.trials.get(start.trial)
        if trial is not None and start.run in {segment.start.run for segment in trial.segments}:
            return "taken up again"
        if start.source is not None:
            return f"a copy of trial {start.source.trial} at step {start.source.step}, changed a little"
        return self.program.search.algorithm

    def report(self, start: Start, at: int, steps: int, value: float) -> Entry | None:
        """A segment says a value.

        Returns:
            The event, with its verdict. None: nothing new, because a run that was resumed says this again, or
            because it has its verdict already.

        Raises:
            ValueError: the value is a divergence, which is an end and no report.
        """
        if not (math.isfinite(value) and abs(value) <= self.program.search.diverged_above):
            raise ValueError(f"{start.run} diverged: {value} at step {at} is no report")
        segment = self.history.segment(start.trial, start.run)
        if segment.outcome in ENDS.values() and segment.outcome is not None:
            return None
        if segment.reports and at <= segment.reports[-1].at:
            return None
        verdict, reason = self._judge.judge(start, Report(at, steps, value))
        report = Report(at, steps, value, verdict, reason)
        self._judge.keep(start, report)
        entry = records.reported(start, report)
        self._apply(entry)
        return entry

    def end(self, start: Start, outcome: Outcome, *, at: int, message: str = "", **told: Any) -> Entry:
        """A segment is over.

        A verdict holds, whatever the run did before it heard of it: its outcome stays stopped, or copied.

        Args:
            start: which.
            outcome: how.
            at: its last step.
            message: for people.
            told: value, train_s, wall_s.
        """
        segment = self.history.segment(start.trial, start.run)
        outcome = segment.outcome if segment.outcome in ("stopped", "copied") else outcome
        again = {"again": True} if outcome == "diverged" and self._goes_on(start.trial) else {}
        entry = records.over(start, outcome, at=at, message=message, **told, **again)
        self._apply(entry)
        self._live.discard(start.run)
        if outcome == "failed":
            self._failed.add(start.run)
        if outcome == "diverged":
            self._judge.give_up(start)
        return entry

    def unsaid(self) -> list[Start]:
        """Segments that have their verdict and whose driver died before it said that they had ended."""
        segments = (one for trial in self.history.trials.values() for one in trial.segments)
        return [one.start for one in segments if one.outcome in records.FINAL and not one.has_ended]

    def _goes_on(self, trial: int) -> bool:
        """Whether a trial that diverges now becomes a copy of another."""
        before = self.history.trials[trial].segments[-DIVERGED_IN_A_ROW:-1]
        in_a_row = 1 + sum(segment.outcome == "diverged" for segment in before)
        return self._population is not None and in_a_row < DIVERGED_IN_A_ROW

    def _apply(self, entry: Entry) -> None:
        self.history.apply(entry)
        self._proposed = None

    # --- how it stands ----------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        """How many trials: no fewer than have begun."""
        return max(self.program.trials, self.history.wanted, len(self.history.trials))

    @property
    def over(self) -> int:
        """How many trials are over."""
        done = sum(trial.over for trial in self.history.trials.values())
        return done + (len(self._copies()) if self._hopeless else 0)

    @property
    def finished(self) -> bool:
        """Whether all wanted trials are over, or `reason` ends the sweep."""
        if self.reason:
            return True
        return not self._live and self.over == len(self.history.trials) and self._proposal() is None

    @property
    def reason(self) -> str:
        """Why the sweep ends before all trials are over; "" if it does not."""
        if self.program.search.on_divergence != "stop":
            return ""
        first = next((one for _, one in sorted(self.history.trials.items()) if _diverged(one)), None)
        return f"trial {first.number} diverged, and search.on_divergence is stop" if first else ""

    @property
    def _hopeless(self) -> bool:
        """Whether trials wait for another to copy, and nobody is left who could become one."""
        copies = self._copies()
        if not copies or self._open() or self._proposal() is not None:
            return False
        return all(self._further(trial) is None for trial in copies)

    def best(self) -> Trial | None:
        """The trial with the best value; the first of equals. None while there is no value."""
        mode = self.program.search.mode
        sign = 1 if mode == "min" else -1
        rated = [
            (value, one)
            for _, one in sorted(self.history.trials.items())
            if (value := one.best(mode)) is not None
        ]
        fit = [(sign * value, one.number, one) for value, one in rated if math.isfinite(value)]
        return min(fit, key=lambda each: each[:2])[2] if fit else None


def _diverged(trial: Trial) -> bool:
    return any(segment.outcome == "diverged" for segment in trial.segments)
