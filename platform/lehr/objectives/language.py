"""Next-word prediction: the cross-entropy of each word given those before it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.objectives.objective import Batch, Memory, Shares
from lehr.objectives.softmax import Head, cross_entropy


class Language:
    """Minimises the mean cross-entropy of the next word, in nats a word; its exp is the perplexity.

    What counts are the words after each word of a text, and the first padding after its last word: there the
    text ends, and a model that never learnt it would never stop. Other padding counts for nothing: a network
    tells it without error, so a mean with it would only say how short the texts are. (The book counts all of
    it.) The mean is over the words of the global batch, `batch["units"]`: of held-out texts too.

    A model that has `states` and `readout` never makes the logits of the whole batch: see `softmax`. Of
    others the call gives logits float32 [batch, words, vocabulary].

    Args:
        node: `objective` of the spec; it has no keys.
        spec: whether XLA compiles the step: then shapes must not depend on the texts.
    """

    metrics = ("loss",)
    validation_metrics = ("loss",)
    products = ()
    per = "units"

    def __init__(self, node: Any, spec: Any) -> None:
        compiled = spec.train.compile == "on" or bool(tf.config.list_physical_devices("GPU"))
        self._packed = not compiled

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Nothing to prepare."""
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, and those of `metrics`; the model is in training mode."""
        shares = self._shares(model, batch, training=True)
        return shares["loss"], shares

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics`; the model is in inference mode."""
        return self._shares(model, batch, training=False)

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """None: nothing lives between steps."""
        return None

    def _shares(self, model: Any, batch: Batch, *, training: bool) -> Shares:
        counts = counted(batch)
        if hasattr(model, "states"):
            states, (kernel, bias) = model.states(batch["input"]), model.readout()
            head = Head(kernel, bias, model.compute_dtype)
            flat = [tf.reshape(part, [-1]) for part in (batch["target"], counts)]
            states = tf.reshape(states, [-1, states.shape[-1]])
            total = cross_entropy(states, head, *flat, packed=self._packed, slope=training)
        else:
            logits = tf.cast(model(batch["input"], training=training), tf.float32)
            told = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["target"], logits=logits)
            total = tf.reduce_sum(tf.where(counts, told, 0.0))
        return {"loss": total / batch["units"]}


def counted(batch: Batch) -> Any:
    """Which targets count: bool [batch, words]: those that follow a word, of rows that are examples."""
    return (batch["input"] != 0) & (batch["weight"][:, tf.newaxis] > 0)
