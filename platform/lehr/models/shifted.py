"""Convolutions over windows that end at their own place, and gated blocks of them.

PixelCNN++ (Salimans et al. 2017) pads and crops images so that an ordinary convolution sees nothing after a
pixel: no mask is needed, every weight is used. Two streams of features share the work (van den Oord et al.
2016, "Conditional image generation with PixelCNN decoders"): the vertical one sees all rows above, the
horizontal one also what is to the left in its own row, and is told the vertical one's features. Together they
see all pixels before one; there is no blind spot.

Shapes: features [batch, height, width, channels], kernels [height, width, in, out].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from keras import layers


class Window(NamedTuple):
    """Which places an output sees: rows -above to below and columns -left to right of its own, all included.
    -1 for `below` or `right` ends the window before the own row or column."""

    above: int
    below: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.above + self.below + 1, self.left + self.right + 1


VERTICAL = Window(1, 0, 1, 1)
"""Of features that hold only what is in rows above: the own row may be seen, to both sides."""
HORIZONTAL = Window(1, 0, 1, 0)
"""Of features that hold only what comes before a pixel."""
ROWS_ABOVE = Window(2, -1, 1, 1)
"""Of pixels: the two rows above."""
ROW_ABOVE = Window(1, -1, 1, 1)
"""Of pixels: the row above."""
TO_THE_LEFT = Window(1, 0, 1, -1)
"""Of pixels: the one to the left, and the one above that."""


class Shifted(layers.Layer):
    """A convolution over a `Window`; beyond the border lie zeros.

    Weights start uniform as in Glorot and Bengio (2010); biases at 0. With stride 2 output (i, j) has the
    place of input (2i, 2j).
    """

    def __init__(self, filters: int, window: Window, *, stride: int = 1, name: str) -> None:
        super().__init__(name=name)
        self.filters, self.window, self.stride = filters, window, stride

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs [batch, height, width, channels]."""
        shape = (*self.window.size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.built = True

    def call(self, features: Any) -> Any:
        """[batch, height, width, in] to [batch, ceil(height / stride), ceil(width / stride), filters]."""
        above, below, left, right = self.window
        seen = features[:, : min(below, 0) or None, : min(right, 0) or None]
        margins = [[0, 0], [above, max(below, 0)], [left, max(right, 0)], [0, 0]]
        made = tf.nn.conv2d(seen, self._cast(self.kernel), self.stride, margins)
        return tf.nn.bias_add(made, self._cast(self.bias))

    def _cast(self, weight: Any) -> Any:
        return tf.cast(weight.value, self.compute_dtype)


class Lifted(layers.Layer):
    """Twice the height and width: each place gives its own block of 2 x 2."""

    def __init__(self, filters: int, *, name: str) -> None:
        super().__init__(name=name)
        self.block = layers.Dense(4 * filters, name="block")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs [batch, height, width, channels]."""
        self.block.build(input_shape)
        self.built = True

    def call(self, features: Any) -> Any:
        """[batch, height, width, in] to [batch, 2 height, 2 width, filters]."""
        return tf.nn.depth_to_space(self.block(features), 2)


class Gated(layers.Layer):
    """x + a sigmoid(b), with a and b from two convolutions in sequence (Salimans et al. 2017, section 2.3).

    Between the two, features from elsewhere may join: another stream's, or the same stream's on the way down.

    Args:
        filters: channels of inputs and outputs.
        window: of both convolutions.
        beside: how many features join, each with as many channels.
    """

    def __init__(self, filters: int, window: Window, *, beside: int, name: str) -> None:
        super().__init__(name=name)
        self.filters, self.beside = filters, beside
        self.first = Shifted(filters, window, name="first")
        self.second = Shifted(2 * filters, window, name="second")
        self.joined: Any = layers.Dense(filters, name="joined") if beside else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs [batch, height, width, filters]."""
        twice = (*input_shape[:-1], 2 * self.filters)
        self.first.build(twice)
        self.second.build(twice)
        if self.joined is not None:
            self.joined.build((*input_shape[:-1], 2 * self.filters * self.beside))
        self.built = True

    def call(self, features: Any, beside: tuple[Any, ...] = (), drop: Any = None) -> Any:
        """Features shaped as those given; `drop` is what dropout does to those inside."""
        hidden = self.first(concat_elu(features))
        if self.joined is not None:
            hidden += self.joined(tf.concat([concat_elu(other) for other in beside], -1))
        inside = concat_elu(hidden)
        return gated(features, self.second(inside if drop is None else drop(inside)))


def concat_elu(features: Any) -> Any:
    """elu of x and of -x (Clevert et al. 2016), as twice the channels."""
    return tf.nn.elu(tf.concat([features, -features], -1))


def gated(features: Any, pair: Any) -> Any:
    """x + a sigmoid(b)."""
    value, gate = tf.split(pair, 2, axis=-1)
    return features + value * tf.sigmoid(gate)


def within(features: Any, like: Any) -> Any:
    """The part of `features` that has the height and width of `like`: halving rounds up."""
    return features[:, : like.shape[1], : like.shape[2]]
