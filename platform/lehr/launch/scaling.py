"""How many workers the next attempt has, and when: what Ray Train's controller asks between attempts."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy


class Fixed(FixedScalingPolicy):
    """The number of workers asked for, on a cluster that has room for them and does not grow."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray would register here with its autoscaler."""

    def _maybe_send_resource_request(self) -> None:
        return None
