"""The ordinary worker, which lets hosts come and go at given steps.

It is named as `elastic_worker:main` to `train.run`. Four workers go slowly from step SLOW on, until some are
killed; two wait at step WAIT until they are asked to leave.
"""

from __future__ import annotations

import time
from typing import Any

from lehr import leaving
from lehr import worker as ordinary
from lehr.plan import Plan
from lehr.store import Store
from lehr.worker import life
from lehr.worker.outcome import Outcome

SLOW, WAIT = 25, 60
STEP_S = 0.5  # a slow step takes so much longer
PATIENCE_S = 240.0


def main(plan: Plan, *, storage: Store) -> Outcome:
    """Train as ever but for the pauses."""
    signals = life.Life.signals

    def paced(self: life.Life) -> Any:
        if plan.workers == 4 and self._step >= SLOW:
            time.sleep(STEP_S)
        until = time.monotonic() + PATIENCE_S
        while plan.workers == 2 and self._step == WAIT and not leaving.asked() and time.monotonic() < until:
            time.sleep(0.05)
        return signals(self)

    life.Life.signals = paced  # type: ignore[method-assign]  # this process has one worker, and ends with it
    return ordinary.main(plan, storage=storage)
