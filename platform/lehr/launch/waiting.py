"""What a run says while it waits for room on the cluster: in its status, and to the driver."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from lehr import index, journal, status
from lehr import plan as plans
from lehr import store as stores
from lehr.checkpoint import manifest
from lehr.errors import StorageError
from lehr.launch import stopping
from lehr.status import Status
from lehr.store import Store

PERIOD_S = 5.0  # between two writes of a changed message
HEARTBEAT_S = 10.0  # between two of the same: who is silent for longer counts as dead
BEATING_S = 12.0  # a worker that lives writes at least so often
LISTEN_S = 2.0  # between two looks for a wish to stop
NOTE_S = 60.0  # between two lines to the driver


class Stopped(Exception):
    """The run was asked to stop while it waited. Its argument is the step of the newest checkpoint."""


def stopped(error: Any) -> dict[str, Any] | None:
    """The outcome's document of a run that was stopped while it waited; None for any other error."""
    inner = getattr(error, "controller_failure", error)
    if not isinstance(inner, Stopped):
        return None
    return {"status": "stopped", "step": inner.args[0], "metrics": {}, "message": ""}


class Waiting:
    """Speaks for a run that has no workers. It lives in Ray Train's controller, and connects there.

    Args:
        job: the job document.
        tell: takes a line for the driver.
        now: a clock.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        tell: Callable[[str], None],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._tell, self._now = job, tell, now
        self._written, self._written_at = "", float("-inf")
        self._told_at = self._listened_at = float("-inf")
        self._connected: tuple[Store, int] | None = None
        self._said: Status | None = None  # but for the message
        self._why = ""  # another attempt follows the last one

    def say(self, message: str) -> None:
        """Say what the run waits for, at a bounded rate. What storage does not take now comes later.

        Raises:
            Stopped: somebody asked the run to stop.
        """
        if self._now() - self._told_at >= NOTE_S:
            self._told_at = self._now()
            self._tell(message)
        try:
            self._listen()
            self._write(message)
        except StorageError:
            self._written_at = self._now()  # a store that hangs is not asked at each look

    def again(self, why: str) -> None:
        """Another attempt follows: the last one's own word was that it failed, as if that were the end."""
        self._why = why
        with contextlib.suppress(StorageError):
            if self._is_ours():
                self._put(why)

    def over(self) -> None:
        """There is room: workers are about to start."""
        if self._told_at > float("-inf"):
            self._tell("there is room: the workers start")
        self._told_at = float("-inf")
        if self._said is not None and self._written:
            self._put(self._why)
        self._said, self._written, self._written_at, self._why = None, "", float("-inf"), ""

    def end(self, message: str) -> None:
        """There will never be room: the run ends, and this is why."""
        with contextlib.suppress(StorageError):
            self._forget()
            run, steps = self._run()
            status.write(run, Status("failed", _newest(run), steps, journal.latest_attempt(run), message))

    def _write(self, message: str) -> None:
        due_s = HEARTBEAT_S if message == self._written else PERIOD_S
        if self._now() - self._written_at < due_s or not self._is_ours():
            return
        self._put(message)
        self._written, self._written_at = message, self._now()

    def _is_ours(self) -> bool:
        """Whether nobody who lives writes the status: not the workers that have just ended, either."""
        if self._said is not None:
            return True
        run, steps = self._run()
        last = status.read(run)
        lives = last is not None and last.status in status.ALIVE and last.status != "queued"
        if last is not None and lives and time.time() - last.time < BEATING_S:
            return False
        self._forget()
        self._said = Status("queued", _newest(run), steps, journal.latest_attempt(run))
        return True

    def _put(self, message: str) -> None:
        assert self._said is not None, "nothing was said yet"
        run, _ = self._run()
        with contextlib.suppress(StorageError):
            status.write(run, dataclasses.replace(self._said, message=message))

    def _listen(self) -> None:
        if self._now() - self._listened_at < LISTEN_S:
            return
        self._listened_at = self._now()
        run, steps = self._run()
        if run.size(stopping.KEY) is None:
            return
        step = _newest(run)
        status.write(run, Status("stopped", step, steps, journal.latest_attempt(run)))
        raise Stopped(step)

    def _forget(self) -> None:
        """Take the run out of the index, which tells how its last worker ended."""
        made = plans.restore(self._job["plan"])
        index.forget(stores.connect(self._job["storage"], made.storage_options()), made.run_id)

    def _run(self) -> tuple[Store, int]:
        """The run's folder, and the plan's steps."""
        if self._connected is None:
            made = plans.restore(self._job["plan"])
            storage = stores.connect(self._job["storage"], made.storage_options())
            self._connected = storage.below(made.run_id), made.steps
        return self._connected


def _newest(run: Store) -> int:
    """The step of the newest checkpoint; 0 when there is none."""
    places = (manifest.address(name) for name in manifest.committed_names(run.list(manifest.ROOT)))
    return max((place[0] for place in places if place), default=0)
