"""An engine of sweeps without processes, for tests: trials are arithmetic, a driver may die at any moment.

    world = World(program, proposer, seed=7, kills=5)
    world.run()                            until the sweep is finished
    world.history, world.runs

What survives a death is what would in a storage: the sweep's journal but for entries after its last flush (a
beginning and an end are flushed), each run's own journal and its checkpoints.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from lehr.spec.search import Range, Search
from lehr.sweep import space as spaces
from lehr.sweep.course import Course
from lehr.sweep.records import History, Parameters, Report, Start

TURNS = 20_000  # of a world; a sweep that needs more hangs


@dataclass(frozen=True)
class Program:
    """Of a sweep: what a course asks of `lehr.sweep.program.Program`."""

    search: Search
    trials: int
    run_id: str = "hunt"
    grace: float = 1 / 9


def program(scheduler: str = "none", algorithm: str = "random", *, trials: int = 8, **search: Any) -> Program:
    """A sweep over three keys."""
    space: dict[str, Any] = {
        "rate": {"log": [1e-4, 1e-1]},
        "steps": {"int": [2, 60]},
        "kind": {"choice": [1, 2, 3]},
    }
    if algorithm == "grid":
        space = {"steps": {"int": [1, 4]}, "kind": {"choice": [1, 2]}}
    given = {"space": space, "scheduler": scheduler, "algorithm": algorithm, "metric": "validation/loss"}
    grace = search.pop("fraction", 1 / 9)
    return Program(Search.model_validate(given | search), trials, grace=grace)


class Random:
    """Proposes by number alone."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def propose(self, number: int, history: History) -> Parameters | None:
        found: Parameters = {}
        for path in spaces.ordered(self._search.space):
            among = self._search.space[path]
            if spaces.holds(among, found):
                found[path] = _drawn(among, random.Random(f"{self._search.seed} {number} {path}").random())
        return found


class Grid:
    """Proposes all combinations."""

    def __init__(self, search: Search) -> None:
        self._all = list(spaces.combinations(search.space))

    def propose(self, number: int, history: History) -> Parameters | None:
        return self._all[number - 1] if number <= len(self._all) else None


class Learning:
    """Proposes by number and by all that is known, as TPE does: what it answers changes with every event."""

    def __init__(self, search: Search) -> None:
        self._random = Random(search)

    def propose(self, number: int, history: History) -> Parameters | None:
        known = [report.value for trial in history.trials.values() for report in trial.reports()]
        found = self._random.propose(number, history)
        assert found is not None
        return found | {"rate": 1e-4 + 1e-2 * (math.fsum(known) % 1)}


PROPOSERS: Mapping[str, Callable[[Search], Any]] = {"random": Random, "grid": Grid, "tpe": Learning}


def _drawn(among: Range, u: float) -> Any:
    if among.count:
        return among.nth(int(u * among.count))
    low, high = among.values
    return low * (high / low) ** u if among.kind == "log" else low + (high - low) * u


@dataclass
class Run:
    """What a storage has of a run."""

    parameters: Parameters
    steps: int
    at: int = 0
    level: float = 10.0  # of its state: training lowers it
    said: list[tuple[int, float]] = field(default_factory=list)  # its own journal
    heard: int = 0
    checkpoints: dict[int, float] = field(default_factory=dict)  # levels by step
    trained: list[int] = field(default_factory=list)  # steps, as done in order

    def train(self) -> float:
        """One step."""
        self.at += 1
        self.trained.append(self.at)
        pace = math.exp(-abs(math.log10(self.parameters.get("rate", 1e-2)) + 2)) / (
            1 + self.parameters["kind"]
        )
        self.level -= self.level * 0.1 * pace
        self.said.append((self.at, self.level))
        return self.level

    def resume(self) -> None:
        """From the newest checkpoint, as a new attempt; what the journal said after it does not count."""
        self.at = max(self.checkpoints, default=0)
        self.level = self.checkpoints.get(self.at, 10.0)
        self.said = [one for one in self.said if one[0] <= self.at]
        self.heard = 0  # a new reader hears all of it again


