"""Classification: cross-entropy of a label under the model's softmax."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.objectives.objective import Batch, Memory, Shares


class Classification:
    """Minimises the mean cross-entropy over the global batch.

    With label smoothing e (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7) the
    target is 1 - e on the label plus e spread over all classes:
    loss = (1 - e) * -log p(label) + e * mean over classes of -log p(class).

    Args:
        node: `objective` of the spec: `label_smoothing` in [0, 1).
        spec: not used; objectives are all made alike.
    """

    metrics = ("loss", "accuracy")
    validation_metrics = ("loss", "accuracy")
    products = ()

    def __init__(self, node: Any, spec: Any) -> None:
        self._smoothing = float(node.label_smoothing)

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Nothing to prepare."""
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, and those of `metrics`; the model is in training mode."""
        shares = self._shares(model(batch["input"], training=True), batch)
        return shares["loss"], shares

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics`; the model is in inference mode."""
        return self._shares(model(batch["input"], training=False), batch)

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """None: nothing lives between steps."""
        return None

    def _shares(self, logits: Any, batch: Batch) -> Shares:
        """From logits [batch, classes]; a row of weight 0 counts for nothing."""
        logits = tf.cast(logits, tf.float32)
        share = batch["weight"] / batch["count"]
        hit = tf.cast(tf.argmax(logits, axis=-1) == batch["target"], tf.float32)
        return {
            "loss": tf.reduce_sum(share * self._cross_entropy(logits, batch["target"])),
            "accuracy": tf.reduce_sum(share * hit),
        }

    def _cross_entropy(self, logits: Any, target: Any) -> Any:
        """Of each row: float32 [batch]."""
        of_label = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
        if self._smoothing == 0.0:
            return of_label
        of_classes = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        return (1.0 - self._smoothing) * of_label + self._smoothing * of_classes
