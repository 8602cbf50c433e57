"""PixelCNN over grey levels (van den Oord, Kalchbrenner and Kavukcuoglu 2016), as in Foster, "Generative Deep
Learning", 2nd ed., chapter 5."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from lehr.errors import UserError, letter
from lehr.models.masked import MaskedConvolution

REACH = 3
"""Pixels that the first layer, of 7x7, sees in each direction."""
COLD = 1e-10
"""Temperatures below are taken for it: every level but the likeliest has probability 0."""


class PixelCNN(keras.Model):
    """p(x) as the product over pixels, in raster order, of p(level | pixels before it).

    A masked convolution of 7x7 that does not see the pixel itself, residual blocks (1x1 to half the filters,
    masked 3x3, 1x1 back, each with a ReLU, then the input is added), two layers of 1x1, and one logit a
    level. At 16x16x1 with 128 filters, 5 blocks and 4 levels there are 307,460 stored weights; of those of
    the masked layers 24 taps of 49 and 5 of 9 are seen. Inputs are whole levels; the network sees
    level / levels. A pixel sees `blocks` + 3 rows up and `blocks` + 3 columns to the left, but for the blind
    spot: see `lehr.models.masked`.

    Args:
        node: `model` of the spec: `filters` of each layer, `blocks`, `levels`.
        shape: of one image, [height, width, 1].

    Raises:
        UserError: the inputs are no images of one channel.
    """

    def __init__(self, node: Any, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[2] != 1:
            raise UserError(
                letter(
                    "model.kind",
                    f"pixelcnn was given inputs of shape {tuple(shape)}",
                    accepted="images of one channel, [height, width, 1]",
                    do="choose other data or another model",
                )
            )
        super().__init__(name="pixelcnn")
        self.shape = (int(shape[0]), int(shape[1]), 1)
        self.levels = int(node.levels)
        self.first = MaskedConvolution(node.filters, 2 * REACH + 1, "A", name="first")
        self.blocks = [Block(node.filters, name=f"block_{number + 1}") for number in range(node.blocks)]
        self.last = [layers.Dense(node.filters, name=f"last_{number}") for number in (1, 2)]
        # In float32 under every precision: a softmax over float16 loses small probabilities.
        self.logits = layers.Dense(self.levels, dtype="float32", name="logits")
        self.build((None, *self.shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for images [batch, height, width, 1]."""
        self.first.build(input_shape)
        wide = (*input_shape[:3], self.first.bias.shape[0])
        for layer in (*self.blocks, *self.last, self.logits):
            layer.build(wide)
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        """Logits of every pixel's level, given the pixels before it.

        Args:
            images: [batch, height, width, 1] of whole levels 0 to levels - 1.
            training: changes nothing.

        Returns:
            float32 [batch, height, width, levels].
        """
        features = tf.nn.relu(self.first(images / self.levels))
        for layer in self.blocks:
            features = layer(features)
        for layer in self.last:
            features = tf.nn.relu(layer(features))
        return self.logits(features)

    def log_probability(self, images: Any, *, training: bool = False, address: Any = None) -> Any:
        """log p(x) of images [batch, height, width, 1] of whole levels: float32 [batch], in nats.

        `address` is not used: there is no dropout.
        """
        logits = self(images, training=training)
        levels = tf.cast(images[..., 0], tf.int32)
        lost = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=levels, logits=logits)
        return -tf.reduce_sum(lost, axis=[1, 2])

    def scan(self) -> PixelScan:
        """It, taken apart for drawing pixel by pixel, as `lehr.dynamics.raster` does; in float32."""
        return PixelScan(self)


