"""An objective that diverges where a test asks it: `kind: diverging:Diverging`, of processes in tests/."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.objectives.contrastive import Contrastive


class Diverging(Contrastive):
    """Contrastive divergence whose loss is no number at batch `at`, and with step sizes above `above`.

    Args:
        node: `objective` of the spec: of contrastive divergence, and `at` and `above`.
        spec: as for contrastive divergence.
    """

    def __init__(self, node: Any, spec: Any) -> None:
        super().__init__(node, spec)
        self._at = int(node.at)
        self._hurts = float(spec.sampler.step_size) > float(node.above)

    def loss(self, model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        _, shares = super().loss(model, batch)
        wrong = (batch["step"] == self._at) & self._hurts
        shares["loss"] = tf.where(wrong, float("nan"), shares["loss"])
        return shares["loss"], shares
