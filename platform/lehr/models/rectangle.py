"""The smallest generative model: uniform in a rectangle (Foster, "Generative Deep Learning", ch. 1)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from lehr.errors import UserError, letter

START = 0.5  # the first rectangle is [-START, START] x [-START, START]


class Rectangle(keras.Model):
    """p(x) = 1 / area inside [low, high], 0 outside; log p(x) = -log(area), and minus infinity outside.

    Its maximum-likelihood fit is known: the smallest rectangle that holds all points. The likelihood alone
    leads there by no gradient, since a point outside makes it 0 wherever the point is. So training
    maximises the likelihood of a density with flanks, which fall by `slope` nats for each unit of distance
    d outside. On one axis, with width w = high - low,

        q(x) = exp(-slope d(x)) / (w + 2 / slope),

    which is a density: its core takes w, each flank the integral of exp(-slope d), 1 / slope. Let s be the
    share of points beyond `high`. Then d(mean -log q)/d(high) = 1 / (w + 2 / slope) - slope s, and the edge
    rests where

        s = 1 / (slope w + 2).

    Of n points, s is a multiple of 1 / n. Where slope w + 2 > n, one point outside is too many already: the
    edge goes to the outermost point, and the fit is exactly that of the rectangle without flanks (an exact
    penalty: Nocedal and Wright, "Numerical Optimization", 2nd ed., section 17.2). With a smaller slope each
    edge leaves out that share, as a quantile would: a rectangle that outliers do not stretch.

    The loss is a mean over points, so its gradient adds over replicas, as any other model's does. A minimum
    and a maximum would not. It is not smooth: an edge ends within about a step of its place.

    Args:
        node: `model` of the spec: `slope`.
        shape: of one point, [2].

    Raises:
        UserError: the inputs are no points.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        super().__init__(name="rectangle")
        refuse(self.name, shape)
        self._slope = float(node.slope)
        start = keras.initializers.Constant
        self.low = self.add_weight(name="low", shape=(2,), initializer=start(-START), dtype="float32")
        self.high = self.add_weight(name="high", shape=(2,), initializer=start(START), dtype="float32")
        self.built = True

    def call(self, points: Any, training: bool = False) -> Any:
        """As `log_probability`."""
        return self.log_probability(points, training=training)

    def log_probability(self, points: Any, *, training: bool = False, address: Any = None) -> Any:
        """log p of points [batch, 2], float32 [batch]; with `training`, that of the density with flanks."""
        points, (low, high) = tf.cast(points, tf.float32), self.edges()
        width = tf.maximum(high - low, 0.0)
        outside = tf.maximum(tf.maximum(low - points, points - high), 0.0)
        if training:
            return -tf.reduce_sum(tf.math.log(width + 2.0 / self._slope) + self._slope * outside, axis=-1)
        inside = tf.reduce_all((points >= low) & (points <= high), axis=-1)
        return tf.where(inside, -tf.reduce_sum(tf.math.log(width)), -float("inf"))

    def sample(self, uniform: Any, normal: Any) -> Any:
        """Points of the model, float32 [count, 2], from `uniform` [count, 3] in [-1, 1); not `normal`."""
        low, high = self.edges()
        return low + (high - low) * (uniform[:, :2] + 1.0) / 2.0

    def edges(self) -> tuple[Any, Any]:
        """Lower left and upper right corner, float32 [2] each."""
        return tf.convert_to_tensor(self.low.value), tf.convert_to_tensor(self.high.value)


def refuse(kind: str, shape: tuple[int, ...]) -> None:
    """Raise UserError where inputs are no points in the plane."""
    if tuple(shape) != (2,):
        came = f"{kind} was given inputs of shape {tuple(shape)}"
        accepted = "points in the plane, [2]"
        raise UserError(letter("model.kind", came, accepted=accepted, do="choose data such as land"))
