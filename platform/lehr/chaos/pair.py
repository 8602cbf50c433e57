"""The two runs: the same job undisturbed, then under its faults; on this machine, one after the other."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lehr import journal, logs, status
from lehr import plan as plans
from lehr import spec as specs
from lehr.chaos.board import Board
from lehr.chaos.faults import Fault, TrackerDown
from lehr.chaos.surroundings import surrounded
from lehr.errors import DivergenceError, LehrError
from lehr.launch import admission, driver, entry
from lehr.plan import Plan
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.outcome import Outcome

WORKER = "lehr.chaos.worker:main"
LINE_S = 10.0  # between two words of progress
LONGEST_NAME = 60  # of a job in the ids of its runs
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """One run, over.

    Args:
        plan: of it.
        run: its folder.
        began: seconds since 1970.
        took_s: from the start of the launcher to its end.
        outcome: None when it failed.
        error: why, if it did.
        signal: that stopped it, if one did.
    """

    plan: Plan
    run: Store
    began: float
    took_s: float
    outcome: Outcome | None = None
    error: LehrError | None = None
    signal: int | None = None

    @property
    def completed(self) -> bool:
        return self.outcome is not None and self.outcome.status == "completed"


def variants(plan: Plan, storage: Store, faults: Sequence[Fault]) -> tuple[Plan, Plan]:
    """The undisturbed run's plan and the disturbed one's: the same job, under ids of its own.

    W&B hears of neither; only a run under which W&B is down is told to use it.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", plan.spec.name)[:LONGEST_NAME]
    stem = f"chaos-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    tracked = any(isinstance(fault, TrackerDown) for fault in faults)
    return (
        _variant(plan, storage, f"{stem}-undisturbed", tracked=False),
        _variant(plan, storage, f"{stem}-disturbed", tracked=tracked),
    )


def _variant(plan: Plan, storage: Store, run_id: str, *, tracked: bool) -> Plan:
    document = plan.spec.document() | {"storage": storage.url}
    node = document["tracking"]["wandb"]
    online = {**node, "mode": "online", "api_key": None} if tracked else None
    document["tracking"] = {**document["tracking"], "wandb": online}
    return plans.make(specs.restore(document), run_id=run_id)


def undisturbed(plan: Plan, storage: Store, *, local: bool, say: Say) -> Ended:
    """Train as `lehr run` would.

    Raises:
        LehrError: it fails without any faults.
    """
    say(f"undisturbed run {plan.run_id} ...")
    ended = _train(plan, storage, entry.WORKER, local=local, watch=Watch(plan, storage, say))
    if ended.error is not None:
        raise ended.error
    if ended.outcome is not None and ended.outcome.status == "diverged":
        raise DivergenceError(ended.outcome.message)
    return ended


def disturbed(
    plan: Plan, storage: Store, board: Board, api_key: str | None, *, local: bool, say: Say
) -> Ended:
    """Train under the faults of `board`; what the run raises at its end is part of the answer."""
    say(f"disturbed run {plan.run_id} ...")
    with surrounded(board, api_key):
        return _train(plan, storage, WORKER, local=local, watch=Watch(plan, storage, say, board))


class Watch:
    """Tells of a run while it trains: its steps from time to time, and each fault when it strikes.

    Args:
        plan: of the run.
        storage: the folder of runs.
        say: tells the user.
        board: of its faults, if it has any.
    """

    def __init__(self, plan: Plan, storage: Store, say: Say, board: Board | None = None) -> None:
        self._plan, self._run, self.say, self._board = plan, storage.below(plan.run_id), say, board
        self._began = self._said = time.monotonic()
        self._told: set[int] = set()

    def __call__(self) -> None:
        """Look, and say what is new."""
        for index, fault in enumerate(self._board.faults if self._board else []):
            if index not in self._told and self._board and (struck := self._board.struck(index)):
                self._told.add(index)
                where = "at the start" if struck.step is None else f"at step {struck.step}"
                self.say(f"  {time.monotonic() - self._began:6.1f} s  {fault.name}: {where}")
        if time.monotonic() - self._said >= LINE_S:
            self._said = time.monotonic()
            self.say(f"  {self._said - self._began:6.1f} s  {self._progress()}")

    def _progress(self) -> str:
        with contextlib.suppress(LehrError):
            now = status.read(self._run)
            if now is not None:
                return f"attempt {now.attempt}: {now.status}, step {now.step} of {self._plan.steps}"
        return "starting"


def _train(plan: Plan, storage: Store, worker: str, *, local: bool, watch: Watch) -> Ended:
    run = storage.below(plan.run_id)
    admission.refuse_sweep(plan, run)
    admission.prepare(plan, run)
    began, clock = time.time(), time.monotonic()

    def work() -> Outcome:
        from lehr.launch import local as here
        from lehr.launch import train

        if local:
            return here.spawn(plan, storage, worker=worker)
        return train.run(plan, storage, worker=worker)

    outcome, signal, error = None, None, None
    with logs.into(run, "logs/driver.log"):
        try:
            outcome, signal = driver.drive(work, run, tick=watch, say=watch.say)
        except LehrError as raised:
            error = raised
    watch()
    return Ended(plan, run, began, time.monotonic() - clock, outcome, error, signal)


@contextlib.contextmanager
def spoken() -> Iterator[Say]:
    """Prints to what is standard output now, also while that descriptor leads into a log."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1) as out:
        yield lambda text: print(text, file=out, flush=True)


def folder() -> Path:
    """A new folder on this machine."""
    return Path(tempfile.mkdtemp(prefix="lehr-chaos-"))


def attempts(run: Store) -> dict[int, list[journal.Entry]]:
    """What each attempt at a run said, whether or not a later one went back before it."""
    return {number: journal.read_attempt(run, number) for number in journal.attempts(run)}
