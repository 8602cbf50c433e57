"""The sign of life that rank 0 gives, and its ear for a wish to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lehr import status
from lehr.errors import StorageError, Superseded
from lehr.fence import Fence
from lehr.status import Status
from lehr.store import Store
from lehr.worker.clock import StopRequest

PERIOD_S = 1.0
REMOTE_S = 5.0  # between two writes, on an object store
HEARTBEAT_S = 10.0
CLOSE_S = 30.0  # that the last status may take, and so the end of a run wait for it
RETRY_S = 0.5  # between two tries of it


class Pulse:
    """A thread of rank 0: writes `status.json` at a bounded rate and looks for a wish to stop.

    Args:
        store: the run's folder.
        first: what to say first.
        stop: set when somebody asked for a stop in the store.
        fence: closed, nothing is written any more.
        saving: asked how saving goes: `message` and `waiting` of the status while the run lives.
        told: called with each status that was written: what else is to be kept fresh.
    """

    def __init__(
        self, store: Store, first: Status, stop: StopRequest, *, fence: Fence,
        saving: Callable[[], dict[str, Any]] = dict,
        told: Callable[[Status], None] | None = None,
    ) -> None:  # fmt: skip
        self._store, self._stop, self._fence, self._saving, self._told = store, stop, fence, saving, told
        self._pace_s = PERIOD_S if store.local_path(status.KEY) is not None else REMOTE_S
        self._now, self._written, self._written_at = first, replace(first, status=""), -HEARTBEAT_S
        self._end, self._until = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._run, name="lehr-pulse", daemon=True)
        self._thread.start()

    def tell(self, state: str, step: int, message: str = "") -> None:
        """The state to write next."""
        self._now = replace(self._now, status=state, step=step, message=message)

    def close(self, state: str, step: int, message: str = "", *, patience_s: float = CLOSE_S) -> None:
        """Write the last state, tried again for so long as the store fails, and end."""
        self.tell(state, step, message)
        self._until = time.monotonic() + patience_s
        self._end.set()
        self._thread.join(patience_s)  # a call to the store that hangs stays behind

    def _run(self) -> None:
        while not self._end.wait(PERIOD_S):
            self._write()
            self._look()
        while not self._write() and time.monotonic() < self._until:
            time.sleep(RETRY_S)

    def _write(self) -> bool:
        """Write what is due; whether nothing is left to be written now."""
        now = self._now
        if now.status in status.ALIVE:
            now = replace(now, **self._saving())
        if not self._is_due(now):
            return True
        try:
            self._fence.check()
            said = status.write(self._store, now)
            if self._told is not None:
                self._told(said)
        except Superseded:
            return True  # it stays so
        except Exception:  # whatever it is, the next beat tries again
            return False
        self._written, self._written_at = now, time.monotonic()
        return True

    def _is_due(self, now: Status) -> bool:
        age_s = time.monotonic() - self._written_at
        if now.status != self._written.status:
            return True
        return age_s >= (HEARTBEAT_S if now == self._written else self._pace_s)

    def _look(self) -> None:
        try:
            asked = self._store.size(StopRequest.KEY) is not None
        except StorageError:
            return
        if asked:
            self._stop.set()
