"""The wish that this worker leaves, with all others of its attempt: the run goes on elsewhere, or larger.

Not a wish to stop: the run is not over. A process has one worker, so the wish is the process's. It is asked
for from another thread, seen before the next step, told to all ranks with the gradients, and answered by a
checkpoint and the outcome "left".
"""

from __future__ import annotations

PREEMPTED, RESIZED = "preempted", "resized"

_reason = ""


def ask(reason: str) -> None:
    """Ask this process's worker to leave after its step, with a checkpoint.

    Args:
        reason: PREEMPTED: its host is about to be taken away; RESIZED: there is room for more workers.
    """
    global _reason
    _reason = reason


def asked() -> str:
    """Why this worker is to leave; "" when it is not."""
    return _reason
