"""Strided convolutions by hand: their input gradients, in the form that a processor does fast.

A gradient with respect to the *input* needs no filter gradients, and the filters stand still while a chain
runs, so they can be brought into the best form once, outside the loop. On a processor that is worth most for
the first layer: with one input channel the library's transposed convolution leaves all but one lane of a
vector register idle. There the gradient of several neighbouring pixels is made at once, as the channels
of an ordinary convolution of the upstream gradient (the polyphase form: space to depth).

Shapes: images [batch, height, width, channels], kernels [height, width, in, out], as Keras keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

STRIDE = 2
_LANES = 16  # float32 in a vector register of 512 bits
_TAKEN_FROM = 4  # input channels from which the library's own form is as good


def strided(images: Any, kernel: Any, bias: Any) -> Any:
    """Convolution of stride 2 with same padding: [batch, h, w, in] to [batch, ceil(h/2), ceil(w/2), out]."""
    return tf.nn.bias_add(tf.nn.conv2d(images, kernel, STRIDE, "SAME"), bias)


def strided_input_gradient(kernel: Any, shape: tuple[int, int, int]) -> Callable[[Any], Any]:
    """The map from the gradient at the output of `strided` to that at its input.

    Args:
        kernel: [k, k, in, out].
        shape: [height, width, in] of one input.

    Returns:
        From [batch, ceil(h/2), ceil(w/2), out] to [batch, h, w, in].
    """
    height, width, channels = shape
    even = height % STRIDE == 0 and width % STRIDE == 0
    # With one filter the blocks come from one channel, and oneDNN (TensorFlow 2.21) answers a convolution of
    # one channel whose strides differ with numbers that were never computed.
    if channels < _TAKEN_FROM and even and kernel.shape[3] > 1:
        return _pixel_blocks(kernel, shape)
    return lambda upstream: tf.nn.conv2d_transpose(
        upstream, kernel, [_rows(upstream), *shape], STRIDE, "SAME"
    )


def _pixel_blocks(kernel: Any, shape: tuple[int, int, int]) -> Callable[[Any], Any]:
    """As `strided_input_gradient`: blocks of 2 rows by 2n columns are the channels of one convolution.

    Block (j, b) of the gradient depends on a few rows of the upstream gradient around j and on n columns of
    it with a few at each side: a convolution with stride (1, n). n is chosen to fill a register.
    """
    height, width, channels = shape
    columns = _columns(width // STRIDE, channels)
    vertical, above, below = _phases(kernel.shape[0], height, 1)
    horizontal, left, right = _phases(kernel.shape[1], width, columns)
    # Both selections are constants: row r of the block takes tap d of the kernel at upstream row o.
    blocks = tf.einsum("ord,pce,deif->opfrci", vertical, horizontal, tf.cast(kernel, tf.float32))
    blocks = tf.cast(blocks, kernel.dtype)
    blocks = tf.reshape(blocks, [*blocks.shape[:3], STRIDE * STRIDE * columns * channels])
    padding = [[0, 0], [above, below], [left, right], [0, 0]]
    across = STRIDE * columns * channels

    def gradient(upstream: Any) -> Any:
        made = tf.nn.conv2d(upstream, blocks, [1, 1, columns, 1], padding)
        rows = _rows(upstream)
        pairs = tf.reshape(made, [rows, height // STRIDE, width * channels // across, STRIDE, across])
        return tf.reshape(tf.transpose(pairs, [0, 1, 3, 2, 4]), [rows, *shape])

    return gradient


def _columns(width: int, channels: int) -> int:
    """Upstream columns of a block: the largest divisor of `width` whose block still fits a register."""
    most = max(1, _LANES // (STRIDE * STRIDE * channels))
    return max(n for n in range(1, most + 1) if width % n == 0)


def _phases(taps: int, size: int, block: int) -> tuple[np.ndarray, int, int]:
    """How a block of 2 * `block` inputs depends on outputs, along one axis.

    Output i sees input 2i + d - before through tap d; TensorFlow's same padding puts the smaller half before.

    Returns:
        float32 [outputs, 2 * block, taps], 1 where that output reaches that input through that tap; the
        number of outputs before the block's own, and after.
    """
    before = max((size // STRIDE - 1) * STRIDE + taps - size, 0) // 2
    earlier = max(0, (taps - 1 - before) // STRIDE)
    later = max(0, (1 + before) // STRIDE)
    table = np.zeros([earlier + block + later, STRIDE * block, taps], np.float32)
    for output in range(table.shape[0]):
        for pixel in range(STRIDE * block):
            tap = pixel + before - STRIDE * (output - earlier)
            if 0 <= tap < taps:
                table[output, pixel, tap] = 1.0
    return table, earlier, later


def _rows(tensor: Any) -> Any:
    return tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]