class World:
    """A sweep that is run to its end, with its storage.

    Args:
        program: of the sweep.
        seed: of everything that chance decides.
        kills: deaths of the driver.
        lost: whether unflushed entries of the journal are lost at a death.
        failures: segments that end with an error.
        stops: polite ones, of the driver.
        diverges: whether a run with these parameters diverges, at what step.
    """

    def __init__(
        self, program: Program, *, seed: int = 0, kills: int = 0, lost: bool = True, failures: int = 0,
        stops: int = 0,
        diverges: Callable[[Parameters], int | None] = lambda parameters: None, length: int = 27,
    ) -> None:  # fmt: skip
        self.program = program
        self.entries: list[str] = []
        self.runs: dict[str, Run] = {}
        self.length, self.diverges, self.lost = length, diverges, lost
        self._draw = random.Random(f"world {seed}")
        self.left = {"kill": kills, "fail": failures, "stop": stops}
        self._flushed = 0
        self._tense = False  # an end was just told: a death now is worth more than others
        self.orders: list[tuple[str, int, int]] = []  # ends that were told: run, step, steps trained by then
        self.launches = self.vanished = 0

    @property
    def history(self) -> History:
        return History.read(map(json.loads, self.entries))

    def course(self) -> Course:
        proposer = PROPOSERS[self.program.search.algorithm](self.program.search)
        return Course(cast(Any, self.program), proposer, self.history)

    def run(self) -> None:
        """Launch after launch, until the sweep is finished."""
        for _ in range(1000):
            self.launch()
            if self.course().finished and not self.course().unsaid():
                return
        raise AssertionError("the sweep does not end")

    def launch(self) -> Course:
        """One life of a driver."""
        self.launches += 1
        course, running = self.course(), dict[str, Start]()
        for start in course.unsaid():
            self._write(course.end(start, "stopped", at=self.runs[start.run].at))
        slots = self._draw.randint(1, 5)
        for _ in range(TURNS):
            if self._happens("kill"):
                self._die()
                return course
            self._tense = False
            if self._happens("stop"):
                for start in running.values():
                    run = self.runs[start.run]
                    run.checkpoints[run.at] = run.level
                    self._write(course.end(start, "interrupted", at=run.at), flush=True)
                return course
            if self._draw.random() < 0.02 and not course._failed:
                self._audit(course, running)
            start = course.next(running) if len(running) < slots else None
            if start is not None and (not running or self._draw.random() < 0.5):
                assert course.next(running) == start, "asking changed something"
                self._begin(course, start)
                running[start.run] = start
            elif running:
                self._advance(course, running, self._draw.choice(sorted(running)))
            else:
                self._flushed = len(self.entries)  # it closes its journal
                return course
        raise AssertionError("a launch does not end")

    def _audit(self, course: Course, running: dict[str, Start]) -> None:
        """A course that is made from the journal alone must be the one that wrote it."""
        other = self.course()
        assert other.history == course.history
        assert other.next(running) == course.next(running)
        for value in (0.0, self._draw.random(), 5.0, 9.0):
            for start in running.values():
                steps = self.runs[start.run].steps
                said = Report(self._draw.randint(1, steps), steps, value)
                assert other._judge.judge(start, said) == course._judge.judge(start, said)

    def _happens(self, what: str) -> bool:
        often = 0.3 if what == "kill" and self._tense else 0.03
        happens = self.left[what] > 0 and self._draw.random() < often
        self.left[what] -= happens
        return happens

    def _die(self) -> None:
        if self.lost:
            keep = self._draw.randint(self._flushed, len(self.entries))
            self.vanished += len(self.entries) - keep
            del self.entries[keep:]
        self._flushed = len(self.entries)

    def _write(self, entry: dict[str, Any], *, flush: bool = False) -> None:
        self.entries.append(json.dumps({"type": "event", **entry}, allow_nan=False))
        if flush:
            self._flushed = len(self.entries)

    def _begin(self, course: Course, start: Start) -> None:
        self._write(course.begin(start, self.length), flush=True)
        if start.run not in self.runs:
            self.runs[start.run] = self._made(start)
        run = self.runs[start.run]
        assert run.parameters == start.parameters, "a run was given other parameters"
        run.resume()

    def _made(self, start: Start) -> Run:
        run = Run(start.parameters, self.length)
        if start.source is not None:
            source = self.runs[start.source.run]
            assert start.source.step <= max(source.trained), "a state that never was"
            at = max((step for step in source.checkpoints if step <= start.source.step), default=0)
            run.checkpoints[at] = source.checkpoints.get(at, 10.0)
        return run

    def _advance(self, course: Course, running: dict[str, Start], name: str) -> None:
        start, run = running[name], self.runs[name]
        if self._happens("fail"):
            del running[name]
            self._write(course.end(start, "failed", at=run.at, message="chance"), flush=True)
            return
        if run.at < run.steps:
            run.train()
        verdict = self._say(course, start, run)
        if run.at % 4 == 0:
            run.checkpoints[run.at] = run.level
        if verdict == "continue" and self.diverges(run.parameters) == run.at:
            del running[name]
            self._write(course.end(start, "diverged", at=run.at), flush=True)
        elif verdict != "continue" or run.at >= run.steps:
            del running[name]
            run.checkpoints[run.at] = run.level
            # What a driver makes of a run that ended: the course knows the verdict.
            ended = course.end(start, "completed" if run.at >= run.steps else "interrupted", at=run.at)
            assert ended["outcome"] == {"continue": "completed", "stop": "stopped", "copy": "copied"}[verdict]
            self._write(ended, flush=self._draw.random() < 0.5)

    def _say(self, course: Course, start: Start, run: Run) -> str:
        """What the run says that was not heard in this attempt; every third step has a value."""
        news, run.heard = run.said[run.heard :], len(run.said)
        for at, value in news:
            if at % 3 == 0 or at == run.steps:
                entry = course.report(start, at, run.steps, value)
                if entry is not None:
                    self._write(entry)
                if entry is not None and entry["verdict"] != "continue":
                    self._tense = True
                    self.orders.append((start.run, at, len(run.trained)))
                    return str(entry["verdict"])
        return "continue"
