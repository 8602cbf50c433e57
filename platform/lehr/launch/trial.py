"""One segment of a trial: an ordinary run, begun and listened to.

Where one worker is enough it trains in a thread of this process, so that TensorFlow is loaded once for many
trials; more workers are a Train run, or processes of this machine. Whoever drives it asks for what it says
(`hear`), may ask it to stop, and sees how it ended (`over`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lehr import journal, status
from lehr.errors import DivergenceError, LehrError, StorageError
from lehr.launch import admission, entry, local, stopping, train
from lehr.launch.diary import Diary, Heard, trained_s
from lehr.launch.driver import Work
from lehr.plan import Plan
from lehr.status import Status
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.life import Life
    from lehr.worker.outcome import Outcome

POLL_S = 0.1  # between two looks into a journal, where keys are files
REMOTE_POLL_S = 2.0
ASK_S = 2.0  # between two tries to ask workers elsewhere to stop
LEAVE_S = 5.0  # that processes which were given up may take to be gone


_configured: dict[str, tuple[Any, ...]] = {}  # by this process's first worker, if it had one


def settings(plan: Plan) -> tuple[Any, ...]:
    """What a process is configured with for good by its first run: only plans that agree may share one."""
    return (
        plan.spec.strategy.kind,
        plan.threads_per_worker,
        plan.devices_per_worker,
        plan.side_by_side,
    )


def is_alone(plan: Plan) -> bool:
    """Whether it trains in the process that begins it: one worker, whose strategy needs no peers."""
    return plan.workers == 1 and plan.spec.strategy.kind in local.ALONE


class Piece:
    """A segment of a trial. To be used from one thread; one that trains in this process has it for itself.

    What a process was configured with by its first worker stays (`settings`): a segment that needs something
    else trains in a process of its own.

    Args:
        plan: of the segment.
        storage: the folder of the sweep's runs, `<storage>/<sweep>/trials`.
        address: of the Ray cluster that this process has joined; None: one of its own, on this machine.
        joined: whether this process is connected to Ray. Then several workers are a Train run there; else
            they are processes of this machine.
    """

    def __init__(
        self, plan: Plan, storage: Store, *, address: str | None = None, joined: bool = False
    ) -> None:
        self.plan, self._storage, self._run = plan, storage, storage.below(plan.run_id)
        self._address, self._joined = address, joined
        self._here = is_alone(plan) and settings(plan) == _configured.setdefault("", settings(plan))
        self._poll_s = POLL_S if self._run.local_path("journal") is not None else REMOTE_POLL_S
        self._changed = threading.Condition()
        self._new: list[Heard] = []
        self._diary = Diary(self._run)
        self._work: Work[Outcome] | None = None
        self._settled: Outcome | None = None
        self._asked = self._given_up = self._is_done = False
        self._diverged, self._reached = "", 0

    def begin(self) -> None:
        """Start it, or go on from its newest checkpoint. What an earlier launch left in its journal is heard
        first: the sweep may have died before it heard of it. One that had ended by itself is not started.
        A storage that fails is waited for, as long as the job says.

        Raises:
            StorageError: its folder cannot be read or written.
        """
        patient = entry.patient(self.plan, self._storage)
        patient.size(journal.key(1))  # from here on it answers
        self._new += self._diary.new()
        self._settled = self._ended()
        if self._settled is None:
            admission.prepare(self.plan, patient)
            stopping.clear(patient)
            self._work = Work(self._train)

    def _ended(self) -> Outcome | None:
        """How an earlier launch ended it for good."""
        from lehr.worker.outcome import Outcome

        word, step, message = self._diary.end
        if word == "completed" and step >= self.plan.steps:
            return Outcome("completed", step)
        return Outcome("diverged", step, message=message) if word == "diverged" else None

    # --- what it says -----------------------------------------------------------------------------

    def hear(self, within_s: float) -> list[Heard]:
        """What is new in its journal, in order; waits so long for anything, and no longer than it trains.

        What storage does not tell now comes later.
        """
        until = time.monotonic() + within_s
        while True:
            is_told = self._listen()
            with self._changed:
                heard, self._new = self._new, []
                self._reached = max([self._reached, *(each.step for each in heard)])
                left_s = until - time.monotonic()
                if heard or left_s <= 0 or (is_told and self._is_quiet):
                    return heard
                self._changed.wait(left_s if self._here else min(left_s, self._poll_s))

    @property
    def over(self) -> Outcome | LehrError | None:
        """How it ended; None while it trains, and while there is something to `hear`.

        An error is a result when starting again would end the same way, or was tried already.

        Raises:
            Exception: any other error of a worker in this process.
        """
        if not self._is_quiet or not self._listen() or self._new:
            return None
        return self._settled or self._answer()

    @property
    def _is_quiet(self) -> bool:
        """Whether nothing trains any more."""
        return self._is_done or self._settled is not None

    def _listen(self) -> bool:
        """Read what workers elsewhere have journalled; whether storage answered."""
        if self._here or self._settled is not None:
            return True
        try:
            self._new += self._diary.new()
        except StorageError:
            return False
        return True

    def _answer(self) -> Outcome | LehrError:
        assert self._work is not None, "it was begun"
        self._work.done(within_s=LEAVE_S)
        try:
            return self._work.answer()
        except StorageError as error:
            if self._here:
                raise
            return error
        except LehrError as error:
            return self._as_diverged() or error

    def _as_diverged(self) -> Outcome | None:
        """What to say of workers that were killed because they diverged: they cannot say it themselves."""
        from lehr.worker.outcome import Outcome

        if not self._diverged:
            return None
        said = Status(
            "diverged", self._reached, self.plan.steps, journal.latest_attempt(self._run), self._diverged
        )
        with contextlib.suppress(StorageError):
            status.write(self._run, said)
        return Outcome("diverged", self._reached, message=self._diverged)

    @property
    def train_s(self) -> float:
        """Seconds of training in all attempts at this run, as its journal tells."""
        return trained_s(self._run)

    # --- what it is asked -------------------------------------------------------------------------

    def stop(self, diverged: str = "") -> None:
        """Ask it to finish its step and end, with a checkpoint; does not wait.

        Args:
            diverged: why it cannot be trained on. Workers of this machine then end at once, without a
                checkpoint, and their run says the same.
        """
        self._diverged = self._diverged or diverged
        self._given_up = self._given_up or bool(diverged)
        if self._asked:
            return
        self._asked = True
        if not self._here and self._work is not None:
            threading.Thread(target=self._ask, name="lehr-ask", daemon=True).start()

    def abandon(self) -> None:
        """Another driver has taken the sweep over: end what is ours, and leave the run's folder alone."""
        self._asked = self._given_up = True

    def close(self, within_s: float) -> bool:
        """Stop it if it trains, and wait so long for its end.

        Returns:
            Whether it has ended. Processes of this machine are killed if they have not; a worker in this
            process cannot be: it ends with the process, and so does a Train run with who began it.
        """
        if self._work is None:
            return True
        self.stop()
        if self._work.done(within_s=within_s):
            return True
        self._given_up = True
        return self._work.done(within_s=LEAVE_S)

    def _ask(self) -> None:
        while not self._is_done:
            try:
                stopping.ask(self._run)
            except StorageError:
                time.sleep(ASK_S)
            else:
                return

    # --- in its thread ----------------------------------------------------------------------------

    def _train(self) -> Outcome:
        try:
            if self._here:
                return local.here(self.plan, self._storage, self._be_worker)
            if self._joined and not is_alone(self.plan):
                return train.within(self.plan, self._storage, address=self._address)
            return local.spawn(self.plan, self._storage, given_up=lambda: self._given_up)
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def _be_worker(self) -> Outcome:
        from lehr.worker import composition

        return composition.main(
            self.plan, storage=self._storage, stop=self._is_to_stop, life=_telling(self._tell)
        )

    def _is_to_stop(self) -> bool:
        """Asked before each step.

        Raises:
            DivergenceError: whoever listens saw that it diverged: the worker ends as if it had seen it.
        """
        if self._diverged:
            raise DivergenceError(self._diverged)
        return self._asked

    def _tell(self, step: int, values: dict[str, float]) -> None:
        with self._changed:
            self._new.append(Heard(step, dict(values)))
            self._changed.notify_all()


def _telling(tell: Callable[[int, dict[str, float]], None]) -> type[Life]:
    """An attempt that tells its metrics as it journals them: the journal's file has them seconds later."""
    from lehr.worker import life

    class Telling(life.Life):
        """Tells a function of this process."""

        def _values(self, step: int, values: dict[str, float]) -> None:
            super()._values(step, values)
            tell(step, values)

    return Telling
