"""The driver of a sweep. An engine (`serial`, or `tuning` on Ray) runs its trials and talks to its `Desk`.

    result = run(program, storage, watch=show, asked=lambda: False)

The same call again goes on where the last one ended, in whatever way: everything that is known is in the
sweep's journal and in the runs of its trials.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lehr import journal
from lehr.errors import LaunchError, letter
from lehr.fence import Fence, Fenced
from lehr.journal import Journal
from lehr.launch import admission, diary, entrance, stopping
from lehr.launch.desk import Desk, Live, View
from lehr.launch.entrance import Before
from lehr.launch.keeper import ASKED, Keeper
from lehr.store import Store
from lehr.store.patient import DENIED_S, Patient
from lehr.sweep import records, searchers
from lehr.sweep.course import Course
from lehr.sweep.program import Program
from lehr.sweep.records import Trial

__all__ = ["Desk", "Live", "Result", "View", "run"]

COPY_S = 60.0  # that the copy of a trial's state waits for a storage that fails


@dataclass(frozen=True)
class Result:
    """How a launch of a sweep ended.

    Args:
        status: completed: all wanted trials are over; stopped: it was asked to stop, its budget is used up,
            or a trial diverged where that stops the sweep.
        trials: wanted.
        over: of them.
        best: the trial with the best value; None while there is no value.
        message: why it stopped.
    """

    status: Literal["completed", "stopped"]
    trials: int
    over: int
    best: Trial | None
    message: str = ""


def run(
    program: Program, storage: Store, *, address: str | None = None, local: bool = False,
    watch: Callable[[View], None] = lambda view: None, asked: Callable[[], bool] = lambda: False,
) -> Result:  # fmt: skip
    """Run a sweep to its end, or go on with it.

    Args:
        program: what is wanted.
        storage: where runs and sweeps are.
        address: of a Ray cluster; None starts one on this machine for as long as it takes.
        local: without Ray, one trial after another.
        watch: takes how the sweep is, a few times a second, in another thread.
        asked: whether somebody wants it to stop; `control/stop` in its folder says so, too. Trials that run
            then end with a checkpoint, and go on with the next launch.

    Raises:
        UserError: the folder is another run's or sweep's, or the sweep runs already; a mistake in the job.
        LaunchError: trials failed. The same call again takes them up.
        Superseded: another driver has taken the sweep over.
    """
    base = program.base()
    admission.require(base)
    patience_s = 60.0 * base.spec.recovery.max_unsaved_minutes
    folder = Patient(storage.below(program.run_id), patience_s=patience_s, denied_s=DENIED_S, tell=_say)
    stale = folder.size(stopping.KEY) is not None  # of an earlier launch: this one's come later
    if not local:
        admission.visible(storage)

    def say(line: str) -> None:
        _say(line)
        watch(View(records.History(), program.trials, waiting=line))

    entrance.before(program, folder, say=say)
    attempt = journal.claim_attempt(folder)
    if stale:
        stopping.clear(folder)
    before, sealed = entrance.sealed(program, folder, attempt)
    launch = _Launch(before, storage, attempt)
    launch.begin(folder, sealed)
    return launch.run(address, local=local, watch=watch, asked=asked)


def _say(line: str) -> None:
    print(f"lehr: {line}", file=sys.stderr, flush=True)


class _Launch:
    """One life of a sweep's driver."""

    def __init__(self, before: Before, storage: Store, attempt: int) -> None:
        self._before, self._storage, self._attempt = before, storage, attempt
        program = self._program = before.program
        self._folder = storage.below(program.run_id)
        self._fence = Fence(self._folder, attempt)
        self._journal = Journal(self._folder, attempt, fence=self._fence)
        proposer = searchers.make(program.search, sweep=program.run_id, grace=program.grace)
        self._course = Course(program, proposer, before.history)
        self._trials = storage.below(records.folder(program.run_id))
        copies = Patient(self._trials, patience_s=COPY_S, tell=_say)
        self._desk = Desk(program, self._course, self._journal, copies)

    def begin(self, patient: Store, sealed: Mapping[str, int]) -> None:
        """Say what this launch starts from; `sealed` is how much of earlier journals counts."""
        entrance.prepare(self._program, Fenced(patient, self._fence))
        spent_s = round(self._before.spent_s, 1)
        self._journal.start(self._course.over, sealed=sealed, trials=self._program.trials, spent_s=spent_s)
        for event in self._before.news:
            self._journal.event(**event)
        for start in self._course.unsaid():
            segment = self._course.history.segment(start.trial, start.run)
            train_s = round(diary.trained_s(self._trials.below(start.run)), 3)
            end = self._course.end(start, "stopped", at=segment.at, value=segment.value, train_s=train_s)
            self._journal.event(**end)

    def run(
        self, address: str | None, *, local: bool, watch: Callable[[View], None], asked: Callable[[], bool]
    ) -> Result:
        """Run trials until none is left, or somebody wants it to end."""
        keeper = Keeper(
            self._desk, self._storage, self._attempt, self._fence,
            watch=watch, wish=self._wish(asked),
        )  # fmt: skip
        try:
            with keeper:
                self._engine(address, local=local)
            result = self._result()
        except BaseException as error:
            self._close("failed")
            keeper.finish("failed", str(error) or type(error).__name__)
            raise
        self._close(result.status)
        keeper.finish(result.status, result.message)
        return result

    def _wish(self, asked: Callable[[], bool]) -> Callable[[], str]:
        """Why the sweep is to stop, asked again and again."""
        budget = self._program.search.budget
        left_s = math.inf if budget is None else 3600 * budget.hours - self._before.spent_s
        until = time.monotonic() + left_s

        def wish() -> str:
            if time.monotonic() > until:
                return "search.budget is used up"
            return ASKED if asked() else ""

        return wish

    def _engine(self, address: str | None, *, local: bool) -> None:
        if self._desk.done:  # nothing is left to begin: no cluster is needed to say so
            return
        if local:
            from lehr.launch import serial

            serial.run(self._desk, self._trials)
        else:
            from lehr.launch import tuning

            tuning.run(self._desk, self._program, self._storage, address=address)

    def _result(self) -> Result:
        """What came of it.

        Raises:
            LehrError: another driver goes on, or trials failed.
        """
        if self._desk.error is not None:
            raise self._desk.error
        course, why = self._course, self._desk.leave or self._course.reason
        facts = course.wanted, course.over, course.best()
        if course.finished and not course.reason:
            return Result("completed", *facts)
        if not why:
            raise self._unfinished()
        return Result("stopped", *facts, message=why)

    def _unfinished(self) -> LaunchError:
        trials = self._course.history.trials
        ends = [trials[number].last for number in sorted(trials)]
        failed = [end for end in ends if end.outcome == "failed"]
        first = failed[0] if failed else None
        told = "" if first is None else f"; the first of them, {first.start.run}: {first.message}"
        return LaunchError(
            letter(
                f"sweep {self._program.run_id}",
                f"{len(failed)} trials failed, {self._course.over} of {self._course.wanted} are over{told}",
                do="mend what it says and give the same command again: it takes them up again",
            )
        )

    def _close(self, word: str) -> None:
        self._journal.end(self._course.over, word)
        self._journal.close()
