"""Workers that hang in their first attempt, for tests of the watchdog.

The ordinary worker otherwise. Each is named as `hanging_workers:<function>` to `train.run`; RANK does it once
STEP steps are done.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from lehr.plan import Plan
from lehr.store import Store
from lehr.worker import composition, life
from lehr.worker.outcome import Outcome

RANK, STEP = 1, 3


def in_data(plan: Plan, *, storage: Store) -> Outcome:
    """It waits for ever before a step: the others wait for it in the exchange."""
    return composition.main(plan, storage=storage, life=_life(lambda: time.sleep(3600)))


def stopped(plan: Plan, *, storage: Store) -> Outcome:
    """Its whole process stops, as by a debugger: it answers nothing."""
    return composition.main(plan, storage=storage, life=_life(lambda: os.kill(os.getpid(), signal.SIGSTOP)))


def in_compute(plan: Plan, *, storage: Store) -> Outcome:
    """Its step never reaches the exchange: all ranks show the same phase, this one uses its processor."""
    return _in_compute(plan, storage, lambda: sum(range(10_000)))


def asleep_in_compute(plan: Plan, *, storage: Store) -> Outcome:
    """The same, without using its processor: nothing tells it from those that wait."""
    return _in_compute(plan, storage, lambda: time.sleep(0.01))


def _in_compute(plan: Plan, storage: Store, beat: Callable[[], object]) -> Outcome:
    is_due: list[bool] = []
    build = life.build

    def built(*arguments: Any) -> Any:
        answer = build(*arguments)

        def update(batches: Any) -> Any:
            while is_due:
                beat()
            return answer.update(batches)

        return dataclasses.replace(answer, update=update)

    life.build = built
    return composition.main(plan, storage=storage, life=_life(lambda: is_due.append(True)))


def _life(hang: Callable[[], object]) -> type[life.Life]:
    class Hanging(life.Life):
        def signals(self) -> Any:
            if (self._attempt, self._strategy.rank, self._step) == (1, RANK, STEP):
                hang()
            return super().signals()

    return Hanging
