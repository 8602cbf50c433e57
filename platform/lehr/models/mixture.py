"""A mixture of normal distributions in the plane, fitted by gradients."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from lehr.models.rectangle import refuse

START = 0.3  # the first standard deviation of every component


class Mixture(keras.Model):
    """p(x) = sum over components of share_k Normal(x; mean_k, R_k R_k^T), with R_k lower triangular.

    Shares are a softmax. The diagonal of R is `least_scale` + softplus of a parameter: without a floor the
    likelihood has no maximum, since a component that shrinks onto one point makes it infinite (Bishop,
    "Pattern Recognition and Machine Learning", section 9.2.1). Components start alike, at places drawn from
    the seed.

    Args:
        node: `model` of the spec: `components`, `least_scale`.
        shape: of one point, [2].

    Raises:
        UserError: the inputs are no points.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        super().__init__(name="mixture")
        refuse(self.name, shape)
        self._least, count = float(node.least_scale), node.components
        wide = math.log(math.expm1(max(START - self._least, 1e-3)))
        zero, start = keras.initializers.Zeros(), keras.initializers.Constant(wide)
        anywhere = keras.initializers.RandomUniform(-0.5, 0.5)
        self.shares = self.add_weight(name="shares", shape=(count,), initializer=zero, dtype="float32")
        self.means = self.add_weight(name="means", shape=(count, 2), initializer=anywhere, dtype="float32")
        self.scales = self.add_weight(name="scales", shape=(count, 2), initializer=start, dtype="float32")
        self.slants = self.add_weight(name="slants", shape=(count,), initializer=zero, dtype="float32")
        self.built = True

    def call(self, points: Any, training: bool = False) -> Any:
        """As `log_probability`."""
        return self.log_probability(points)

    def log_probability(self, points: Any, *, training: bool = False, address: Any = None) -> Any:
        """log p of points [batch, 2]: float32 [batch]; training changes nothing."""
        away = tf.cast(points, tf.float32)[:, None, :] - tf.convert_to_tensor(self.means.value)
        first, slant, second = self.roots()
        # R z = away, solved from the top.
        along = away[:, :, 0] / first
        across = (away[:, :, 1] - slant * along) / second
        normal = -math.log(2 * math.pi) - tf.math.log(first * second) - (along**2 + across**2) / 2.0
        return tf.reduce_logsumexp(self._log_shares() + normal, axis=-1)

    def sample(self, uniform: Any, normal: Any) -> Any:
        """Points of the model, float32 [count, 2].

        Args:
            uniform: [count, 3] in [-1, 1); the last column picks a component.
            normal: [count, 2], standard normal.
        """
        ends = tf.cumsum(tf.exp(self._log_shares()))
        picked = tf.searchsorted(ends, (uniform[:, 2] + 1.0) / 2.0, side="right")
        picked = tf.minimum(picked, len(ends) - 1)  # rounding may leave the last end below 1
        first, slant, second = (tf.gather(part, picked) for part in self.roots())
        moved = tf.stack([first * normal[:, 0], slant * normal[:, 0] + second * normal[:, 1]], axis=1)
        return tf.gather(tf.convert_to_tensor(self.means.value), picked) + moved

    def roots(self) -> tuple[Any, Any, Any]:
        """R of each component, [[first, 0], [slant, second]]: float32 [components] each."""
        scales = self._least + tf.nn.softplus(tf.convert_to_tensor(self.scales.value))
        return scales[:, 0], tf.convert_to_tensor(self.slants.value), scales[:, 1]

    def _log_shares(self) -> Any:
        return tf.nn.log_softmax(tf.convert_to_tensor(self.shares.value))
