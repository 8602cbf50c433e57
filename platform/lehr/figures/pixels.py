"""Images as the pixels of a screen: numbers to colours, small pictures to large ones."""

from __future__ import annotations

import numpy as np

Range = tuple[float, float]
SYMMETRIC: Range = (-1.0, 1.0)
PAPER = 255  # grey level of what lies between images
NOT_A_NUMBER = (220, 30, 30)  # a pixel that is no number must not pass for a dark one


def shade(images: np.ndarray, value_range: Range = SYMMETRIC) -> np.ndarray:
    """Colours of images: uint8 [..., height, width, 3].

    Args:
        images: float [..., height, width, channels], 1 channel (grey) or 3 (red, green, blue).
        value_range: what is black and what is white; beyond it colours saturate.

    Raises:
        ValueError: another number of channels, or an empty range.
    """
    low, high = value_range
    if images.shape[-1] not in (1, 3) or not low < high:
        raise ValueError(f"images {images.shape} over {value_range}: 1 or 3 channels, a rising range")
    images = np.asarray(images, np.float64)
    broken = np.isnan(images).any(axis=-1)
    levels = np.clip((np.nan_to_num(images, nan=low) - low) / (high - low), 0.0, 1.0)
    colours = np.broadcast_to(np.rint(levels * 255), (*images.shape[:-1], 3)).astype(np.uint8)
    colours[broken] = NOT_A_NUMBER
    return colours


def enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel of uint8 [..., height, width, 3] as a square of `scale` x `scale`."""
    return pixels.repeat(scale, axis=-3).repeat(scale, axis=-2)


def fitting(width: int, *, wanted: int) -> int:
    """The whole factor that brings `width` pixels to about `wanted`, and never beyond if that can be."""
    return max(1, wanted // width)
