"""The engine of a sweep without Ray: one segment after another.

Where one worker is enough it is this process, so that TensorFlow is loaded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lehr.errors import LehrError
from lehr.launch.desk import Desk
from lehr.launch.trial import Piece
from lehr.plan import Plan
from lehr.store import Store
from lehr.sweep.records import Start

if TYPE_CHECKING:
    from lehr.worker.outcome import Outcome

HEAR_S = 0.5  # that a look at the desk's wish to leave may come late


def run(desk: Desk, trials: Store) -> None:
    """Run segments until the desk has no more, or wants to leave.

    Args:
        desk: says what is next, and hears what became of it.
        trials: the folder of the sweep's runs.
    """
    desk.slots = 1
    while (start := desk.next()) is not None:
        plan = desk.begin(start)
        if plan is not None:
            _segment(desk, start, plan, trials)


def _segment(desk: Desk, start: Start, plan: Plan, trials: Store) -> None:
    """Run one, again after an error that may pass, as often as the job allows."""
    for left in reversed(range(plan.spec.recovery.max_failures + 1)):
        piece = Piece(plan, trials)
        try:
            end: Outcome | BaseException = _follow(desk, start, piece)
        except Exception as error:
            if left and not desk.leave:
                continue
            end = error
        desk.ended(start, end, train_s=piece.train_s)
        return


def _follow(desk: Desk, start: Start, piece: Piece) -> Outcome | LehrError:
    piece.begin()
    while (end := piece.over) is None:
        word = desk.heard(start, piece.hear(HEAR_S))
        if desk.lost:
            piece.abandon()
        elif word == "diverged":
            piece.stop(desk.reason(start))
        elif word == "stop" or desk.leave:
            piece.stop()
    return end
