"""What a tracker is, and how one is kept from holding up training.

    make(plan, run)           the tracker of a run: `Background(Wandb(...))`, or `Nothing`
    Tracker                   what a worker calls
    Background                runs a tracker in a thread of its own, and switches it off when it fails
    Memory                    keeps what it was told
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from lehr.journal import Entry
from lehr.plan import Plan
from lehr.store import Store

WAITING = 10_000  # calls that may wait for a slow tracker
CLOSE_S = 30.0  # that the end of a run waits for it


class Tracker(Protocol):
    """Is told what the journal was told, in the same order, by rank 0 alone."""

    def start(self, plan: Plan, attempt: int) -> None:
        """An attempt begins; called once, first."""
        ...

    def record(self, entry: Entry) -> None:
        """An entry as the journal has it."""
        ...

    def image(self, name: str, step: int, png: bytes) -> None:
        """A picture made at `step`, such as `samples/grid`."""
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

    def image(self, name: str, step: int, png: bytes) -> None:
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

    def image(self, name: str, step: int, png: bytes) -> None:
        self.calls.append(("image", (name, step, png)))

    def close(self) -> None:
        self.calls.append(("close", ()))


class Background:
    """Another tracker, in a thread of its own: no call waits for it, and none of its errors comes out.

    A tracker that raises is switched off; one that is too slow loses what does not fit in the queue. The
    journal has it all, so both are said once, on standard error, which is the worker's log.

    Args:
        tracker: told everything, from one thread.
        waiting: calls that may wait.
        close_s: how long `close` waits for the rest to be told.
    """

    def __init__(self, tracker: Tracker, *, waiting: int = WAITING, close_s: float = CLOSE_S) -> None:
        self.problem: Exception | None = None
        self.lost = 0
        self._tracker, self._close_s = tracker, close_s
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=waiting)
        self._thread = threading.Thread(target=self._run, name="lehr-tracker", daemon=True)
        self._thread.start()

    def start(self, plan: Plan, attempt: int) -> None:
        self._later(lambda: self._tracker.start(plan, attempt))

    def record(self, entry: Entry) -> None:
        self._later(lambda: self._tracker.record(entry))

    def image(self, name: str, step: int, png: bytes) -> None:
        self._later(lambda: self._tracker.image(name, step, png))

    def close(self) -> None:
        """Wait for what was said before, at most `close_s` seconds."""
        deadline = time.monotonic() + self._close_s
        if self.problem is None:
            self._put(self._tracker.close, deadline)
        self._put(None, deadline)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            _say(f"tracking did not end within {self._close_s:g} s; the journal has all of it")

    def _later(self, call: Callable[[], None]) -> None:
        if self.problem is not None:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            if self.lost == 0:
                _say("tracking is too slow and misses entries; the journal has all of them")
            self.lost += 1

    def _put(self, call: Callable[[], None] | None, deadline: float) -> None:
        try:
            self._calls.put(call, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            self.lost += 1

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if self.problem is not None:
                continue
            try:
                call()
            except Exception as error:  # whatever it is, training goes on
                self.problem = error
                _say(f"tracking is switched off: {type(error).__name__}: {error}; the journal goes on")


def _say(text: str) -> None:
    print(f"lehr: {text}", file=sys.stderr, flush=True)


def make(plan: Plan, run: Store) -> Tracker:
    """The tracker that the job asks for; `run` is the run's folder."""
    node = plan.spec.tracking.wandb
    if node is None or node.mode == "disabled":
        return Nothing()
    from lehr.tracking.wandb import Wandb

    return Background(Wandb(run))
