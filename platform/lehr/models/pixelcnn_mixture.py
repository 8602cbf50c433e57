"""PixelCNN++ (Salimans et al. 2017) as in Foster, "Generative Deep Learning", 2nd ed., chapter 5."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from lehr.errors import UserError, letter
from lehr.models.dropout import Dropout
from lehr.models.logistic import LogisticMixture
from lehr.models.pixelcnn_mixture_scan import MixtureScan
from lehr.models.shifted import (
    HORIZONTAL,
    ROW_ABOVE,
    ROWS_ABOVE,
    TO_THE_LEFT,
    VERTICAL,
    Gated,
    Lifted,
    Shifted,
    within,
)

Pair = tuple[Any, Any]
"""The vertical stream's and the horizontal one's."""


class PixelCNNMixture(keras.Model):
    """The probability of an image as a product over its pixels, in raster order, each given those before it.

    A pixel's distribution is a mixture of discretised logistics (`LogisticMixture`). What a pixel depends on
    goes through two streams of gated blocks, at several sizes: on the way down each halves the one before,
    and on the way up each block is told the features of its counterpart on the way down.

    The paper normalises weights and starts them from the moments of a first batch. Here weights are plain and
    start as in Glorot and Bengio (2010): a start from data would need an exchange before the first step, and
    the gated blocks pass on their inputs whatever their weights are. The means of the mixture start spread
    over the levels.

    Args:
        node: `model` of the spec: `filters`, `blocks`, `hierarchies`, `mixtures`, `dropout`, `levels`.
        shape: of one image, [height, width, channels].

    Raises:
        UserError: the inputs are no images, or smaller than the sizes are many.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or min(shape[:2]) < 2 ** (node.hierarchies - 1):
            raise UserError(
                letter(
                    "model.kind",
                    f"pixelcnn_mixture was given inputs of shape {tuple(shape)}",
                    accepted="images [height, width, channels] that can be halved for each hierarchy",
                    do="choose other data, or fewer model.hierarchies",
                )
            )
        super().__init__(name="pixelcnn_mixture")
        self.image_shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.mixture = LogisticMixture(node.mixtures, node.levels, self.image_shape[2])
        # From the generator that the platform seeds for the weights, as the initialisers' seeds are.
        self._dropout = Dropout(float(node.dropout), random.getrandbits(63))
        self.scales = [
            Scale(node.filters, node.blocks, outermost=number == 0, innermost=number == node.hierarchies - 1,
                  name=f"scale_{number + 1}")
            for number in range(node.hierarchies)
        ]  # fmt: skip
        # In float32 under every precision: probabilities far out are differences of large numbers.
        self.parameters_of = layers.Dense(
            self.mixture.outputs, dtype="float32", bias_initializer=_spread(self.mixture), name="parameters"
        )
        self.build((None, *self.image_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for images [batch, height, width, channels]."""
        height, width = self.image_shape[:2]
        for scale in self.scales:
            scale.build((None, height, width, self.image_shape[2] + 1))
            height, width = -(-height // 2), -(-width // 2)
        self.parameters_of.build((None, *self.image_shape[:2], self.scales[0].filters))
        self.built = True

    def call(self, images: Any, training: bool = False, address: tuple[Any, Any] | None = None) -> Any:
        """What the network says of each pixel, given those before it.

        Args:
            images: [batch, height, width, channels], whole numbers 0 to levels - 1.
            training: whether dropout is on.
            address: training step and global number of the first example; needed in training.

        Returns:
            float32 [batch, height, width, mixture.outputs].
        """
        inputs = tf.cast(self.inputs_of(tf.cast(images, tf.float32)), self.compute_dtype)
        drops = Drops(self._dropout, address) if training and self._dropout.rate else None
        features = self._through(0, (inputs, inputs), drops)[1]
        return self.parameters_of(tf.nn.elu(tf.cast(features, tf.float32)))

    def log_probability(
        self, inputs: Any, *, training: bool = False, address: tuple[Any, Any] | None = None
    ) -> Any:
        """Of images [batch, height, width, channels] of whole numbers 0 to levels - 1: float32 [batch], in
        nats. Arguments as of `call`."""
        parameters = self(inputs, training=training, address=address)
        told = self.mixture.log_probability(parameters, tf.cast(inputs, tf.float32))
        return tf.reduce_sum(told, axis=[1, 2])

    def inputs_of(self, levels: Any) -> Any:
        """What the network sees of pixels [..., channels]: values in [-1, 1], and 1, which borders lack."""
        return tf.concat([self.mixture.scaled(levels), tf.ones_like(levels[..., :1])], -1)

    def scan(self) -> MixtureScan:
        """The network taken apart for drawing pixel by pixel (`dynamics.raster.Scan`)."""
        return MixtureScan(self)

    def _through(self, number: int, inputs: Pair, drops: Drops | None) -> Pair:
        """The streams at the end of their way through scale `number` and all below it."""
        scale = self.scales[number]
        now = scale.entered(inputs)
        kept = [now]
        for blocks in scale.down:
            now = passed(blocks, now, (), drops)
            kept.append(now)
        now = kept.pop() if scale.innermost else self._below(number + 1, now, drops)
        for blocks in scale.up:
            now = passed(blocks, now, kept.pop(), drops)
        return now

    def _below(self, number: int, inputs: Pair, drops: Drops | None) -> Pair:
        through, lifts = self._through(number, inputs, drops), self.scales[number].lifts
        vertical, horizontal = (
            within(lift(features), like) for lift, features, like in zip(lifts, through, inputs, strict=True)
        )
        return vertical, horizontal


class Scale(layers.Layer):
    """The layers at one size: an entrance, blocks on the way down, blocks on the way up, and the way out."""

    def __init__(self, filters: int, blocks: int, *, outermost: bool, innermost: bool, name: str) -> None:
        super().__init__(name=name)
        self.filters, self.innermost = filters, innermost
        stride = 1 if outermost else 2
        windows = (ROWS_ABOVE, ROW_ABOVE, TO_THE_LEFT) if outermost else (VERTICAL, HORIZONTAL)
        self.entrances = [
            Shifted(filters, window, stride=stride, name=f"entrance_{number + 1}")
            for number, window in enumerate(windows)
        ]
        self.down = [_blocks(filters, f"down_{number + 1}", kept=0) for number in range(blocks)]
        # The entrance has a counterpart too; but the innermost size begins its way up with the last features.
        self.up = [
            _blocks(filters, f"up_{number + 1}", kept=1)
            for number in range(blocks if innermost else blocks + 1)
        ]
        names = () if outermost else ("lift_vertical", "lift_horizontal")
        self.lifts = [Lifted(filters, name=name) for name in names]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights; `input_shape`'s channels are those of the image."""
        inner = (*input_shape[:-1], self.filters)
        for layer in self.entrances:
            layer.build(inner if self.lifts else input_shape)
        for layer in (*(block for pair in (*self.down, *self.up) for block in pair), *self.lifts):
            layer.build(inner)
        self.built = True

    def entered(self, inputs: Pair) -> Pair:
        """The streams at this size, from images or from the streams at the size above."""
        vertical, *horizontal = self.entrances
        return vertical(inputs[0]), tf.add_n([layer(inputs[1]) for layer in horizontal])


class Drops:
    """Dropout in one pass through the network: blocks are numbered in the order in which they ask."""

    def __init__(self, dropout: Dropout, address: tuple[Any, Any] | None) -> None:
        if address is None:
            raise ValueError("dropout in training needs an address: (step, first)")
        self._dropout, self._address, self._asked = dropout, address, 0

    def __call__(self, features: Any) -> Any:
        """`features` with some of them dropped."""
        self._asked += 1
        return self._dropout(features, self._address, self._asked)


def passed(blocks: Pair, now: Pair, kept: tuple[Any, ...], drops: Drops | None) -> Pair:
    """Both streams after their blocks; the horizontal one is told the vertical one's new features."""
    vertical = blocks[0](now[0], kept[:1], drop=drops)
    return vertical, blocks[1](now[1], (vertical, *kept[1:]), drop=drops)


def _blocks(filters: int, name: str, *, kept: int) -> Pair:
    return (
        Gated(filters, VERTICAL, beside=kept, name=f"{name}_vertical"),
        Gated(filters, HORIZONTAL, beside=1 + kept, name=f"{name}_horizontal"),
    )


def _spread(mixture: LogisticMixture) -> Any:
    """Biases: the components' means spread over [-1, 1], each as wide as its share of it."""
    many, channels = mixture.mixtures, mixture.channels
    biases = np.zeros(mixture.outputs, np.float32)
    means = (2 * np.arange(many) + 1) / many - 1
    biases[many : many * (1 + channels)] = np.repeat(means, channels)
    biases[many * (1 + channels) : many * (1 + 2 * channels)] = -np.log(2.0 * many)
    return keras.initializers.Constant(biases)
