"""Contrastive divergence for energy-based models (Hinton 2002; Du and Mordatch 2019)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.dynamics import diagnostics
from lehr.dynamics.buffer import ReplayBuffer, Slots
from lehr.dynamics.langevin import Address, Rule, ends, slope_of
from lehr.dynamics.noise import Noise
from lehr.objectives.objective import Batch, Memory, Shares
from lehr.seeds import Purpose


class Contrastive:
    """Makes real images likely and the chains' ends unlikely.

    The model's call gives a score f = -E [batch]: high where likely. With means over the true examples and
    over all slots,

        loss = mean f(chain) - mean f(real) + regulariser (mean f(real)^2 + mean f(chain)^2)

    whose first two terms have the gradient of the negative log-likelihood, mean dE(real) - mean dE(chain), if
    the chains follow exp(-E). The last bounds the scores. The last batch of an epoch may have fewer
    real images than slots: each mean has its own count. Means over slots of what `diagnostics` tells of the
    chains, and of the ages of those that rest in the buffer, are metrics too.

    Args:
        node: `objective` of the spec: `regulariser`, `data_noise`.
        spec: `sampler`, `train.seed` and the threads that a replica has.
    """

    metrics = (
        "loss",
        "regulariser",
        "contrastive_divergence",
        "real_score",
        "fake_score",
        *diagnostics.METRICS,
    )
    validation_metrics = ("contrastive_divergence", "real_score", "fake_score")
    products = ("chain",)

    def __init__(self, node: Any, spec: Any) -> None:
        self._regulariser, self._data_noise = float(node.regulariser), float(node.data_noise)
        self._sampler, self._seed = spec.sampler, int(spec.train.seed)
        self._rule = Rule.of(spec.sampler)
        self._threads = max(1, spec.strategy.cpus_per_worker // spec.strategy.devices_per_worker)

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Run the chains from `start` [batch, ...]; `chain`, shaped the same, is where they end, and
        numbers of each [batch] join under the names of `diagnostics.METRICS`. The network is in inference
        mode, and no gradient flows through the chains."""
        address = Address(
            self._noise(Purpose.CHAIN_NOISE), batch["step"], batch["first"], self._noise(Purpose.ACCEPTANCE)
        )
        reached = ends(
            slope_of(model),
            batch["start"],
            self._rule,
            address,
            steps=self._sampler.steps,
            lanes=_lanes(self._threads),
        )
        told = diagnostics.of_chains(batch["start"], reached, steps=self._sampler.steps)
        return batch | {
            "chain": reached.images,
            **told,
            "chain_age": batch["age"],
            "chain_age_oldest": batch["oldest"],
        }

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, and those of `metrics`; real images and chains are scored together."""
        real = self._noisy(batch)
        scores = tf.cast(model(tf.concat([real, batch["chain"]], 0), training=True), tf.float32)
        of_real, of_fake = scores[: tf.shape(real)[0]], scores[tf.shape(real)[0] :]
        shares = _divergence(of_real, of_fake, batch)
        squares = _mean_real(of_real**2, batch) + _mean_fake(of_fake**2, batch)
        shares["regulariser"] = self._regulariser * squares
        shares["loss"] = shares["contrastive_divergence"] + shares["regulariser"]
        shares |= {name: _mean_fake(batch[name], batch) for name in diagnostics.METRICS}
        return shares["loss"], shares

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics`: held-out images against addressed uniform noise."""
        held_out = batch["input"]
        noise = self._noise(Purpose.VALIDATION_NOISE).uniform(
            _shape(held_out), step=batch["step"], k=0, first=batch["first"]
        )
        of_held_out = tf.cast(model(held_out, training=False), tf.float32)
        return _divergence(of_held_out, tf.cast(model(noise, training=False), tf.float32), batch)

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """The replay buffer of a worker that owns global slots [first_slot, first_slot + slots)."""
        buffer = self._sampler.buffer
        mine = Slots(first_slot, slots, global_slots)
        return ReplayBuffer(shape, mine, size=buffer.size, fresh=buffer.fresh, seed=self._seed)

    def _noise(self, purpose: Purpose) -> Noise:
        return Noise(self._seed, purpose)

    def _noisy(self, batch: Batch) -> Any:
        """Real images with a little noise, against over-fitting, clipped to [-1, 1]."""
        images = batch["input"]
        noise = self._noise(Purpose.DATA_NOISE).normal(
            _shape(images), step=batch["step"], k=0, first=batch["first"]
        )
        return tf.clip_by_value(images + self._data_noise * noise, -1.0, 1.0)


def _divergence(of_real: Any, of_fake: Any, batch: Batch) -> Shares:
    real, fake = _mean_real(of_real, batch), _mean_fake(of_fake, batch)
    return {"contrastive_divergence": fake - real, "real_score": real, "fake_score": fake}


def _mean_real(values: Any, batch: Batch) -> Any:
    """Local share of the mean over true examples: a row of weight 0 counts for nothing."""
    return tf.reduce_sum(batch["weight"] * values) / batch["count"]


def _mean_fake(values: Any, batch: Batch) -> Any:
    return tf.reduce_sum(values) / batch["slots"]


def _shape(images: Any) -> tuple[Any, ...]:
    rows = images.shape[0]
    return (tf.shape(images)[0] if rows is None else rows, *images.shape[1:])


def _lanes(threads: int) -> int:
    """Slices of chains side by side: where each op has one thread and several run at once, one a thread."""
    if tf.config.list_physical_devices("GPU") or tf.config.threading.get_intra_op_parallelism_threads() != 1:
        return 1
    return min(threads, max(1, tf.config.threading.get_inter_op_parallelism_threads()))
