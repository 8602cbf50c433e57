"""From stored grey images to what a model sees: size, margin and range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """Renders stored images; each by itself, so a batch may be cut anywhere.

    Grey levels 0..peak become low..high, linearly. The image is resampled to `inner` pixels in both
    directions, unless it has them already, and stands in the middle of `size` pixels of level 0.

    Args:
        stored: height and width of a stored image.
        peak: its highest grey level.
        bounds: what levels 0 and `peak` become.
        inner: height and width of the resampled image, in pixels of the result; may be fractional.
        size: height and width of the result.
        quantised: a number of levels: pixels are the whole numbers floor(grey * quantised / 256) of grey
            0..255, and `bounds` are (0, 255).
    """

    stored: int
    peak: int
    bounds: tuple[float, float]
    inner: float
    size: int
    quantised: int | None = None
    _levels: np.ndarray = field(init=False, repr=False, compare=False)
    _axis: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        low, high = self.bounds
        levels = low + (high - low) * np.arange(self.peak + 1) / self.peak
        object.__setattr__(self, "_levels", levels.astype(np.float32))
        object.__setattr__(self, "_axis", resampling(self.stored, inner=self.inner, size=self.size))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [rows, stored, stored] to float32 [rows, size, size, 1] within the bounds."""
        same = self.inner == self.stored
        seen = self._framed(np.take(self._levels, images)) if same else self._resampled(images)
        if self.quantised is not None:
            seen = np.floor(np.rint(seen) * np.float32(self.quantised / 256))
        return seen[..., np.newaxis]

    def _framed(self, seen: np.ndarray) -> np.ndarray:
        if self.size == self.stored:
            return seen
        margin = (self.size - self.stored) // 2
        framed = np.full((len(seen), self.size, self.size), self._levels[0])
        framed[:, margin : margin + self.stored, margin : margin + self.stored] = seen
        return framed

    def _resampled(self, images: np.ndarray) -> np.ndarray:
        low, high = self.bounds
        # A product of its own for each image, so that no row depends on how many rows there are.
        seen = np.matmul(np.matmul(self._axis, images.astype(np.float32)), self._axis.T)
        seen *= np.float32((high - low) / self.peak)
        seen += np.float32(low)
        return np.clip(seen, np.float32(low), np.float32(high), out=seen)


def pictures(node: Any, *, stored: int, peak: int, inner: float, size: int) -> Pictures:
    """Those of the spec's `data`: in its range, or its grey levels."""
    bounds = (0.0, 255.0) if node.levels else tuple(node.range)
    return Pictures(stored, peak, bounds, inner, size, quantised=node.levels)


def resampling(stored: int, *, inner: float, size: int) -> np.ndarray:
    """Weights of cubic resampling along one axis, `stored` pixels to `inner` in the middle of `size`.

    Catmull-Rom's cubic (Keys 1981, "Cubic convolution interpolation for digital image processing",
    a = -1/2) at pixel centres, widened by stored / inner where that shrinks, so that every stored pixel
    counts. Beyond the stored image lies level 0 where the result has a margin; where it has none, nothing
    does, and the weights of the pixels at the border are scaled up to sum to 1.

    Returns:
        float32 [size, stored].
    """
    ratio = stored / inner
    width = max(ratio, 1.0)
    centres = (np.arange(size) + 0.5 - (size - inner) / 2) * ratio - 0.5
    weights = _cubic((centres[:, np.newaxis] - np.arange(stored)) / width)
    sums = width if inner < size else weights.sum(axis=1, keepdims=True)
    return (weights / sums).astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
