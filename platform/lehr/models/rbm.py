"""The restricted Boltzmann machine (Smolensky 1986; Hinton 2002, "Training products of experts")."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

SPREAD = 0.01
"""Standard deviation of the first weights (Hinton 2010, "A practical guide to training RBMs", section 8)."""


class RestrictedBoltzmannMachine(keras.Model):
    """Binary visible units v and hidden units h; only units of different layers are connected:

        E(v, h) = -a.v - b.h - v W h,    p(v, h) = exp(-E(v, h)) / Z

    so all units of a layer are independent given the other layer, and the hidden ones sum out:
    exp(-F(v)) = sum over h of exp(-E(v, h)) with F(v) = -a.v - sum_j log(1 + exp(b_j + (v W)_j)).

    Everything is float32 under every precision: chains and energies are small differences of large sums.

    Args:
        node: `model` of the spec: `hidden`, the number of hidden units.
        shape: of one example, whose numbers are the visible units, each 0 or 1.
        name: of the weights' group, where it is a part of another model.
    """

    def __init__(self, node: Any, shape: tuple[int, ...], name: str = "rbm") -> None:
        super().__init__(name=name, dtype="float32")
        self.visible, self.hidden = math.prod(shape), int(node.hidden)
        self.build((None, *shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights: small random ones between the layers, biases at 0."""
        if getattr(self, "built", False):  # Keras and the worker build what is built
            return
        make = self._make
        self.kernel = make(
            "kernel", (self.visible, self.hidden), keras.initializers.RandomNormal(0.0, SPREAD)
        )
        self.visible_bias = make("visible_bias", (self.visible,), "zeros")
        self.hidden_bias = make("hidden_bias", (self.hidden,), "zeros")
        self.built = True

    def _make(self, name: str, shape: tuple[int, ...], initializer: Any) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer, dtype="float32")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """-F(v), float32 [batch]: high where likely. `inputs` [batch, ...] are 0 or 1."""
        return -self.free_energy(self.flat(inputs))

    def flat(self, inputs: Any) -> Any:
        """Examples [batch, ...] as visible units, float32 [batch, visible]."""
        return tf.reshape(tf.cast(inputs, tf.float32), [-1, self.visible])

    def hidden_input(self, visible: Any) -> Any:
        """b + v W, float32 [batch, hidden]: the log-odds of each hidden unit."""
        return tf.matmul(visible, _tensor(self.kernel)) + _tensor(self.hidden_bias)

    def visible_input(self, hidden: Any) -> Any:
        """a + W h, float32 [batch, visible]: the log-odds of each visible unit."""
        return tf.matmul(hidden, _tensor(self.kernel), transpose_b=True) + _tensor(self.visible_bias)

    def free_energy(self, visible: Any, hidden_input: Any = None) -> Any:
        """F(v) of units [batch, visible]: float32 [batch]. Its gradient is known in closed form,

            dF/dW = -v p(h = 1 | v),    dF/da = -v,    dF/db = -p(h = 1 | v),

        so what a chain has computed already is not computed again.

        Args:
            visible: float32 [batch, visible]; no gradient flows to it.
            hidden_input: b + v W of it, of these weights, where that is known.
        """
        known = tf.stop_gradient(self.hidden_input(visible) if hidden_input is None else hidden_input)

        @tf.custom_gradient
        def energies(kernel: Any, visible_bias: Any, hidden_bias: Any) -> Any:
            def slopes(upstream: Any) -> tuple[Any, Any, Any]:
                scale = -upstream[:, tf.newaxis]
                likely = scale * tf.sigmoid(known)
                pairs = tf.matmul(visible, likely, transpose_a=True)
                return pairs, tf.linalg.matvec(visible, -upstream, transpose_a=True), tf.reduce_sum(likely, 0)

            return -tf.linalg.matvec(visible, visible_bias) - _softplus_sum(known), slopes

        return energies(*(_tensor(weight) for weight in (self.kernel, self.visible_bias, self.hidden_bias)))

    def flip(self, visible: Any, hidden_input: Any, unit: Any) -> Any:
        """F(v with one unit turned over) - F(v), float32 [batch].

        Args:
            visible: float32 [batch, visible].
            hidden_input: of it.
            unit: which one, int32 [batch].
        """
        turn = 1.0 - 2.0 * tf.gather(visible, unit, axis=1, batch_dims=1)
        moved = hidden_input + turn[:, tf.newaxis] * tf.gather(_tensor(self.kernel), unit)
        own = turn * tf.gather(_tensor(self.visible_bias), unit)
        return -own - _softplus_sum(moved) + _softplus_sum(hidden_input)


def _softplus_sum(inputs: Any) -> Any:
    return tf.reduce_sum(tf.math.softplus(inputs), axis=-1)


def _tensor(weight: Any) -> Any:
    return tf.convert_to_tensor(weight.value)
