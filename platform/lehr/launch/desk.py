"""Where an engine of a sweep asks what to do next and tells what became of it.

An engine runs trials: `serial` one after another without Ray, `tuning` many at a time on Ray Tune. It decides
nothing. For each segment, in this order:

    start = desk.next()                      what may begin now; None: nothing now, ask again later
    plan = desk.begin(start)                 it is journalled, its state copied; None: it could not begin
    word = desk.heard(start, piece.hear(..)) "continue"; "stop": end it with a checkpoint; "diverged": at once
    desk.ended(start, outcome or error, train_s=piece.train_s)

and between them, every second or so: `desk.leave` says why everything has to end ("" while nothing has to:
else every piece is stopped, and its end told as always), and `desk.done` that there is nothing more to do.
What the journal did not get before a driver died did not happen: the next driver decides anew.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from lehr.checkpoint import copying
from lehr.errors import (
    DivergenceError,
    LaunchError,
    LehrError,
    SpecError,
    StorageError,
    Superseded,
    UserError,
    letter,
)
from lehr.launch import admission
from lehr.launch.diary import Heard
from lehr.plan import Plan
from lehr.store import Store
from lehr.sweep import records
from lehr.sweep.records import History, Source, Start, Trial

if TYPE_CHECKING:
    from lehr.journal import Entry
    from lehr.sweep.course import Course
    from lehr.sweep.program import Program
    from lehr.worker.outcome import Outcome

Word = Literal["continue", "stop", "diverged"]
SLICE_S = 1.0  # of waiting for a storage that fails
COMMIT_S, LOOK_S = 60.0, 0.2  # for a checkpoint that is being made, and between two looks for it
IN_A_ROW = 3  # segments that fail one after another, none between them that does not: the next would, too


class Pages(Protocol):
    """What `lehr.journal.Journal` is to the desk."""

    def event(self, event: str, step: int | None = None, **fields: object) -> Entry: ...

    def drain(self, patience_s: float) -> bool: ...


@dataclass(frozen=True)
class Live:
    """A segment that runs.

    Args:
        trial: its number.
        at: the last step that was heard of.
        steps: its last step.
        host: where it runs; "" when it is here or not known.
    """

    trial: int
    at: int
    steps: int
    host: str = ""


@dataclass
class View:
    """How a sweep is, for a live table.

    Args:
        history: all that was journalled; a copy.
        wanted: trials.
        running: by run id.
        slots: trials that fit at once; 0 while that is not known.
        waiting: what the sweep waits for; "" when for nothing.
    """

    history: History
    wanted: int = 0
    running: dict[str, Live] = field(default_factory=dict)
    slots: int = 0
    waiting: str = ""


class Desk:
    """See the module. Thread-safe.

    Args:
        program: of the sweep.
        course: decides.
        journal: of this launch of the sweep; takes every event before it is acted on.
        trials: the folder of the sweep's runs.
        now: seconds, from any moment on.

    Attributes:
        slots: set by the engine: trials that fit at once.
        waiting: set by the engine: what it waits for.
        error: why the sweep cannot go on, if trials fail one after another.
        lost: whether another driver has taken the sweep over. Then nothing is asked of runs through storage
            any more (`Piece.abandon`): they are the other's.
    """

    def __init__(
        self, program: Program, course: Course, journal: Pages, trials: Store,
        *, now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.program, self.slots, self.waiting = program, 0, ""
        self.error: LehrError | None = None
        self.lost = False
        self._course, self._journal, self._trials, self._now = course, journal, trials, now
        self._running: dict[str, Live] = {}
        self._began: dict[str, float] = {}
        self._words: dict[str, Word] = {}
        self._copied: set[str] = set()
        self._reasons: dict[str, str] = {}  # why they diverged
        self._leave, self._failed = "", 0
        self._copies: dict[int, Trial] = {}  # for views; of the settled ones they stay
        self._settled: set[int] = set()
        self._lock = threading.RLock()

    # --- what an engine asks ----------------------------------------------------------------------

    def next(self) -> Start | None:
        """What may begin now, in this order; asking changes nothing."""
        with self._lock:
            most = self.program.search.concurrent
            if self.leave or (most is not None and len(self._running) >= most):
                return None
            return self._course.next(list(self._running))

    @property
    def leave(self) -> str:
        """Why everything that runs has to stop; "" while nothing has to."""
        return self._leave

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing is left to begin in this launch."""
        with self._lock:
            return not self._running and self.next() is None

    @property
    def finished(self) -> bool:
        """Whether all wanted trials are over."""
        return self._course.finished

    # --- what an engine tells ---------------------------------------------------------------------

    def begin(self, start: Start) -> Plan | None:
        """A segment takes its place: journal it, and copy the state that it begins with.

        Returns:
            Its plan; None when that failed, which is then its end.
        """
        try:
            plan = self.program.plan(start)
        except SpecError as error:  # inside the space, but no job: of large spaces not every pair was tried
            # That is a result, as a divergence is: an error would be taken up again by each launch.
            self._take_place(start, steps=1)
            self.ended(start, DivergenceError(f"no job has these values: {error}"))
            return None
        self._take_place(start, steps=plan.steps)
        try:
            self._keep()
            self._adopt(start, plan)
        except LehrError as error:
            self.ended(start, error)
            return None
        return plan

    def _take_place(self, start: Start, *, steps: int) -> None:
        with self._lock:
            self._write(self._course.begin(start, steps))
            self._began[start.run] = self._now()
            self._running[start.run] = Live(start.trial, 0, steps)

    def _keep(self) -> None:
        """Have the beginning stored before the run begins: a driver that died would propose other parameters.

        An outage is waited out, in slices: who wants the sweep to end is heard.

        Raises:
            StorageError: the storage does not take it.
        """
        until = time.monotonic() + 60.0 * self.program.spec.recovery.max_unsaved_minutes
        while not self._journal.drain(SLICE_S):
            if self.leave or time.monotonic() > until:
                raise StorageError("the sweep's journal could not be stored, so no trial can begin")
            time.sleep(LOOK_S)  # a journal that another driver has closed answers at once

    def _adopt(self, start: Start, plan: Plan) -> None:
        source, into = start.source, self._trials.below(start.run)
        if source is not None:
            self._await(source)
            copying.adopt(
                self._trials.below(source.run), source.step, into,
                spec_hash=plan.spec_hash, learning_rate=plan.spec.train.optimizer.learning_rate,
            )  # fmt: skip

    def _await(self, source: Source) -> None:
        """Wait a while for the checkpoint of a step: its value is told before it is committed."""
        until, run = time.monotonic() + COMMIT_S, self._trials.below(source.run)
        while source.run in self._running and not self.leave and time.monotonic() < until:
            if (admission.newest_step(run) or 0) >= source.step:
                return
            time.sleep(LOOK_S)

    def at(self, start: Start, host: str) -> None:
        """Say where a segment runs."""
        with self._lock:
            live = self._running[start.run]
            self._running[start.run] = Live(live.trial, live.at, live.steps, host)

    def heard(self, start: Start, entries: Sequence[Heard]) -> Word:
        """Take what a segment said; what is known already changes nothing.

        Returns:
            What to do with it. It stays "stop" or "diverged" once it was that.
        """
        with self._lock:
            for entry in entries:
                if self._words.get(start.run, "continue") == "continue":
                    self._words[start.run] = self._take(start, entry)
            return self._words.get(start.run, "continue")

    def _take(self, start: Start, entry: Heard) -> Word:
        live = self._running[start.run]
        self._running[start.run] = Live(live.trial, max(live.at, entry.step), live.steps, live.host)
        if reason := self._divergence(entry):
            self._reasons[start.run] = reason
            return "diverged"
        value = entry.values.get(self.program.search.metric)
        if value is None:
            return "continue"
        event = self._course.report(start, entry.step, live.steps, float(value))
        if event is None:
            return "continue"
        self._write(event)
        if event["verdict"] == "copy":
            self._copied.add(start.run)
        return "continue" if event["verdict"] == "continue" else "stop"

    def _divergence(self, entry: Heard) -> str:
        search = self.program.search
        for name, value in entry.values.items():
            counts = name == search.metric or name.startswith("train/")
            if counts and not (math.isfinite(value) and abs(value) <= search.diverged_above):
                return f"{name} is {value:g} at step {entry.step}"
        return ""

    def reason(self, start: Start) -> str:
        """Why a segment diverged, in the desk's words; "" when the desk did not say so."""
        return self._reasons.get(start.run, "")

    def ended(self, start: Start, end: Outcome | BaseException, *, train_s: float = 0.0) -> None:
        """A segment is over and its place is free.

        Args:
            start: which.
            end: its run's outcome, or the error that it ended with for good.
            train_s: seconds of training in all attempts at its run.
        """
        with self._lock:
            live = self._running.pop(start.run)
            segment = self._course.history.segment(start.trial, start.run)
            outcome, message = self._outcome(start, end)
            self._write(
                self._course.end(
                    start,
                    outcome,
                    at=max(live.at, getattr(end, "step", 0)),
                    message=message,
                    value=segment.value,
                    train_s=round(max(0.0, train_s - segment.train_s), 3),
                    wall_s=round(self._now() - self._began.pop(start.run), 3),
                )
            )
            self._draw(outcome, end)
            self._words.pop(start.run, None)

    def _outcome(self, start: Start, end: Outcome | BaseException) -> tuple[records.Outcome, str]:
        if start.run in self._reasons:
            return "diverged", self._reasons[start.run]
        if isinstance(end, DivergenceError):
            return "diverged", str(end)
        if isinstance(end, BaseException):
            return "failed", str(end) or type(end).__name__
        if end.status == "diverged":
            return "diverged", end.message
        if start.run in self._copied:
            return "copied", ""
        if end.status == "completed":
            return "completed", ""
        if self._words.get(start.run) == "stop":
            return "stopped", ""
        return "interrupted", self._leave

    def _draw(self, outcome: records.Outcome, end: Outcome | BaseException) -> None:
        """What follows for the sweep."""
        self._failed = self._failed + 1 if outcome == "failed" else 0
        if self._course.reason:
            self.stop(self._course.reason)
        if outcome == "failed" and (isinstance(end, UserError) or self._failed >= IN_A_ROW):
            self.stop("trials fail", error=end if isinstance(end, UserError) else _failing(end))

    # --- what the driver asks ---------------------------------------------------------------------

    def stop(self, why: str, *, error: LehrError | None = None) -> None:
        """Everything that runs has to end; the first reason stays.

        Args:
            why: in words.
            error: the sweep's end, if it is not a good one.
        """
        with self._lock:
            if not self._leave:
                self._leave, self.error = why, error

    def lose(self, error: Superseded) -> None:
        """Another driver has taken the sweep over: nothing is asked of anybody any more."""
        self.stop("another driver goes on with the sweep")
        self.error, self.lost = error, True

    def view(self) -> View:
        """How the sweep is now."""
        with self._lock:
            return View(self._snapshot(), self._course.wanted, dict(self._running), self.slots, self.waiting)

    def _snapshot(self) -> History:
        """The history as it is now: who looks at it is in another thread. Of trials that are over one copy is
        enough, however many there are."""
        history = self._course.history
        for number, trial in history.trials.items():
            if number not in self._settled:
                segments = [dataclasses.replace(one, reports=list(one.reports)) for one in trial.segments]
                self._copies[number] = Trial(number, segments)
                if trial.over and trial.last.start.run not in self._running:
                    self._settled.add(number)
        return History(dict(self._copies), history.wanted, history.space)

    def _write(self, event: Entry) -> None:
        fields = {name: value for name, value in event.items() if name not in ("event", "type", "step")}
        self._journal.event(event["event"], **fields)


def _failing(end: object) -> LehrError:
    """The letter of a sweep whose trials fail one after another."""
    came = f"{IN_A_ROW} trials failed one after another; the last one: {end}"
    do = "mend what it says and give the same command again: it goes on where it was"
    return LaunchError(letter("sweep", came, do=do))
