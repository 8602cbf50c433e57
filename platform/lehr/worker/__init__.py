"""The composition root on one worker: a Plan in, an Outcome out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lehr.plan import Plan
    from lehr.store import Store
    from lehr.worker.outcome import Outcome


def main(plan: Plan, *, storage: Store | None = None, stop: Callable[[], bool] | None = None) -> Outcome:
    """Train `plan` on this worker; see `lehr.worker.composition.main`."""
    from lehr.worker import composition

    return composition.main(plan, storage=storage, stop=stop)
