"""How a worker's life ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["completed", "stopped", "left", "diverged"]


@dataclass(frozen=True)
class Outcome:
    """What `worker.main` returns when it was not killed.

    Args:
        status: completed: the plan's last step is done; stopped: it was asked to stop and left a
            checkpoint; left: it was asked to leave, left a checkpoint, and another attempt is to go on;
            diverged: it cannot be trained on, and trying again would do the same.
        step: the step reached.
        metrics: the last metrics journalled, by name.
        message: for diverged, the letter.
    """

    status: Status
    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    message: str = ""

    def document(self) -> dict[str, Any]:
        return asdict(self)
