"""Contrastive divergence of a general Boltzmann machine: nothing sums out, so both phases are drawn."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.dynamics.gibbs import OTHER, Coins, Net, decided, unit_sweeps
from lehr.objectives.objective import Batch
from lehr.objectives.phases import Settings, pseudo_log_likelihood, random_unit, squared_error


class Connected:
    """The phases of one machine whose units are all connected (Ackley et al. 1985).

    With the data clamped, `settle` sweeps bring the hidden units, which start from fair coins, to what they
    are given the data; then all units move freely, from there or from where the chain rested.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """`clamped` and `chain`: all units of both phases, float32 [batch, visible + hidden]."""
        coins, settings = self._settings.coins(batch), self._settings
        net = Net(model.couplings(), model.biases())
        clamped = _settled(model, net, batch, coins, settings.settle)
        start = batch["start"] if settings.is_persistent else clamped
        everybody = (0, model.visible + model.hidden)
        free = unit_sweeps(net, start, coins, steps=settings.sweeps, of=everybody, start=settings.settle)
        return {"clamped": clamped, "chain": free}

    def energies(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Of all units in both phases."""
        return model.energy(batch["clamped"]), model.energy(batch["chain"])

    def squares(self, model: Any, batch: Batch) -> Any:
        """Of all weights between units; each pair counts once."""
        weights = (model.visible_pairs, model.hidden_pairs, model.kernel)
        return tf.add_n([tf.reduce_sum(tf.convert_to_tensor(weight.value) ** 2) for weight in weights])

    def validate(self, model: Any, batch: Batch) -> Batch:
        """Of the held-out rows: a pixel's probability is given all other units, hidden ones drawn."""
        coins, net = self._settings.held_out_coins(batch), Net(model.couplings(), model.biases())
        units = _settled(model, net, batch, coins, self._settings.settle)
        visible = units[:, : model.visible]
        log_odds = (tf.matmul(units, net.couplings) + net.biases)[:, : model.visible]
        unit = random_unit(coins, visible, OTHER + 1)
        mean = _chance_of(unit, net, units, coins, self._settings.settle, model.visible)
        log_probability = tf.math.log(tf.maximum(mean, 1e-12))
        return {
            "pseudo_log_likelihood": pseudo_log_likelihood(log_probability, model.visible),
            "reconstruction": squared_error(visible, log_odds),
            "data_energy": model.energy(units),
        }


def _settled(model: Any, net: Net, batch: Batch, coins: Coins, settle: int) -> Any:
    """All units, the hidden ones drawn given the batch's examples: float32 [batch, visible + hidden]."""
    visible = model.flat(batch["input"])
    hidden = coins.toss(tf.zeros([tf.shape(visible)[0], model.hidden]), OTHER)
    of = (model.visible, model.visible + model.hidden)
    return unit_sweeps(net, tf.concat([visible, hidden], 1), coins, steps=settle, of=of)


def _chance_of(unit: Any, net: Net, units: Any, coins: Coins, settle: int, visible: int) -> Any:
    """p(v_i | the other visible units) of one visible unit a row, float32 [batch]: the mean, over the later
    half of the sweeps of a chain in which it and the hidden units move, of its probability given all others.
    With few sweeps it is an estimate from above: the chain begins at the truth."""
    fields, offsets = tf.gather(net.couplings, unit), tf.gather(net.biases, unit)
    place = tf.one_hot(unit, units.shape[1])
    truth = tf.reduce_sum(units * place, 1)
    of = (visible, units.shape[1])

    def sweep(k: Any, units: Any, total: Any) -> tuple[Any, Any, Any]:
        log_odds = tf.reduce_sum(units * fields, 1) + offsets
        counted = tf.cast(k >= settle // 2, tf.float32)  # it begins at the truth: the first half forgets it
        total += counted * tf.sigmoid((2.0 * truth - 1.0) * log_odds)
        drawn = decided(coins.uniform(units[:, :1], OTHER + 2 + k)[:, 0], log_odds)
        units += place * (drawn - tf.reduce_sum(units * place, 1))[:, tf.newaxis]
        return k + 1, unit_sweeps(net, units, coins, steps=1, of=of, start=settle + k), total

    begin = (tf.constant(0, tf.int64), units, tf.zeros_like(truth))
    total = tf.while_loop(lambda k, *_: k < settle, sweep, begin, parallel_iterations=1)[2]
    return total / (settle - settle // 2)
