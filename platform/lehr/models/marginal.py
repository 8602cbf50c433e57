"""The simplest model of images in whole levels: every pixel by itself. What others are measured against."""

from __future__ import annotations

import numpy as np


def bits_per_dimension(
    train: np.ndarray, held_out: np.ndarray, *, levels: int, smoothing: float = 1.0
) -> float:
    """Bits a pixel of held-out images under independent pixels, each with the levels' shares in training.

    p(x) is the product over pixels of (n(pixel, level) + smoothing) / (examples + levels * smoothing), where
    n counts training images. What a model is better than this is what it knows of how pixels hang together.

    Args:
        train: [examples, ...] of whole levels 0 to levels - 1.
        held_out: [examples, ...], of the same shape after the first axis.
        levels: how many there are.
        smoothing: added to each count (Laplace's rule of succession at 1): no level has probability 0.
    """
    seen, asked = (images.reshape(len(images), -1).astype(np.int64) for images in (train, held_out))
    counts = np.stack([(seen == level).sum(axis=0) for level in range(levels)]) + smoothing
    log_p = np.log2(counts / counts.sum(axis=0))
    return -float(log_p[asked, np.arange(asked.shape[1])].mean())
