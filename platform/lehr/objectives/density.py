"""Maximum likelihood of points in a continuous space."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.objectives.objective import Batch, Memory, Shares


class Density:
    """Minimises minus the mean log-density over the global batch, in nats a point.

    The model has `log_probability(inputs, training)`, float32 [batch]. Where it is zero outside of its
    support no gradient leads back, so in training it may answer with flanks (see `models.rectangle`), and
    then `loss`, in training and in validation, is of the density with flanks. `log_likelihood` is the mean
    of the true one: minus infinity as soon as a single point lies outside. `outside` is the share of points
    that do.

    A density has no bits per dimension: its logarithm depends on the unit of length.

    Args:
        node: `objective` of the spec; it has no keys.
        spec: not used; objectives are all made alike.
    """

    metrics = ("loss",)
    validation_metrics = ("loss", "log_likelihood", "outside")
    products = ()

    def __init__(self, node: Any, spec: Any) -> None:
        pass

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Nothing to prepare."""
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, and those of `metrics`."""
        share = -_mean(model.log_probability(batch["input"], training=True), batch)
        return share, {"loss": share}

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics`."""
        told = model.log_probability(batch["input"], training=False)
        return {
            "loss": -_mean(model.log_probability(batch["input"], training=True), batch),
            "log_likelihood": _mean(told, batch),
            "outside": _mean(tf.cast(told == -float("inf"), tf.float32), batch),
        }

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """None: nothing lives between steps."""
        return None


def _mean(values: Any, batch: Batch) -> Any:
    """Local share of the mean over true examples; a row of weight 0 counts for nothing, be it infinite."""
    counted = tf.where(batch["weight"] > 0, values, 0.0)
    return tf.reduce_sum(counted * batch["weight"]) / batch["count"]
