"""What a worker does while what it trains cannot be saved: `recovery.on_storage_outage`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from lehr.checkpoint.shares import Patience
from lehr.errors import CheckpointError, Superseded, letter
from lehr.spec.sections import Recovery

POLL_S = 0.25
LAST_S = 30.0  # that the end of a run tries, however long the storage has failed before: it may just be back
PATIENCE = Patience()

Tell = Callable[..., Any]  # tell(event, step=..., ...)


class Saving(Protocol):
    """What is asked of a saver."""

    @property
    def committed(self) -> int | None: ...
    @property
    def failed_since(self) -> float | None: ...
    @property
    def failed_last(self) -> float | None: ...
    @property
    def problem(self) -> str: ...
    @property
    def fenced(self) -> bool: ...
    @property
    def waiting(self) -> int: ...
    def wait(self, timeout_s: float | None = None) -> int | None: ...


class Outage:
    """Looks after every step whether checkpoints get through.

    Training goes on until failures were seen over `max_unsaved_minutes`. One save that failed for good is no
    outage: the next may get through. Then, by `on_storage_outage`:

    pause: this worker waits, and with it all others, until what waits to be saved got through or failed for
        good;
    stop: the run ends with an error;
    continue: training goes on, and only says that nothing is saved.

    Args:
        saver: of this worker.
        recovery: the spec's section.
        where: the run, for messages.
        asked: whether somebody wants the run to stop: then no pause is begun, and one ends.
        tell: takes events.
        clock: that of `saver.failed_since`.
    """

    def __init__(
        self, saver: Saving, recovery: Recovery, *, where: str, asked: Callable[[], bool], tell: Tell,
        clock: Patience = PATIENCE,
    ) -> None:  # fmt: skip
        self._saver, self._recovery, self._where = saver, recovery, where
        self._asked, self._tell, self._now, self._sleep = asked, tell, clock.now, clock.sleep
        self._told: float | None = None  # the outage that was spoken of
        self._paused_at: float | None = None

    def look(self, step: int) -> None:
        """Go on, wait, or raise, as the job wants it.

        Raises:
            CheckpointError: nothing could be saved for too long, and the job says stop.
            Superseded: a later attempt has begun.
        """
        self._live()
        policy = self._recovery.on_storage_outage
        if policy == "pause":
            self._pause(step)
            self._end_pause(step)
        elif not self._too_long():
            return
        elif policy == "stop":
            raise self._unsaved()
        elif self._told != self._saver.failed_since:
            self._told = self._saver.failed_since
            self._tell("unsaved", step=step, reason=self._saver.problem, committed=self._saver.committed)

    def finish(self, step: int, *, insist: bool = True) -> None:
        """Wait until all that was handed over is saved; a pausing job waits as long as it takes.

        Args:
            step: of the last checkpoint.
            insist: whether the run is a failure without it.

        Raises:
            CheckpointError: it is not saved.
            Superseded: a later attempt has begun.
        """
        began = self._now()
        while not (self._saved() or self._gives_up(began)):
            if self._too_long() and self._told != self._saver.failed_since:
                self._told = self._saver.failed_since
                self._tell("paused", step=step, reason=self._saver.problem, committed=self._saver.committed)
        if insist and self._saver.committed != step:
            raise self._unsaved()

    def _gives_up(self, began: float) -> bool:
        return self._too_long() and not self._waits() and self._now() - began >= LAST_S

    def _saved(self) -> bool:
        """Whether nothing waits to be saved, after waiting a moment for that."""
        self._saver.wait(POLL_S)
        self._live()
        return not self._saver.waiting

    def announce(self, step: int) -> bool:
        """Whether this worker's saving is so late that it pauses, or waits for one that does; told once.

        Another thread may ask: the training thread may be in an exchange with a worker that paused first.
        """
        if not (self._too_long() and self._is_stuck()):
            return False
        if self._told != self._saver.failed_since:
            self._told, self._paused_at = self._saver.failed_since, self._now()
            self._tell("paused", step=step, reason=self._saver.problem, committed=self._saver.committed)
        return True

    def _pause(self, step: int) -> None:
        if self.announce(step):
            while self._is_stuck():
                self._live()
                self._sleep(POLL_S)

    def _end_pause(self, step: int) -> None:
        """Say that the pause is over, also when it was another worker that made this one wait."""
        if self._paused_at is not None and not self._is_stuck():
            after_s, self._paused_at = self._now() - self._paused_at, None
            self._tell("unpaused", step=step, after_s=after_s)

    def _is_stuck(self) -> bool:
        """Whether to wait helps: with nothing to be sent, nothing would ever end it."""
        return self._waits() and self._saver.failed_since is not None and bool(self._saver.waiting)

    def _waits(self) -> bool:
        return self._recovery.on_storage_outage == "pause" and not self._asked()

    def _too_long(self) -> bool:
        since, last = self._saver.failed_since, self._saver.failed_last
        if since is None or last is None:
            return False
        return last - since >= 60.0 * self._recovery.max_unsaved_minutes

    def _live(self) -> None:
        if self._saver.fenced:
            raise Superseded(letter(self._where, "this attempt is over: a later one at this run has begun"))

    def _unsaved(self) -> CheckpointError:
        reason = " ".join(self._saver.problem.split()) or "see the journal's events"
        kept = "none" if self._saver.committed is None else f"of step {self._saver.committed}"
        return CheckpointError(
            letter(
                self._where,
                f"checkpoints could not be saved ({reason}); the last one that was is {kept}",
                do="mend the storage and give the same command again: it goes on from that checkpoint",
            )
        )
