"""What the journal of a sweep holds, and the trials that it tells of.

A sweep's folder has a journal like a run's. Its events, in the order in which they became true:

    trial      a segment of a trial begins: trial, segment, run, parameters, steps, proposed
               and for a copy (population-based training): source = {trial, run, step}
    report     a value: trial, run, at (the segment's step), steps (its last), value, verdict, reason
    ended      a segment is over: trial, run, outcome, at, value, message, train_s, wall_s
               and again = true for a diverged one whose trial goes on as a copy (population-based training)
    extended   more trials are wanted: trials (in all)
    space      the ranges were changed: space

A trial has one segment, whose run is `<sweep>-0007`; in population-based training further ones, each the copy
of another trial's state under changed parameters: `<sweep>-0007-2`. What an event says is never changed by
a later one: the state of a sweep is the fold of its events (`History.apply`), before and after a restart.
So a report whose verdict is stop or copy is the segment's end, even if the driver dies before it says so;
the next launch says it then.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lehr import journal

Parameters = dict[str, Any]  # by dotted path, only those that vary in this trial
Verdict = Literal["continue", "stop", "copy"]
Outcome = Literal["completed", "stopped", "copied", "diverged", "failed", "interrupted"]
"""completed: its last step is done. stopped: the scheduler ended it. copied: it goes on as a copy of another.
diverged: a result, counted as the worst. failed: an error; taken up again by the next launch of the sweep.
interrupted: the sweep was stopped, or its time is up; it goes on with the next launch, too."""
FINAL: frozenset[str] = frozenset({"completed", "stopped", "copied", "diverged"})
ENDS: Mapping[Verdict, Outcome | None] = {"continue": None, "stop": "stopped", "copy": "copied"}
EVENTS = ("trial", "report", "ended", "extended", "space")


@dataclass(frozen=True)
class Source:
    """Whose state a segment begins with.

    Args:
        trial: its number.
        run: the run that has the checkpoint.
        step: of the checkpoint.
    """

    trial: int
    run: str
    step: int


@dataclass(frozen=True)
class Start:
    """A segment to begin, or to go on with.

    Args:
        trial: number, from 1.
        segment: number, from 1.
        run: id of its run, below `<sweep>/trials/`.
        parameters: that vary.
        source: whose state it begins with; None: from the seed.
    """

    trial: int
    segment: int
    run: str
    parameters: Parameters
    source: Source | None = None


@dataclass(frozen=True)
class Report:
    """A value of the metric.

    Args:
        at: the step.
        steps: the segment's last step.
        value: of the metric; never infinite or NaN, which is a divergence.
    """

    at: int
    steps: int
    value: float
    verdict: Verdict = "continue"
    reason: str = ""


@dataclass
class Segment:
    """What is known of one segment."""

    start: Start
    steps: int
    reports: list[Report] = field(default_factory=list)
    outcome: Outcome | None = None  # None: it runs, or did when its driver died
    at: int = 0
    again: bool = False  # it diverged, and its trial goes on as a copy of another
    message: str = ""
    train_s: float = 0.0  # its own training, over all launches
    wall_s: float = 0.0  # the time that it held its place, over all launches
    has_ended: bool = False  # somebody said so; a driver may die between a verdict and the end

    @property
    def value(self) -> float | None:
        """The last one reported."""
        return self.reports[-1].value if self.reports else None


@dataclass
class Trial:
    """What is known of one trial."""

    number: int
    segments: list[Segment]

    @property
    def last(self) -> Segment:
        return self.segments[-1]

    @property
    def parameters(self) -> Parameters:
        """Those of its last segment."""
        return self.last.start.parameters

    @property
    def over(self) -> bool:
        """Whether nothing more becomes of it: a failed or interrupted one is taken up again."""
        return self.last.outcome in FINAL and not self.copies

    @property
    def copies(self) -> bool:
        """Whether it goes on as a copy of another, in a segment that has not begun."""
        return self.last.outcome == "copied" or self.last.again

    @property
    def diverged(self) -> bool:
        return self.last.outcome == "diverged"

    def reports(self) -> Iterable[Report]:
        """Of all segments, in order."""
        return (report for segment in self.segments for report in segment.reports)

    def best(self, mode: str) -> float | None:
        """Its best value so far; the worst there is if it diverged.

        What a segment said before it diverged is no value of a setting that one could use.
        """
        if self.diverged:
            return worst(mode)
        values = [one.value for segment in self.sound for one in segment.reports]
        return (min if mode == "min" else max)(values, default=None)

    @property
    def sound(self) -> list[Segment]:
        """Its segments without those that diverged."""
        return [segment for segment in self.segments if segment.outcome != "diverged"]


def worst(mode: str) -> float:
    """What a divergence counts as."""
    return math.inf if mode == "min" else -math.inf


def run_id(sweep: str, trial: int, segment: int = 1) -> str:
    """The run of a trial's segment."""
    return f"{sweep}-{trial:04d}" + (f"-{segment}" if segment > 1 else "")


