"""Masked convolutions (van den Oord, Kalchbrenner and Kavukcuoglu 2016, "Pixel recurrent neural networks").

A masked convolution sees only what comes before a pixel in raster order: left to right, then top to bottom.
Its kernel is multiplied by 0 for the taps after the centre; mask A hides the centre too, mask B shows it.

The mask is applied in the forward pass, as a function of the weights: it never writes to them. So the
gradient of a masked weight is exactly 0, and whatever is stored there, the layer is causal. Masked weights
start at 0 and therefore stay 0: kernels are masked as they are stored, too.

Layers in sequence see further, but never all that comes before. A 3x3 layer goes at most one column to the
right for each row that it goes up. So after a first layer of 7x7, pixels more than k + 2 columns to the
right in the k-th row above are never seen: the blind spot (van den Oord et al. 2016, "Conditional image
generation with PixelCNN decoders", section 2.2). The likelihood is exact all the same, of a model that leaves
them out.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

Kind = Literal["A", "B"]


def mask(size: int, kind: Kind) -> np.ndarray:
    """float32 [size, size, 1, 1]: 1 for the taps before the centre, and for the centre itself under mask B.

    Raises:
        ValueError: an even size has no centre.
    """
    if size % 2 == 0:
        raise ValueError(f"a masked kernel has a centre: {size} is even")
    seen = np.zeros(size * size, np.float32)
    seen[: size * size // 2 + (kind == "B")] = 1.0
    return seen.reshape(size, size, 1, 1)


class MaskedConvolution(keras.layers.Layer):
    """A convolution with same padding and stride 1 that sees nothing after a pixel.

    Weights start uniform as in Glorot and Bengio (2010), with the taps counted that are seen; biases at 0.

    Args:
        filters: output channels.
        size: of the kernel, odd.
        kind: "A" hides the pixel itself, "B" shows it.
    """

    def __init__(self, filters: int, size: int, kind: Kind, **options: Any) -> None:
        super().__init__(**options)
        self._filters, self._size, self._mask = filters, size, mask(size, kind)
        self.beside = size // 2 + (kind == "B")
        """Taps of the centre's row that are seen."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs [batch, height, width, channels]."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self._size, self._size, input_shape[-1], self._filters),
            initializer=self._start,
        )
        self.bias = self.add_weight(name="bias", shape=(self._filters,), initializer="zeros")
        self.built = True

    def _start(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        scale = self._size**2 / self._mask.sum()  # taps that are stored, to one that is seen
        variance = keras.initializers.VarianceScaling(scale, mode="fan_avg", distribution="uniform")
        return variance(shape, dtype) * tf.cast(self._mask, dtype or "float32")

    def masked(self, dtype: Any = None) -> Any:
        """The rows of the kernel that see anything, masked: [size // 2 + 1, size, in, out]."""
        rows = self._size // 2 + 1
        kernel = tf.cast(self.kernel.value, dtype or self.compute_dtype)
        return kernel[:rows] * tf.cast(self._mask[:rows], kernel.dtype)

    def call(self, inputs: Any) -> Any:
        """[batch, height, width, in] to [batch, height, width, filters]."""
        half = self._size // 2
        # Padded first: a convolution with unequal padding of its own is slower on a CPU (33 against 26 ms).
        padded = tf.pad(inputs, [[0, 0], [half, 0], [half, half], [0, 0]])
        made = tf.nn.conv2d(padded, self.masked(), 1, "VALID")
        return tf.nn.bias_add(made, tf.cast(self.bias.value, made.dtype))
