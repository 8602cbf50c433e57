"""`status.json`: how a run is, in one small file that rank 0 keeps fresh and that anybody may read.

It is a convenience; the journal is the truth. A worker writes it every few seconds, so one that says
"running" and is old was left behind by a process that died.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, fields, replace

from lehr import journal
from lehr.errors import KeyMissing
from lehr.store import Store

KEY = "status.json"
ALIVE = ("queued", "starting", "running", "paused")
ENDINGS = {"left": "queued"}  # what an attempt's ending means for its run, where that is another word
SILENT_S = 60.0  # a living worker writes at least every 10 s


@dataclass(frozen=True)
class Status:
    """How a run is.

    Args:
        status: queued (it waits for room on the cluster), starting, running, paused, completed, stopped,
            diverged or failed.
        step: the step reached.
        steps: the plan's last step.
        attempt: number of this life of the run.
        message: why, if it failed; what it waits for, if it is queued; what storage answers, if it fails.
        waiting: checkpoints that are made and not yet in the store.
        time: seconds since 1970 at which this was written.
    """

    status: str
    step: int
    steps: int
    attempt: int
    message: str = ""
    time: float = 0.0
    waiting: int = 0

    def silent_s(self, now: float) -> float | None:
        """Seconds without a sign of life of a run that ought to give one; None if all is well."""
        age = now - self.time
        return age if self.status in ALIVE and age > SILENT_S else None


def write(store: Store, said: Status) -> Status:
    """Say how the run is now: `said`, at this moment."""
    now = replace(said, time=time.time())
    store.write(KEY, json.dumps(asdict(now)).encode())
    return now


def read(store: Store) -> Status | None:
    """How the run was when it last said so; None when it never did, or nothing of it can be read.

    Fields that came later may be missing, and unknown ones are left out: other versions of lehr write, too.
    An old attempt that was frozen in the middle of its write may write over a later one's: then the last
    attempt's journal tells.
    """
    said = _said(store)
    latest = journal.latest_attempt(store) if said is not None else 0
    return _of_journal(store, said, latest) if said is not None and latest > said.attempt else said


def _of_journal(store: Store, said: Status, attempt: int) -> Status:
    """What the end of an attempt's journal says; `said` knows the rest."""
    entries = journal.tail(store, attempt)
    if not entries:
        return replace(said, status="starting", attempt=attempt, message="")
    ended = [entry["outcome"] for entry in entries if entry["type"] == "end"]
    steps = [entry["step"] for entry in entries if entry["step"] is not None]
    return replace(
        said, status=ENDINGS.get(ended[-1], ended[-1]) if ended else "running", attempt=attempt,
        message="", waiting=0, step=max(steps, default=0), time=entries[-1]["time"],
    )  # fmt: skip


def _said(store: Store) -> Status | None:
    try:
        document = json.loads(store.read(KEY))
        return Status(**{item.name: document[item.name] for item in fields(Status) if item.name in document})
    except (KeyMissing, ValueError, TypeError):
        return None
