"""Features of images: what our LeNet makes of them before it decides.

Heusel et al. (2017) and Binkowski et al. (2018) take a layer of the Inception network, trained on ImageNet.
On grey digits and clothes that has little to say, and its weights would have to be fetched: here a LeNet that
was trained on the same data stands in, and every number names it. So numbers can be compared with each other,
not with those of papers.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

LAYER = "dense_2"
DIMENSION = 84
BLOCK = 512  # images at once


class Features:
    """The last hidden layer of a LeNet.

    Args:
        lenet: built, with its trained weights.
        bounds: what black and white were in its training.
    """

    def __init__(self, lenet: Any, bounds: tuple[float, float]) -> None:
        network = keras.Model(lenet.inputs, lenet.get_layer(LAYER).output)
        self._bounds, self._shape = bounds, tuple(lenet.inputs[0].shape[1:])
        self._program = tf.function(lambda images: network(images, training=False), autograph=False)

    def __call__(self, images: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
        """Of images [n, height, width, channels], in which black and white are `bounds`: float32 [n, 84]."""
        (low, high), (to_low, to_high) = bounds, self._bounds
        grey = (images.astype(np.float32) - low) / (high - low)
        wanted = (to_low + (to_high - to_low) * np.clip(grey, 0.0, 1.0)).astype(np.float32)
        parts = [self._block(wanted[start : start + BLOCK]) for start in range(0, len(wanted), BLOCK)]
        return np.concatenate(parts) if parts else np.zeros((0, DIMENSION), np.float32)

    def _block(self, images: np.ndarray) -> np.ndarray:
        """Always of BLOCK images: one program, and no sum that depends on how many there are."""
        padded = np.zeros((BLOCK, *self._shape), np.float32)
        padded[: len(images)] = images
        found: np.ndarray = np.asarray(self._program(tf.constant(padded)), np.float32)[: len(images)]
        return found
