"""The general Boltzmann machine (Ackley, Hinton and Sejnowski 1985)."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lehr.models.rbm import SPREAD


class BoltzmannMachine(keras.Model):
    """Binary units, all connected with each other, of which the first are visible:

        E(v, h) = -1/2 v L v - 1/2 h J h - v W h - a.v - b.h,    p(v, h) = exp(-E(v, h)) / Z

    L and J are symmetric with zero diagonal. The factor one half stands where each pair is met twice, in the
    terms of L and J. Foster ("Generative Deep Learning", 2nd ed., chapter 7) prints it in front of the cross
    term too: his W is twice this one, the machines are the same.

    Each pair of visible units, and of hidden ones, has one weight, kept in a row: so the matrices are
    symmetric whatever an optimizer does, and there are no weights that do not count. Everything is
    float32 under every precision.

    Args:
        node: `model` of the spec: `hidden`, the number of hidden units.
        shape: of one example, whose numbers are the visible units, each 0 or 1.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        super().__init__(name="boltzmann", dtype="float32")
        self.visible, self.hidden = math.prod(shape), int(node.hidden)
        self.build((None, *shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights: small random ones between units, biases at 0."""
        if getattr(self, "built", False):  # Keras and the worker build what is built
            return
        visible, hidden = self.visible, self.hidden
        small = keras.initializers.RandomNormal
        self.visible_pairs = self._make("visible_pairs", (visible * (visible - 1) // 2,), small(0.0, SPREAD))
        self.hidden_pairs = self._make("hidden_pairs", (hidden * (hidden - 1) // 2,), small(0.0, SPREAD))
        self.kernel = self._make("kernel", (visible, hidden), small(0.0, SPREAD))
        self.visible_bias = self._make("visible_bias", (visible,), "zeros")
        self.hidden_bias = self._make("hidden_bias", (hidden,), "zeros")
        self.built = True

    def _make(self, name: str, shape: tuple[int, ...], initializer: Any) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=initializer, dtype="float32")

    def call(self, units: Any, training: bool = False) -> Any:
        """-E of all units [batch, visible + hidden], each 0 or 1: float32 [batch]."""
        return -self.energy(units)

    def flat(self, inputs: Any) -> Any:
        """Examples [batch, ...] as visible units, float32 [batch, visible]."""
        return tf.reshape(tf.cast(inputs, tf.float32), [-1, self.visible])

    def couplings(self) -> Any:
        """L, W and J in one symmetric matrix with zero diagonal: float32 [units, units]."""
        across = _tensor(self.kernel)
        upper = tf.concat([_square(self.visible_pairs, self.visible), across], 1)
        lower = tf.concat([tf.transpose(across), _square(self.hidden_pairs, self.hidden)], 1)
        return tf.concat([upper, lower], 0)

    def biases(self) -> Any:
        """a and b: float32 [units]."""
        return tf.concat([_tensor(self.visible_bias), _tensor(self.hidden_bias)], 0)

    def energy(self, units: Any) -> Any:
        """E(v, h) of all units, float32 [batch, visible + hidden]: float32 [batch]."""
        among = tf.reduce_sum(tf.matmul(units, self.couplings()) * units, 1)
        return -0.5 * among - tf.linalg.matvec(units, self.biases())


def _square(pairs: Any, size: int) -> Any:
    """A row of weights, one a pair, as a symmetric matrix with zero diagonal [size, size]."""
    rows, columns = np.triu_indices(size, 1)
    # scatter_nd: its gradient is dense, that of a gather would be a sparse one.
    upper = tf.scatter_nd(np.stack([rows, columns], 1).astype(np.int32), _tensor(pairs), [size, size])
    return upper + tf.transpose(upper)


def _tensor(weight: Any) -> Any:
    return tf.convert_to_tensor(weight.value)
