"""Images drawn pixel by pixel, in raster order, by one compiled program that computes each thing once.

An autoregressive model says of each pixel how it is distributed, given those before it. The textbook's loop
asks the whole network again for every pixel. But what a layer said at a place never changes once the pixels
before it are there, so a scan asks each layer for one place a pixel, and keeps what later places will read:
of the row at hand what lies to the left, and of finished rows what the next ones see, which is worked out for
a whole row at once.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from lehr.dynamics.noise import Noise
from lehr.seeds import Purpose

GROUP = 16
"""Images that are drawn side by side. The program always has as many rows, so that no rounding of a product
depends on how many were asked for, and sample i is the same among any number."""

Nest = Any
"""A tensor, or a list or tuple of nests."""


class Scan(Protocol):
    """A model taken apart for a scan. Made inside of the program, outside of its loops: what a kernel must
    become for the scan is prepared there, once.

    `count` is the number of images side by side. A pixel's activations may depend on nothing but the pixels
    before it, its own value excluded, as the first layer of a causal network sees to.
    """

    shape: tuple[int, int, int]
    """Of one image, [height, width, channels]."""

    chances: int
    """Uniform numbers that it takes to draw one pixel."""

    def above(self, count: int) -> Nest:
        """What is known of the rows above the first one."""
        ...

    def row(self, above: Nest) -> Nest:
        """What the rows above say to each pixel of the next: tensors [width, count, ...]."""
        ...

    def left(self, count: int) -> Nest:
        """What is known of the pixels to the left of a row's first one: tensors [count, ...]."""
        ...

    def pixel(self, context: Nest, left: Nest) -> tuple[Any, Any]:
        """What the network computes at one pixel.

        Args:
            context: `row` at this column: tensors [count, ...].
            left: what is known of the pixels to the left.

        Returns:
            The parameters of the pixel's distribution, and what is kept of it for the pixels to come: both
            float32 [count, ...].
        """
        ...

    def draw(self, parameters: Any, chances: Any, temperature: Any) -> Any:
        """The pixel's value: float32 [count, channels].

        Args:
            parameters: of its distribution, as `pixel` gives them.
            chances: uniform in [0, 1), float32 [count, `chances`].
            temperature: float32 scalar; 0 is the likeliest value.
        """
        ...

    def moved(self, left: Nest, kept: Any, value: Any) -> Nest:
        """`left` of the next pixel, now that this one has its value."""
        ...

    def finished(self, above: Nest, kept: Any, values: Any) -> Nest:
        """`above` of the next row: `kept` [width, count, ...] and `values` [width, count, channels] are of
        the row that was just finished."""
        ...


class Raster:
    """Draws images from a model that can be scanned.

    Sample i depends on the seed, on i and on the weights alone: not on the training step, nor on how many are
    drawn at once.

    Args:
        model: its `scan()` gives a `Scan`; its weights are read at each draw.
        seed: of the samples.
        xla: compile with XLA.
    """

    def __init__(self, model: Any, *, seed: int, xla: bool = False) -> None:
        self._model, self._noise = model, Noise(seed, Purpose.DRAW)
        self._program = tf.function(self._group, autograph=False, jit_compile=xla)

    def draw(self, count: int, *, temperature: float = 1.0, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Samples `first` to `first` + `count`.

        Args:
            count: how many.
            temperature: below 1 likely values become likelier; 0 takes the likeliest.
            first: number of the first.

        Returns:
            Images float32 [count, height, width, channels], in the values that the model was trained on; and
            the parameters of each pixel's distribution as the scan had them, [count, height, width, ...].
        """
        starts = range(first, first + count, GROUP)
        heat = tf.constant(temperature, tf.float32)
        drawn = [self._program(tf.constant(start, tf.int64), heat) for start in starts]
        images, parameters = (np.concatenate(parts)[:count] for parts in zip(*drawn, strict=True))
        return images, parameters

    def _group(self, first: Any, temperature: Any) -> tuple[Any, Any]:
        """Images and parameters of samples `first` to `first` + `GROUP`."""
        scan: Scan = self._model.scan()
        height, width, _ = scan.shape
        shape = (GROUP, height, width, scan.chances)
        chances = 0.5 * (self._noise.uniform(shape, step=0, k=0, first=first) + 1.0)
        chances = tf.transpose(chances, [1, 2, 0, 3])

        def body(row: Any, above: Nest, images: Any, parameters: Any) -> tuple[Any, ...]:
            values, told, kept = _row(scan, above, chances[row], temperature)
            above = scan.finished(above, kept, values)
            return row + 1, above, images.write(row, values), parameters.write(row, told)

        start = (0, scan.above(GROUP), _array(height), _array(height))
        _, _, images, parameters = _loop(height, body, start)
        return _samples_first(images.stack()), _samples_first(parameters.stack())


def _row(scan: Scan, above: Nest, chances: Any, temperature: Any) -> tuple[Any, Any, Any]:
    """One row, pixel by pixel: values, parameters and what is kept of each, [width, count, ...]."""
    width = scan.shape[1]
    contexts = scan.row(above)

    def body(column: Any, left: Nest, *arrays: Any) -> tuple[Any, ...]:
        context = tf.nest.map_structure(lambda tensor: tensor[column], contexts)
        parameters, kept = scan.pixel(context, left)
        value = scan.draw(parameters, chances[column], temperature)
        made = zip(arrays, (value, parameters, kept), strict=True)
        arrays = tuple(array.write(column, tensor) for array, tensor in made)
        return column + 1, scan.moved(left, kept, value), *arrays

    start = (0, scan.left(GROUP), _array(width), _array(width), _array(width))
    _, _, *arrays = _loop(width, body, start)
    values, parameters, kept = (array.stack() for array in arrays)
    return values, parameters, kept


def _array(size: int) -> Any:
    return tf.TensorArray(tf.float32, size=size)


def _loop(end: int, body: Any, start: Any) -> Any:
    # One turn at a time: each needs the last one's pixel.
    return tf.while_loop(lambda index, *_: index < end, body, start, parallel_iterations=1)


def _samples_first(tensor: Any) -> Any:
    """[height, width, count, ...] to [count, height, width, ...]."""
    return tf.transpose(tensor, [2, 0, 1, *range(3, len(tensor.shape))])
