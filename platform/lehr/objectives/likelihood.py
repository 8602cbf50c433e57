"""Maximum likelihood, for models that can say how probable an example is."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from lehr.objectives.objective import Batch, Memory, Shares


class Likelihood:
    """Minimises minus the mean log-probability over the global batch, in nats an example.

    `bits_per_dimension` is the same number in bits, divided by the numbers that an example consists of: what
    a lossless code by the model would take for each of them, if they are whole levels.

    Args:
        node: `objective` of the spec; it has no keys.
        spec: not used; objectives are all made alike.
    """

    metrics = ("loss", "bits_per_dimension")
    validation_metrics = ("loss", "bits_per_dimension")
    products = ()

    def __init__(self, node: Any, spec: Any) -> None:
        pass

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Nothing to prepare."""
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, and those of `metrics`; the model is in training mode."""
        shares = _shares(model, batch, training=True)
        return shares["loss"], shares

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics`; the model is in inference mode."""
        return _shares(model, batch, training=False)

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """None: nothing lives between steps."""
        return None


def _shares(model: Any, batch: Batch, *, training: bool) -> Shares:
    """From log-probabilities [batch]; a row of weight 0 counts for nothing."""
    inputs = batch["input"]
    # A model with dropout draws it at this address, so that replicas drop what one replica would.
    address = (batch["step"], batch["first"])
    told = tf.cast(model.log_probability(inputs, training=training, address=address), tf.float32)
    loss = -tf.reduce_sum(tf.where(batch["weight"] > 0, told, 0.0) * batch["weight"] / batch["count"])
    return {"loss": loss, "bits_per_dimension": loss / (math.prod(inputs.shape[1:]) * math.log(2.0))}
