"""The deep belief network: restricted Boltzmann machines on top of each other (Hinton et al. 2006)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from lehr.models.rbm import RestrictedBoltzmannMachine


class DeepBeliefNetwork(keras.Model):
    """Restricted Boltzmann machines on top of each other: the hidden units of one are the visible ones of the
    next. With layers l = 1..L the model is

        p(v, h1, .., hL) = p(v | h1) .. p(h(L-2) | h(L-1)) p(h(L-1), hL)

    whose last factor is the top machine; those below it only give conditionals, downwards. Upwards, the same
    weights give the approximate posterior.

    Args:
        node: `model` of the spec: `hidden`, the hidden units of each machine from below.
        shape: of one example, whose numbers are the visible units, each 0 or 1.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        super().__init__(name="dbn", dtype="float32")
        self.stack: list[RestrictedBoltzmannMachine] = []
        for number, hidden in enumerate(node.hidden, 1):
            size = SimpleNamespace(hidden=hidden)
            below = shape if number == 1 else (self.stack[-1].hidden,)
            self.stack.append(RestrictedBoltzmannMachine(size, below, name=f"rbm_{number}"))
        self.build((None, *shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """The machines have made their weights."""
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Probabilities of the top hidden units, layer by layer upwards: float32 [batch, hidden[-1]]."""
        units = self.flat(inputs)
        for machine in self.stack:
            units = tf.sigmoid(machine.hidden_input(units))
        return units

    def flat(self, inputs: Any) -> Any:
        """Examples [batch, ...] as visible units, float32 [batch, visible]."""
        return self.stack[0].flat(inputs)
