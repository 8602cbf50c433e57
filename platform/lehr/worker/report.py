"""What rank 0 tells: journal first, then its views."""

from __future__ import annotations

import threading
import time
from typing import Any

from lehr import status
from lehr.errors import StorageError
from lehr.journal import Journal
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking.tracker import Tracker
from lehr.worker.clock import StopRequest

PERIOD_S = 1.0
HEARTBEAT_S = 10.0


class Report:
    """Journal, tracker and status of rank 0; on other ranks nothing is built.

    Trackers see exactly the entries that the journal wrote, in its order.
    """

    def __init__(self, plan: Plan, journal: Journal, tracker: Tracker) -> None:
        self._plan, self._journal, self._tracker = plan, journal, tracker
        self.metrics: dict[str, float] = {}

    def start(self, attempt: int, from_step: int, **fields: Any) -> None:
        entry = self._journal.start(from_step, **fields)
        self._tracker.start(self._plan, attempt)
        self._tracker.record(entry)

    def values(self, step: int, values: dict[str, float]) -> None:
        self.metrics |= values
        self._tracker.record(self._journal.metrics(step, values))

    def event(self, event: str, *, step: int | None = None, **fields: Any) -> None:
        self._tracker.record(self._journal.event(event, step, **fields))

    def image(self, name: str, step: int, png: bytes) -> None:
        self._tracker.image(name, step, png)

    def close(self, step: int, outcome: str) -> None:
        self._tracker.record(self._journal.end(step, outcome))
        self._tracker.close()  # first: what it has to say goes to the journal
        self._journal.close()


class Pulse:
    """A thread of rank 0: writes `status.json` at a bounded rate and looks for a wish to stop."""

    def __init__(self, store: Store, plan: Plan, attempt: int, stop: StopRequest) -> None:
        self._store, self._plan, self._attempt, self._stop = store, plan, attempt, stop
        self._now: dict[str, Any] = {"status": "starting", "step": 0, "message": ""}
        self._written: dict[str, Any] = {}
        self._written_at = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lehr-pulse", daemon=True)
        self._thread.start()

    def tell(self, state: str, step: int, message: str = "") -> None:
        """The state to write next."""
        self._now = {"status": state, "step": step, "message": message}

    def close(self, state: str, step: int, message: str = "") -> None:
        """Write the last state and end."""
        self.tell(state, step, message)
        self._end.set()
        self._thread.join()
        self._write()

    def _run(self) -> None:
        while not self._end.wait(PERIOD_S):
            self._write()
            self._look()

    def _write(self) -> None:
        now = self._now
        if now == self._written and time.monotonic() - self._written_at < HEARTBEAT_S:
            return
        try:
            status.write(self._store, attempt=self._attempt, steps=self._plan.steps, **now)
        except StorageError:
            return  # the next beat tries again
        self._written, self._written_at = now, time.monotonic()

    def _look(self) -> None:
        try:
            asked = self._store.size(StopRequest.KEY) is not None
        except StorageError:
            return
        if asked:
            self._stop.set()
