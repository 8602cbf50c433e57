"""One chain's way from noise to an image (Foster, "Generative Deep Learning", 2nd ed., figure 7-8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lehr.figures.grid import GAP, sheet
from lehr.figures.pixels import SYMMETRIC, Range, shade
from lehr.figures.png import DPI, of_figure

WIDTH = 1060  # of a strip, about, in pixels
FOOT = 26  # pixels under the frames, for their labels
FONT_POINTS = 9.0


def strip(frames: np.ndarray, steps: Sequence[int], value_range: Range = SYMMETRIC) -> bytes:
    """The frames side by side, each with its step under it, as PNG.

    Args:
        frames: float [frames, height, width, channels] of one chain, channels 1 or 3.
        steps: after how many steps each frame is.
        value_range: what is black and what is white.

    Raises:
        ValueError: no frame, not images, or not a step for each.
    """
    if frames.ndim != 4 or len(frames) == 0 or len(frames) != len(steps):
        wanted = "[frames, height, width, channels], and a step each"
        raise ValueError(f"frames {frames.shape} and {len(steps)} steps: not {wanted}")
    row = sheet(shade(frames, value_range), len(frames), target=WIDTH)
    height, width, _ = row.shape
    figure = Figure(figsize=(width / DPI, (height + FOOT) / DPI), dpi=DPI, facecolor="white")
    figure.figimage(row, xo=0, yo=FOOT, origin="upper")  # pixel by pixel: nothing is resampled
    for index, step in enumerate(steps):
        centre = GAP / 2 + (index + 0.5) * (width - GAP) / len(steps)
        label = f"step {step}" if index == 0 else str(step)
        figure.text(centre / width, (FOOT - GAP) / 2 / (height + FOOT), label,
                    ha="center", va="center", fontsize=FONT_POINTS, color="0.2")  # fmt: skip
    return of_figure(figure)
