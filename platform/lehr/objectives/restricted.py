"""Contrastive divergence of a restricted Boltzmann machine: block Gibbs chains, free energies."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lehr.dynamics.gibbs import Coins, sweeps
from lehr.objectives.objective import Batch
from lehr.objectives.phases import Settings, pseudo_log_likelihood, random_unit, squared_error


class Restricted:
    """The phases of one machine of two layers. A chain rests as its hidden units: from them a sweep draws the
    visible ones, whose hidden input the free energy then needs as well as the next hidden units."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Rows of the data and of the chains, as `visible` [2 batch, visible], and their `hidden_input`."""
        return phases(
            model, model.flat(batch["input"]), batch.get("start"), self._settings, self._settings.coins(batch)
        )

    def energies(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Free energies; data and chains in one product, where the gradient takes its time."""
        both = model.free_energy(batch["visible"], batch["hidden_input"])
        return both[: tf.shape(both)[0] // 2], both[tf.shape(both)[0] // 2 :]

    def squares(self, model: Any, batch: Batch) -> Any:
        """Of the weights between the layers."""
        return tf.reduce_sum(tf.convert_to_tensor(model.kernel.value) ** 2)

    def validate(self, model: Any, batch: Batch) -> Batch:
        """Of the held-out rows."""
        return looks(model, model.flat(batch["input"]), self._settings.held_out_coins(batch))


def phases(machine: Any, visible: Any, start: Any, settings: Settings, coins: Coins) -> Batch:
    """`visible` and `hidden_input` of the data [batch, visible] and of the chains, one above the other, and
    `chain`, the hidden units in which the chains rest. Without a `start` the chains begin at the data."""
    of_data = machine.hidden_input(visible)
    hidden = start if settings.is_persistent else coins.toss(of_data, 0)
    end = sweeps(machine, hidden, coins, steps=settings.sweeps)
    return {
        "visible": tf.concat([visible, end.visible], 0),
        "hidden_input": tf.concat([of_data, end.hidden_input], 0),
        "chain": end.hidden,
    }


def looks(machine: Any, visible: Any, coins: Coins) -> Batch:
    """What is measured on held-out units [batch, visible]: each row's value by name."""
    hidden_input = machine.hidden_input(visible)
    unit = random_unit(coins, visible, 0)
    # p(v_i | the others) = 1 / (1 + exp(F(v) - F(v with v_i turned over)))
    log_probability = tf.math.log_sigmoid(machine.flip(visible, hidden_input, unit))
    return {
        "pseudo_log_likelihood": pseudo_log_likelihood(log_probability, machine.visible),
        "reconstruction": squared_error(visible, machine.visible_input(tf.sigmoid(hidden_input))),
        "data_energy": machine.free_energy(visible, hidden_input),
    }
