"""What depends on time or on the outside: only rank 0 asks, and the others learn it with the gradients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from lehr import leaving
from lehr.cadence import NEVER, due
from lehr.errors import StorageError
from lehr.loop.step import SIGNALS
from lehr.loop.train import Due
from lehr.plan import Plan
from lehr.store import Store

STOP, CHECKPOINT, SAMPLES, VALIDATION, LEAVE = range(SIGNALS)


class Clock:
    """Turns the plan's cadences and a wish to stop into what is due after each step.

    A cadence in steps is arithmetic and every rank finds it alone. A cadence in minutes, and a wish to
    stop, are seen by one rank at its own time: it feeds them into the next step's exchange, and all ranks
    act on the sum after that step.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        rank: int,
        stop: Callable[[], bool],
        start: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._rank, self._stop, self._now = plan, rank, stop, now
        began = now()
        self._step = start
        self._last = dict.fromkeys(("checkpoint", "samples", "validation"), (start, began))

    def signals(self) -> np.ndarray:
        """float32 [SIGNALS], for the step that comes next."""
        wishes = np.zeros(SIGNALS, np.float32)
        wishes[STOP] = self._stop()
        wishes[LEAVE] = bool(leaving.asked())
        if self._rank == 0:
            for index, name in ((CHECKPOINT, "checkpoint"), (SAMPLES, "samples"), (VALIDATION, "validation")):
                wishes[index] = self._timed(name)
        return wishes

    def _timed(self, name: str) -> bool:
        cadence = getattr(self._plan, _FIELDS[name])
        last_step, last_time = self._last[name]
        if cadence.minutes is None:
            return False
        return due(cadence, self._step + 1, last_step=last_step, elapsed_s=self._now() - last_time)

    def due(self, step: int, signals: np.ndarray) -> Due:
        """What is due after `step`, given the sum of all ranks' signals of that step."""
        self._step = step
        last = step >= self._plan.steps
        stop = bool(signals[STOP] > 0 or signals[LEAVE] > 0)
        verdict = Due(
            entry=last or stop or self._counted("track_every", step),
            validation=self._falls("validation", VALIDATION, step, signals, last=last),
            samples=self._falls("samples", SAMPLES, step, signals, last=last),
            checkpoint=stop or self._falls("checkpoint", CHECKPOINT, step, signals, last=last),
            stop=stop,
        )
        for name in self._last:
            if getattr(verdict, name):
                self._last[name] = (step, self._now())
        return verdict

    def _falls(self, name: str, signal: int, step: int, signals: np.ndarray, *, last: bool) -> bool:
        """What has a cadence at all is also done after the last step."""
        if getattr(self._plan, _FIELDS[name]) == NEVER:
            return False
        return last or bool(signals[signal] > 0) or self._counted(_FIELDS[name], step)

    def _counted(self, field: str, step: int) -> bool:
        cadence = getattr(self._plan, field)
        if cadence.steps is None:
            return False
        return due(cadence, step, last_step=step - 1, elapsed_s=0.0)


_FIELDS = {"checkpoint": "checkpoint_every", "samples": "samples_every", "validation": "validate_every"}


class StopRequest:
    """A wish to stop, from a function, from a key in the run's store, or from SIGTERM."""

    KEY = "control/stop"

    def __init__(self, asked: Callable[[], bool] | None) -> None:
        self._asked = asked
        self._flag = threading.Event()

    def set(self) -> None:
        self._flag.set()

    def __call__(self) -> bool:
        return self._flag.is_set() or (self._asked is not None and self._asked())


class Ear:
    """Whether to stop or leave, asked by a worker that waits: no exchange tells it then what others heard.

    Rank 0 looks for a wish in the store all the time. While it is in an exchange with a worker that pauses,
    it cannot pass the wish on, so who pauses looks for it, too.

    Args:
        request: of this worker; set once a wish was seen.
        run: the run's folder.
        now: seconds.
    """

    LISTEN_S = 2.0

    def __init__(
        self, request: StopRequest, run: Store, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._request, self._run, self._now = request, run, now
        self._listened_at = float("-inf")

    def __call__(self) -> bool:
        if self._request() or leaving.asked():
            return True
        if self._now() - self._listened_at >= self.LISTEN_S:
            self._listened_at = self._now()
            self._listen()
        return self._request()

    def _listen(self) -> None:
        try:
            asked = self._run.size(StopRequest.KEY) is not None
        except StorageError:
            return  # asked again
        if asked:
            self._request.set()
