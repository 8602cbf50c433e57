"""What a run's storage tells while it trains: `status.json` and what is new in the journal, nothing else."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from lehr import journal, status
from lehr.errors import StorageError
from lehr.launch import failure
from lehr.status import Status
from lehr.store import Store, growing

WINDOW_S = 30.0  # over which the speed is measured
PATIENCE_S = 10.0  # after which it is said that storage does not answer
DIED = "a worker died"
LEFT = "the workers left, with a checkpoint"
CHECKPOINT = "checkpoint"  # the event of a committed checkpoint


@dataclass
class Seen:
    """The state of a run as its storage told it last.

    Args:
        status: "waiting" until the first worker speaks, then as in `status.json`.
        attempt: its number.
        step: reached so far.
        from_step: where this attempt began; None before it has.
        values: the newest metrics by name.
        steps_per_s: over the last half minute; None before it is known.
        checkpoint_step: of the newest checkpoint known; None when there is none.
        checkpoint_time: when it was seen committed, in seconds since 1970.
        restarts: how many attempts began after this driver's first.
        left: how many of them because all workers had left as they were asked to.
        waits: what a queued run waits for; "" when it is not queued.
        unsaved: checkpoints that wait for the storage.
        trouble: what storage answers, if it fails.
        best: of the metric by which a checkpoint is kept, since this driver began: value and step.
    """

    status: str = "waiting"
    attempt: int = 0
    step: int = 0
    from_step: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    steps_per_s: float | None = None
    checkpoint_step: int | None = None
    checkpoint_time: float | None = None
    restarts: int = 0
    left: int = 0
    waits: str = ""
    unsaved: int = 0
    trouble: str = ""
    best: tuple[float, int] | None = None


class Best(Protocol):
    """Which metric is to be watched, and whether it is to be small ("min") or large ("max")."""

    @property
    def metric(self) -> str: ...
    @property
    def mode(self) -> str: ...


class Follower:
    """Reads a run's storage once a call, and only what is new.

    Args:
        run: the run's folder.
        attempts: how many there were before this driver's first.
        step: of the checkpoint that this driver continues from.
        best: the metric by which a checkpoint is kept: `checkpoint.keep_best` of the spec.
        now: seconds since 1970.
    """

    def __init__(
        self,
        run: Store,
        *,
        attempts: int = 0,
        step: int | None = None,
        best: Best | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._run, self._best, self._now = run, best, now
        self._before, self._began = attempts, now()
        self._attempt, self._offset = attempts + 1, 0
        self._steps: deque[tuple[float, int]] = deque()
        self._failed = DIED
        self._answered_at = (
            now()
        )  # a call that fails may have taken long: silence begins with the last answer
        self._has_complained = False
        self._measured = (0, 0)  # attempt, and where it began: the step after that waits for the compiler
        self.seen = Seen(step=step or 0, checkpoint_step=step)

    def look(self) -> list[str]:
        """Bring `seen` up to date; what happened since the last look, in words for the user.

        What storage does not answer now is asked again next time.
        """
        notes: list[str] = []
        try:
            told = status.read(self._run)
            if told is not None and self._is_news(told):
                self._take_status(told)
                notes.extend(note for entry in self._entries(told.attempt) if (note := self._take(entry)))
        except StorageError as error:
            return [*notes, *self._unanswered(error)]
        return [*self._answered(), *notes]

    def _is_news(self, told: Status) -> bool:
        """Whether an earlier driver did not leave it: before its first attempt, a run may be queued."""
        return told.attempt > self._before or (told.status == "queued" and told.time >= self._began)

    def _unanswered(self, error: StorageError) -> list[str]:
        """Say once that storage does not answer, if it has not for a while."""
        now = self._now()
        if self._has_complained or now - self._answered_at < PATIENCE_S:
            return []
        self._has_complained = True
        reason = " ".join(str(error).split())
        return [
            f"storage does not answer here, so what the run does is not seen; it is asked again: {reason}"
        ]

    def _answered(self) -> list[str]:
        self._answered_at, complained, self._has_complained = self._now(), self._has_complained, False
        return ["storage answers again"] if complained else []

    def _take_status(self, told: Status) -> None:
        self.seen.status = told.status
        self.seen.attempt = told.attempt if told.attempt > self._before else 0
        queued = told.status == "queued"
        self.seen.waits = told.message if queued else ""
        self.seen.unsaved, self.seen.trouble = told.waiting, "" if queued else told.message
        if told.status == "starting" or queued:
            return  # it does not know its step yet
        self.seen.step = told.step
        if self._measured[0] != told.attempt:
            self._measured = (told.attempt, told.step)
            self._steps.clear()
        if told.step > self._measured[1]:
            self._measure(told.step)

    def _measure(self, step: int) -> None:
        steps, now = self._steps, self._now()
        if not steps or step > steps[-1][1]:
            steps.append((now, step))
        while len(steps) > 2 and now - steps[0][0] > WINDOW_S:
            steps.popleft()
        if len(steps) > 1:
            self.seen.steps_per_s = (steps[-1][1] - steps[0][1]) / max(steps[-1][0] - steps[0][0], 1e-6)

    def _entries(self, newest: int) -> Iterator[dict[str, Any]]:
        """New lines of the journal, of all attempts up to `newest`, in order."""
        while self._attempt <= newest:
            yield from self._lines(journal.key(self._attempt))
            if self._attempt == newest:
                return
            self._attempt, self._offset = self._attempt + 1, 0

    def _lines(self, key: str) -> Iterator[dict[str, Any]]:
        data = growing.read(self._run, key, self._offset)
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # torn by a crash

    def _take(self, entry: dict[str, Any]) -> str | None:
        kind = entry.get("type")
        if kind == "start":
            return self._take_start(entry)
        if kind == "metrics":
            self.seen.values |= {name: float(value) for name, value in entry.get("values", {}).items()}
            self._compare(int(entry["step"]))
        elif kind == "event":
            return self._take_event(entry)
        elif kind == "end" and entry.get("outcome") == "left":
            self.seen.left, self._failed = self.seen.left + 1, LEFT
        return None

    def _compare(self, step: int) -> None:
        if self._best is None or self._best.metric not in self.seen.values:
            return
        value, best = self.seen.values[self._best.metric], self.seen.best
        sign = 1 if self._best.mode == "max" else -1
        if best is None or sign * value > sign * best[0]:
            self.seen.best = (value, step)

    def _take_start(self, entry: dict[str, Any]) -> str | None:
        seen, number, step = self.seen, int(entry["attempt"]), int(entry.get("from_step", 0))
        seen.step = step if seen.status == "starting" else max(step, seen.step)
        seen.attempt, seen.from_step, seen.restarts = number, step, number - self._before - 1
        if not seen.restarts:
            return None
        where = f"resumed from step {step}" if step else "began anew: there was no checkpoint"
        reason, self._failed = self._failed, DIED
        return f"{reason}; attempt {number} {where}"

    def _take_event(self, entry: dict[str, Any]) -> str | None:
        event, step = entry.get("event"), entry.get("step")
        if event == "failed":  # told with the next attempt, or by the command's error
            message = str(entry.get("message", ""))
            first = message.partition("\n")[0]
            self._failed = DIED if failure.is_collateral(message) else f"a worker failed: {first}"
            return None
        if event == CHECKPOINT and step is not None:
            self.seen.checkpoint_step, self.seen.checkpoint_time = int(step), self._now()
            return None
        return _told(entry)


# Events that a user must hear of; all others are in the journal and in `lehr show`.
_QUIET = frozenset({"samples", "initialised", "weights"})
_COMMON = frozenset({"type", "time", "attempt", "step", "event"})


def _told(entry: dict[str, Any]) -> str | None:
    event = str(entry.get("event"))
    if event in _QUIET:
        return None
    fields = {name: value for name, value in entry.items() if name not in _COMMON}
    message = fields.pop("message", "") or ", ".join(f"{name} {value}" for name, value in fields.items())
    where = "" if entry.get("step") is None else f" at step {entry['step']}"
    return f"{event.replace('_', ' ')}{where}: {message}".rstrip(": ")
