"""Sweeps in storage that nobody trained: their journals are what a course says of made-up values."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from lehr import journal, spec, status
from lehr.journal import Journal
from lehr.store import Store, connect
from lehr.sweep import program as programs
from lehr.sweep import searchers
from lehr.sweep.course import Course
from lehr.sweep.program import Program
from lehr.sweep.records import History, Parameters, Report, Segment, Source, Start, Trial

SWEEP = """
version: 1
name: finding
model: {kind: ebm}
data: {kind: digits, image_size: 16, range: [-1, 1], train_examples: 300, validation_examples: 50}
train: {global_batch: 64, duration: {steps: 27}, optimizer: {kind: adam, learning_rate: 1.0e-4}}
sampler: {kind: langevin, steps: 10, step_size: 10, buffer: {size: 512}}
checkpoint: {every: {steps: 3}}
validation: {every: {steps: 3}}
tracking: {every: {steps: 1}, wandb: null}
search:
  space:
    train.optimizer.learning_rate: {log: [1.0e-5, 1.0e-3]}
    sampler.step_size: {log: [1, 30]}
    sampler.steps: {int: [5, 20]}
    model.filters: {choice: [[8, 16], [16, 32, 64, 64]]}
  algorithm: random
  scheduler: asha
  metric: validation/contrastive_divergence
  trials: 12
  seed: 3
"""
PBT = (
    "search.space={train.optimizer.learning_rate: {log: [1e-5, 1e-3]}, sampler.step_size: {log: [1, 30]}}",
    "search.scheduler=pbt",
    "search.trials=8",
)
Value = Callable[[Parameters, float], float]


def program(*sets: str, run_id: str | None = None, storage: Path | None = None) -> Program:
    """The sweep above, changed by `--set` texts."""
    place = [f"storage={storage}"] if storage else []
    return programs.make(spec.parse(SWEEP, sets=[*sets, *place]), run_id=run_id)


def value(parameters: Parameters, progress: float) -> float:
    """Least at a learning rate of 1e-4 and a step size of 6; a step size above 22 diverges halfway."""
    if parameters["sampler.step_size"] > 22 and progress > 0.5:
        return math.nan
    rate = math.log10(parameters["train.optimizer.learning_rate"] / 1e-4)
    size = math.log10(parameters["sampler.step_size"] / 6)
    return 0.1 + rate**2 + 2 * size**2 + 0.5 * (1 - progress)


def tell(folder: Store, wanted: Program, *, most: int | None = None, ending: str = "completed") -> History:
    """Write a sweep's folder: all of it, or its first `most` segments; the journal as one launch."""
    folder.write("spec.yaml", spec.text(wanted.spec).encode())
    folder.write("sweep.json", json.dumps(wanted.document()).encode())
    number = journal.claim_attempt(folder)
    course = Course(wanted, searchers.make(wanted.search, sweep=wanted.run_id), History())
    with_journal = Journal(folder, number)
    with_journal.start(0, workers=0)
    _play(course, with_journal, most)
    with_journal.end(0, ending)
    with_journal.close()
    told = status.Status(ending, course.over, wanted.trials, number)
    status.write(folder, told)
    return course.history


def _play(course: Course, diary: Journal, most: int | None) -> None:
    """Trials side by side, by turns: four at a time, or a whole population."""
    places = course.wanted if course.program.search.scheduler == "pbt" else 4
    running: dict[str, tuple[Start, int]] = {}
    begun, draws = 0, random.Random(1)
    while True:
        while len(running) < places and (most is None or begun < most):
            start = course.next(list(running))
            if start is None:
                break
            _write(diary, course.begin(start, 27))
            begun += 1
            running[start.run] = (start, start.source.step if start.source else 0)
        if not running:
            return
        for start, at in draws.sample(list(running.values()), len(running)):
            running[start.run] = (start, at + 3)
            if _step(course, diary, start, at + 3):
                del running[start.run]


def _step(course: Course, diary: Journal, start: Start, at: int) -> bool:
    """Whether the segment is over."""
    found, times = value(start.parameters, at / 27), {"train_s": at * 0.1, "wall_s": at * 0.12}
    if not math.isfinite(found):
        _write(
            diary, course.end(start, "diverged", at=at, message=f"train/loss is nan at step {at}", **times)
        )
        return True
    event = course.report(start, at, 27, found)
    if event is not None:
        _write(diary, event)
        if event["verdict"] != "continue":
            outcome = "stopped" if event["verdict"] == "stop" else "copied"
            _write(diary, course.end(start, outcome, at=at, **times))
            return True
    if at >= 27:
        _write(diary, course.end(start, "completed", at=at, **times))
        return True
    return False


def _write(diary: Journal, event: journal.Entry) -> None:
    diary.event(event["event"], **{name: told for name, told in event.items() if name != "event"})


def worsened(path: str, good: object, bad: object) -> History:
    """One trial of a population, whose second segment never was as good as its first."""
    first, copied = Start(1, 1, "pop-0001", {path: good}), Source(2, "pop-0002", 9)
    second = Start(1, 2, "pop-0001-2", {path: bad}, copied)
    segments = [
        Segment(first, 27, [Report(9, 27, 0.125, "copy")], "copied", at=9),
        Segment(second, 27, [Report(27, 27, 0.5)], "completed", at=27),
    ]
    return History({1: Trial(1, segments)})


def storage(folder: Path) -> Store:
    return connect(str(folder))
