"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn: real data, no download.

Test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI repository): 32x32
bitmaps, of which each 4x4 block was counted, so grey levels are 0..16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lehr.data.arrays import Arrays
from lehr.data.pictures import Pictures, pictures

STORED, PEAK = 8, 16
TRAIN = 1500
INK = 20 / 32
"""Share of the enlarged image that the digit takes: that of MNIST's 20-pixel box in 32 pixels."""


def load(node: Any, split: str, *, cache: Path | None = None) -> Arrays:
    """One split: the first 1,500 digits are "train", the last 297 "validation".

    Args:
        node: `data` of the spec. With `image_size` other than 8 the digits are resampled, and when that
            enlarges them they get a margin.
        split: "train" or "validation".
        cache: not used; sources are all called alike.
    """
    from sklearn.datasets import load_digits  # takes a second: only when chosen

    bundle = load_digits()
    rows = {"train": slice(None, TRAIN), "validation": slice(TRAIN, None)}[split]
    limit = {"train": node.train_examples, "validation": node.validation_examples}[split]
    images, labels = bundle.images[rows].astype(np.uint8), bundle.target[rows].astype(np.int64)
    return Arrays(images, labels, _pictures(node)).first(limit)


def _pictures(node: Any) -> Pictures:
    size = node.image_size or STORED
    inner = max(min(STORED, size), INK * size)
    return pictures(node, stored=STORED, peak=PEAK, inner=inner, size=size)
