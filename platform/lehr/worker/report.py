"""What rank 0 tells: the journal first, then its views."""

from __future__ import annotations

import json
import os
from typing import Any

from lehr.fence import Fence
from lehr.journal import Entry, Journal
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking import tracker as trackers

FLUSH_S = 30.0
REASON = (
    "LEHR_REASON"  # set by the launcher: why this attempt began, as JSON; not set for the first of a launch
)


class Report:
    """Journal and tracker of rank 0; on other ranks nothing is built.

    A tracker hears of an entry when the store has it, so that no view shows what the journal may lose.

    Args:
        plan: of the run.
        run: its folder.
        attempt: this life of it.
        fence: closed, nothing is written any more.
    """

    def __init__(self, plan: Plan, run: Store, attempt: int, fence: Fence) -> None:
        self.metrics: dict[str, float] = {}
        self._plan, self._attempt = plan, attempt
        self._tracking = True
        self._journal = Journal(run, attempt, on_stored=self._stored, fence=fence)
        self._tracker = trackers.make(plan, run, tell=lambda text: self.event("tracking", message=text))

    def start(self, from_step: int, **fields: Any) -> None:
        self._tracker.start(self._plan, self._attempt)
        self._journal.start(from_step, **fields)
        if why := os.environ.get(REASON):
            self.event("restarted", **json.loads(why))

    def values(self, step: int, values: dict[str, float]) -> None:
        self.metrics |= values
        self._journal.metrics(step, values)

    def event(self, event: str, *, step: int | None = None, **fields: Any) -> None:
        self._journal.event(event, step, **fields)

    @property
    def problem(self) -> str:
        """Why the journal cannot be stored at the moment; "" when it can."""
        return str(self._journal.problem or "")

    def stored(self) -> bool:
        """Whether the store has everything that was said before."""
        return self._journal.flush(FLUSH_S)

    def close(self, step: int, outcome: str, *, patience_s: float) -> None:
        """Say the last words, tried for so long while the store fails; then give the tracker its time."""
        self._journal.end(step, outcome)
        self._journal.drain(patience_s)
        self._tracking = False
        self._tracker.close()  # before the journal: what it has to say goes there
        self._journal.close()

    def _stored(self, entries: list[Entry]) -> None:
        if self._tracking:
            for entry in entries:
                self._tracker.record(entry)
