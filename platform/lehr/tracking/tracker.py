"""What a tracker is, and how one is kept from holding up training.

make(plan, run)           the tracker of a run: `Online`, `Background(Offline(...))`, or `Nothing`
Tracker                   what a worker calls
Background                runs a tracker in a thread of its own, and switches it off when it fails
Memory                    keeps what it was told
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from lehr.journal import Entry
from lehr.plan import Plan
from lehr.store import Store
from lehr.store.patient import Patient

WAITING = 10_000  # calls that may wait for a slow tracker
PATIENCE_S = 10.0  # that training waits for room in that queue, in all
CLOSE_S = 45.0  # that the end of a run waits for it
OUTAGE_S = 3600.0  # of the storage, that a tracker which writes files outlasts

Tell = Callable[[str], object]


class Tracker(Protocol):
    """Is told what the journal has stored, in the same order, by rank 0 alone. Pictures and checkpoints are
    read from the run's folder, where the entries say."""

    def start(self, plan: Plan, attempt: int) -> None:
        """An attempt begins; called once, first."""
        ...

    def record(self, entry: Entry) -> None:
        """An entry as the journal has it."""
        ...

    def close(self) -> None:
        """The attempt is over; called once, last."""
        ...


class Nothing:
    """Nobody is told."""

    def start(self, plan: Plan, attempt: int) -> None:
        return None

    def record(self, entry: Entry) -> None:
        return None

    def close(self) -> None:
        return None


class Memory:
    """Keeps everything, in order: `calls` holds (method, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def start(self, plan: Plan, attempt: int) -> None:
        self.calls.append(("start", (plan, attempt)))

    def record(self, entry: Entry) -> None:
        self.calls.append(("record", (entry,)))

    def close(self) -> None:
        self.calls.append(("close", ()))


class Background:
    """Another tracker, in a thread of its own: none of its errors comes out, and it holds up nobody for long.

    A tracker that raises is switched off. One that is too slow is waited for when the queue is full, but no
    more than `patience_s` in all; after that it misses what does not fit. The journal has it all, so either
    is said once.

    Args:
        tracker: told everything, from one thread.
        tell: takes what is to be said, in words; by default it goes to standard error, the worker's log.
        waiting: calls that may wait.
        patience_s: how long callers wait in all, over the tracker's life, for room among those.
        close_s: how long `close` waits for the rest to be told.
    """

    def __init__(
        self, tracker: Tracker, *, tell: Tell | None = None, waiting: int = WAITING,
        patience_s: float = PATIENCE_S, close_s: float = CLOSE_S,
    ) -> None:  # fmt: skip
        self.problem: Exception | None = None
        self.lost = 0
        self._tracker, self._tell = tracker, tell or say
        self._patience_s, self._close_s = patience_s, close_s
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=waiting)
        self._thread = threading.Thread(target=self._run, name="lehr-tracker", daemon=True)
        self._thread.start()

    def start(self, plan: Plan, attempt: int) -> None:
        self._later(lambda: self._tracker.start(plan, attempt))

    def record(self, entry: Entry) -> None:
        self._later(lambda: self._tracker.record(entry))

    def close(self) -> None:
        """Wait for what was said before, at most `close_s` seconds."""
        deadline = time.monotonic() + self._close_s
        if self.problem is None:
            self._last(self._tracker.close, deadline)
        self._last(None, deadline)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._tell(f"tracking did not end within {self._close_s:g} s; the journal has all of it")
        if self.lost:
            self._tell(f"tracking missed {self.lost:,} entries; the journal has all of them")

    def _later(self, call: Callable[[], None]) -> None:
        if self.problem is not None:
            return
        began = time.monotonic()
        try:
            self._calls.put(call, timeout=self._patience_s)
        except queue.Full:
            if self.lost == 0:
                self._tell("tracking is too slow and misses entries; the journal has all of them")
            self.lost += 1
        self._patience_s = max(0.0, self._patience_s - (time.monotonic() - began))

    def _last(self, call: Callable[[], None] | None, deadline: float) -> None:
        with contextlib.suppress(queue.Full):
            self._calls.put(call, timeout=max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if self.problem is not None:
                continue
            try:
                call()
            except Exception as error:  # whatever it is, training goes on
                self.problem = error
                self._tell(f"tracking is switched off: {type(error).__name__}: {error}; the journal goes on")


def say(text: str) -> None:
    """Print for the worker's log."""
    print(f"lehr: {text}", file=sys.stderr, flush=True)


def make(plan: Plan, run: Store, *, tell: Tell = say) -> Tracker:
    """The tracker that the job asks for.

    Args:
        plan: of the run.
        run: its folder.
        tell: takes what goes wrong with tracking, in words, from any thread; it must not raise.
    """
    node = plan.spec.tracking.wandb
    if node is None or node.mode == "disabled":
        return Nothing()
    from lehr.tracking import wandb
    from lehr.tracking.online import Limits, Online

    how = wandb.mode(node)
    if how == "disabled":
        return Nothing()
    if how == "offline":
        return Background(wandb.Offline(Patient(run, patience_s=OUTAGE_S)), tell=tell)
    limits = Limits()
    client = wandb.Client(run, init_s=limits.init_s, finish_s=limits.finish_s)
    return Online(run, client, tell=tell, limits=limits)
