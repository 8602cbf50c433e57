"""Many images on one sheet."""

from __future__ import annotations

import math

import numpy as np

from lehr.figures.pixels import PAPER, SYMMETRIC, Range, enlarge, fitting, shade
from lehr.figures.png import of_pixels

WIDTH = 800  # of a sheet, about, in pixels
LARGEST = 96  # a small image is not drawn wider than this
GAP = 4  # pixels between images, and around them


def grid(images: np.ndarray, value_range: Range = SYMMETRIC) -> bytes:
    """All images in reading order, each pixel a square of the same whole size, as PNG.

    Args:
        images: float [count, height, width, channels], channels 1 or 3.
        value_range: what is black and what is white.

    Raises:
        ValueError: no image, or not images.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images {images.shape}: [count, height, width, channels] with one image at least")
    return of_pixels(sheet(shade(images, value_range), columns(len(images))))


def columns(count: int) -> int:
    """How many to put in a row: nearly a square, and no row left unfilled if that can be."""
    square = math.ceil(math.sqrt(count))
    even = (width for width in range(square, min(count, 3 * square // 2) + 1) if count % width == 0)
    return next(even, square)


def sheet(images: np.ndarray, across: int, *, target: int = WIDTH) -> np.ndarray:
    """uint8 [count, height, width, 3] laid out `across` a row, enlarged to about `target` pixels in width:
    uint8 [height, width, 3]."""
    count, height, width, _ = images.shape
    scale = fitting(width, wanted=min(LARGEST, target // across))
    height, width = height * scale + GAP, width * scale + GAP
    pixels = np.full((math.ceil(count / across) * height + GAP, across * width + GAP, 3), PAPER, np.uint8)
    for index, image in enumerate(enlarge(images, scale)):
        top, left = index // across * height + GAP, index % across * width + GAP
        pixels[top : top + height - GAP, left : left + width - GAP] = image
    return pixels
