"""The worker of a disturbed run: the ordinary one, with a disturbed store, and struck between its steps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lehr.chaos.board import VARIABLE, Board
from lehr.chaos.disturbed import Disturbed, Windows
from lehr.chaos.faults import Kill, Outage, Slow, TrackerDown
from lehr.launch import entry

if TYPE_CHECKING:
    from lehr.plan import Plan
    from lehr.store import Store
    from lehr.worker.outcome import Outcome


def main(plan: Plan, *, storage: Store) -> Outcome:
    """Train `plan` on this worker under the faults of the folder that LEHR_CHAOS names."""
    from lehr.worker import composition, life

    board = Board(Path(os.environ[VARIABLE]))
    rank = entry.rank()
    fate = Fate(board, rank=rank, attempt=int(os.environ[entry.ATTEMPT]))

    class Struck(life.Life):
        """An attempt that meets its fate before each step: the loop asks for signals once a step."""

        def signals(self) -> Any:
            fate.before_step(self._step)
            return super().signals()

    # A wish to stop is also asked for between steps, as during a pause: it cannot count steps.
    fate.begin()
    return composition.main(plan, storage=Disturbed(storage, Windows(board, rank=rank)), life=Struck)


class Fate:
    """What this worker has to suffer, step by step.

    Args:
        board: says what, and what has been already.
        rank: of this worker.
        attempt: that it works on.
        now: seconds, from any moment on.
        sleep: waits for so many seconds.
        die: ends this process.
    """

    def __init__(
        self,
        board: Board,
        *,
        rank: int,
        attempt: int,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
    ) -> None:
        self._board, self._rank, self._attempt, self._die = board, rank, attempt, die
        self._drags = [
            Drag(board, index, fault.factor, now=now, sleep=sleep)
            for index, fault in enumerate(board.faults)
            if isinstance(fault, Slow) and fault.rank == rank
        ]

    def begin(self) -> None:
        """The worker has started."""
        for index, fault in enumerate(self._board.faults):
            if isinstance(fault, Outage | TrackerDown) and fault.step is None:
                self._strike(index, None)

    def before_step(self, step: int) -> None:
        """`step` updates are done, and the next is about to begin."""
        for drag in self._drags:
            drag.before_step(step)
        for index, fault in enumerate(self._board.faults):
            if isinstance(fault, Outage | TrackerDown) and fault.step is not None and step >= fault.step:
                self._strike(index, step)
        for index, fault in enumerate(self._board.faults):
            mine = isinstance(fault, Kill) and (fault.rank, fault.step) == (self._rank, step)
            if mine and self._strike(index, step):
                self._die()

    def _strike(self, index: int, step: int | None) -> bool:
        if self._board.struck(index) is not None:
            return False
        return self._board.strike(index, step=step, rank=self._rank, attempt=self._attempt)


class Drag:
    """Makes every step take `factor` times as long as the quickest that was seen.

    The quickest, because a rank that is not the slowest waits for others in each step, and that is not its
    own time. The first step compiles: it is left out.
    """

    def __init__(
        self,
        board: Board,
        index: int,
        factor: float,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._board, self._index, self._factor, self._now, self._sleep = board, index, factor, now, sleep
        self._left: float | None = None  # when the last step began
        self._steps, self._own_s = 0, float("inf")

    def before_step(self, step: int) -> None:
        if self._left is not None and self._steps > 1:
            self._own_s = min(self._own_s, self._now() - self._left)
            slept_s = (self._factor - 1) * self._own_s
            self._sleep(slept_s)
            self._board.note(self._index, step=step, slept_s=slept_s)
        self._steps += 1
        self._left = self._now()
