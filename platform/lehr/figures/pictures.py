"""The pictures of one set of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lehr.figures.energies import energies as energies_figure
from lehr.figures.grid import grid
from lehr.figures.pixels import SYMMETRIC, Range
from lehr.figures.strip import strip


def pictures(
    images: np.ndarray, frames: np.ndarray, frame_steps: Sequence[int], energies: np.ndarray,
    value_range: Range = SYMMETRIC,
) -> dict[str, bytes]:  # fmt: skip
    """PNG bytes by name: `grid` of all images, `strip` of the first chain, `energy` along all chains.

    Args:
        images: the chains' ends, float [count, height, width, channels], channels 1 or 3.
        frames: along each chain, float [frames, count, height, width, channels].
        frame_steps: after how many steps each frame is, rising.
        energies: at each step, float [steps, count].
        value_range: what is black and what is white.
    """
    shown = _apart(frame_steps)
    steps = [frame_steps[index] for index in shown]
    drawn = {"grid": grid(images, value_range), "strip": strip(frames[shown, 0], steps, value_range)}
    return drawn | ({"energy": energies_figure(energies)} if len(energies) else {})


def _apart(steps: Sequence[int]) -> list[int]:
    """Indices of the frames to show: not a last one that is hardly later than the one before (999, 1000)."""
    indices = list(range(len(steps)))
    return indices[:-1] if len(steps) > 2 and steps[-1] < 1.05 * steps[-2] else indices