class Block(layers.Layer):
    """A residual block: 1x1 to half the filters, masked 3x3, 1x1 back, each with a ReLU; the input is added.

    Args:
        filters: of its input and output.
    """

    def __init__(self, filters: int, **options: Any) -> None:
        super().__init__(**options)
        self.narrow = layers.Dense(filters // 2, name="narrow")
        self.seen = MaskedConvolution(filters // 2, 3, "B", name="seen")
        self.wide = layers.Dense(filters, name="wide")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs [batch, height, width, filters]."""
        half = (*input_shape[:3], self.narrow.units)
        self.narrow.build(input_shape)
        self.seen.build(half)
        self.wide.build(half)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """[batch, height, width, filters] to the same."""
        features = tf.nn.relu(self.narrow(inputs))
        features = tf.nn.relu(self.seen(features))
        return inputs + tf.nn.relu(self.wide(features))


class PixelScan:
    """A PixelCNN for `lehr.dynamics.raster`: of each masked kernel the rows above the centre are applied to a
    whole row of pixels at once, the row of the centre pixel by pixel.

    Of the rows above it knows the last three of the image, [rows, width, count], and what the blocks' masked
    layers read of the last one, [width, blocks, count, half]. To the left, the last three pixels,
    [count, 3], and the same of the last one, [blocks, count, half].

    Args:
        model: whose weights it has, as they are now.
    """

    chances = 1

    def __init__(self, model: PixelCNN) -> None:
        self.shape, self._levels, self._half = model.shape, model.levels, model.first.bias.shape[0] // 2
        self._blocks = [(_dense(block.narrow), _dense(block.wide)) for block in model.blocks]
        self._last, self._logits = [_dense(layer) for layer in model.last], _dense(model.logits)
        self._first_above, self._first_beside, self._first_bias = _split(model.first)
        above, beside, biases = zip(*(_split(block.seen) for block in model.blocks), strict=True)
        # The blocks' rows above are one product a row; beside it has the pixel to the left and the pixel.
        self._above, self._beside, self._biases = tf.stack(above), beside, tf.stack(biases)[:, tf.newaxis]

    def above(self, count: int) -> tuple[Any, Any]:
        """Nothing: the padding of a convolution."""
        width = self.shape[1]
        return tf.zeros([REACH, width, count]), tf.zeros([width, len(self._blocks), count, self._half])

    def row(self, above: tuple[Any, Any]) -> tuple[Any, Any]:
        """What each masked layer takes from the rows above: [width, count, filters] of the first one and
        [width, blocks, count, half] of the others, biases included."""
        rows, kept = above
        width, count = self.shape[1], rows.shape[2]
        seen = tf.stack(_shifted(rows, REACH, axis=1), axis=1)
        first = tf.matmul(tf.reshape(seen, [-1, width * count]), self._first_above, transpose_a=True)
        seen = tf.transpose(tf.concat(_shifted(kept, 1, axis=0), axis=3), [1, 0, 2, 3])
        others = tf.reshape(seen, [len(self._blocks), width * count, -1]) @ self._above + self._biases
        others = tf.reshape(others, [len(self._blocks), width, count, self._half])
        first = tf.reshape(first + self._first_bias, [width, count, self._first_bias.shape[0]])
        return first, tf.transpose(others, [1, 0, 2, 3])

    def left(self, count: int) -> tuple[Any, Any]:
        """Nothing: the padding of a convolution."""
        return tf.zeros([count, REACH]), tf.zeros([len(self._blocks), count, self._half])

    def pixel(self, context: tuple[Any, Any], left: tuple[Any, Any]) -> tuple[Any, Any]:
        """Logits [count, levels], and what the blocks' masked layers read here: [blocks, count, half]."""
        pixels, kept = left
        features, made = tf.nn.relu(context[0] + pixels @ self._first_beside), []
        parts = zip(self._blocks, self._beside, tf.unstack(context[1]), tf.unstack(kept), strict=True)
        for (narrow, wide), beside, above, before in parts:
            made.append(tf.nn.relu(_applied(narrow, features)))
            seen = tf.nn.relu(above + tf.concat([before, made[-1]], axis=1) @ beside)
            features += tf.nn.relu(_applied(wide, seen))
        for layer in self._last:
            features = tf.nn.relu(_applied(layer, features))
        return _applied(self._logits, features), tf.stack(made)

    def draw(self, parameters: Any, chances: Any, temperature: Any) -> Any:
        """A level of softmax(logits / temperature), by its distribution function: float32 [count, 1]."""
        below = parameters - tf.reduce_max(parameters, axis=1, keepdims=True)
        sums = tf.cumsum(tf.exp(below / tf.maximum(temperature, COLD)), axis=1)
        # Of the sum as it was rounded: then no chance below 1 leads beyond, or to a level of probability 0.
        beyond = sums <= chances * sums[:, -1:]
        return tf.reduce_sum(tf.cast(beyond, tf.float32), axis=1, keepdims=True)

    def moved(self, left: tuple[Any, Any], kept: Any, value: Any) -> tuple[Any, Any]:
        """The pixel is the last one to the left now."""
        return tf.concat([left[0][:, 1:], value / self._levels], axis=1), kept

    def finished(self, above: tuple[Any, Any], kept: Any, values: Any) -> tuple[Any, Any]:
        """The row is the last one above now."""
        row = values[tf.newaxis, ..., 0] / self._levels
        return tf.concat([above[0][1:], row], axis=0), kept


def _dense(layer: Any) -> tuple[Any, Any]:
    """Kernel [in, out] and bias of a dense layer, in float32."""
    return tf.convert_to_tensor(layer.kernel.value), tf.convert_to_tensor(layer.bias.value)


def _applied(layer: tuple[Any, Any], inputs: Any) -> Any:
    return tf.nn.bias_add(inputs @ layer[0], layer[1])


def _split(layer: MaskedConvolution) -> tuple[Any, Any, Any]:
    """What a masked kernel takes from the rows above, [taps * in, out]; from the row of the pixel, the same;
    and its bias."""
    kernel = layer.masked(tf.float32)
    rows, _, inputs, outputs = kernel.shape
    taps = layer.beside
    above = tf.reshape(kernel[: rows - 1], [-1, outputs])
    beside = tf.reshape(kernel[rows - 1, :taps], [taps * inputs, outputs])
    return above, beside, tf.convert_to_tensor(layer.bias.value)


def _shifted(tensor: Any, reach: int, *, axis: int) -> list[Any]:
    """A tensor as seen by each tap of a kernel of width 2 * reach + 1 along an axis, with zeros beyond it."""
    size = tensor.shape[axis]
    around = [[reach, reach] if one == axis else [0, 0] for one in range(len(tensor.shape))]
    padded = tf.pad(tensor, around)
    return [tf.gather(padded, tf.range(tap, tap + size), axis=axis) for tap in range(2 * reach + 1)]
