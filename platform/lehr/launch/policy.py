"""What follows from a failure: another attempt, or the end. Ray Train's controller asks."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from lehr.launch import train
from lehr.launch.failure import LEFT


class Policy(DefaultFailurePolicy):
    """Ray's counting of failures; but what would fail the same way again ends the run at once."""

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        failures = train.failures_of(training_failed_error)
        if any(each.final for each in failures.values()):
            return FailureDecision.RAISE
        if any(each.kind == LEFT for each in failures.values()):  # they were asked to, and left a checkpoint
            return FailureDecision.RETRY
        return super().make_decision(training_failed_error)