def number(sweep: str, run: str) -> int:
    """The trial that a run is a segment of."""
    return int(run.removeprefix(f"{sweep}-").partition("-")[0])


def folder(sweep: str) -> str:
    """Where the runs of a sweep's trials are, below the storage."""
    return f"{sweep}/trials"


@dataclass
class History:
    """A sweep as far as its events tell."""

    trials: dict[int, Trial] = field(default_factory=dict)
    wanted: int = 0  # trials, by `extended`; 0 when nobody asked for more
    space: dict[str, Any] | None = None  # as changed

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take one entry of the journal; what is no event of a sweep is left out."""
        event = entry.get("event")
        if entry.get("type", "event") == "event" and event in EVENTS:
            getattr(self, f"_{event}")(entry)

    def _trial(self, entry: Mapping[str, Any]) -> None:
        source = Source(**entry["source"]) if entry.get("source") else None
        start = Start(entry["trial"], entry["segment"], entry["run"], dict(entry["parameters"]), source)
        trial = self.trials.setdefault(start.trial, Trial(start.trial, []))
        known = {segment.start.run: segment for segment in trial.segments}
        if start.run in known:  # taken up again
            known[start.run].outcome, known[start.run].message = None, ""
            known[start.run].has_ended = False
        else:
            trial.segments.append(Segment(start, entry["steps"]))

    def _report(self, entry: Mapping[str, Any]) -> None:
        segment = self.segment(entry["trial"], entry["run"])
        segment.at = max(segment.at, entry["at"])
        segment.reports.append(
            Report(entry["at"], entry["steps"], entry["value"], entry["verdict"], entry.get("reason", ""))
        )
        segment.outcome = ENDS[segment.reports[-1].verdict]
        segment.message = segment.reports[-1].reason

    def _ended(self, entry: Mapping[str, Any]) -> None:
        segment = self.segment(entry["trial"], entry["run"])
        segment.outcome, segment.again = entry["outcome"], entry.get("again", False)
        segment.has_ended = True
        segment.message = entry.get("message", "") or segment.message
        segment.at = max(segment.at, entry["at"])
        segment.train_s += entry.get("train_s", 0.0)
        segment.wall_s += entry.get("wall_s", 0.0)

    def _extended(self, entry: Mapping[str, Any]) -> None:
        self.wanted = max(self.wanted, entry["trials"])

    def _space(self, entry: Mapping[str, Any]) -> None:
        self.space = dict(entry["space"])

    def segment(self, trial: int, run: str) -> Segment:
        """One that has begun."""
        return next(one for one in self.trials[trial].segments if one.start.run == run)

    @classmethod
    def read(cls, entries: Iterable[Mapping[str, Any]]) -> History:
        """The fold of a journal."""
        history = cls()
        for entry in entries:
            history.apply(entry)
        return history


def begun(start: Start, steps: int, *, proposed: str) -> journal.Entry:
    """The event of a segment that begins; `proposed` says by whom, in words."""
    source = {"source": dataclasses.asdict(start.source)} if start.source else {}
    return {
        "event": "trial",
        "trial": start.trial,
        "segment": start.segment,
        "run": start.run,
        "parameters": start.parameters,
        "steps": steps,
        "proposed": proposed,
        **source,
    }


def reported(start: Start, report: Report) -> journal.Entry:
    """The event of a value."""
    return {"event": "report", "trial": start.trial, "run": start.run, **dataclasses.asdict(report)}


def over(start: Start, outcome: Outcome, *, at: int, message: str = "", **told: Any) -> journal.Entry:
    """The event of a segment's end; `told`: value, train_s, wall_s, again."""
    return {"event": "ended", "trial": start.trial, "run": start.run, "outcome": outcome, "at": at,
            "message": message, **told}  # fmt: skip
