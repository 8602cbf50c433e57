"""`status.json`: how a run is, in one small file that rank 0 keeps fresh and that anybody may read.

It is a convenience; the journal is the truth. A worker writes it every few seconds, so one that says
"running" and is old was left behind by a process that died.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from lehr.errors import KeyMissing
from lehr.store import Store

KEY = "status.json"
ALIVE = ("starting", "running")
SILENT_S = 60.0  # a living worker writes at least every 10 s


@dataclass(frozen=True)
class Status:
    """How a run is.

    Args:
        status: starting, running, completed, stopped, diverged or failed.
        step: the step reached.
        steps: the plan's last step.
        attempt: number of this life of the run.
        message: why, if it failed.
        time: seconds since 1970 at which this was written.
    """

    status: str
    step: int
    steps: int
    attempt: int
    message: str = ""
    time: float = 0.0

    def silent_s(self, now: float) -> float | None:
        """Seconds without a sign of life of a run that ought to give one; None if all is well."""
        age = now - self.time
        return age if self.status in ALIVE and age > SILENT_S else None


def write(store: Store, *, status: str, step: int, steps: int, attempt: int, message: str = "") -> None:
    """Say how the run is now."""
    now = Status(status, step, steps, attempt, message, time.time())
    store.write(KEY, json.dumps(asdict(now)).encode())


def read(store: Store) -> Status | None:
    """How the run was when it last said so; None when it never did, or nothing of it can be read."""
    try:
        document = json.loads(store.read(KEY))
        return Status(**{name: document[name] for name in Status.__dataclass_fields__})
    except (KeyMissing, ValueError, KeyError, TypeError):
        return None
