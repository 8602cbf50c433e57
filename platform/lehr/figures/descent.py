"""A Langevin path on a 2-D energy surface (Foster, "Generative Deep Learning", 2nd ed., figure 7-4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lehr.figures.axes import ORANGE, SMALL, key, plain
from lehr.figures.pixels import SYMMETRIC, Range
from lehr.figures.png import DPI, of_figure

SIZE = (5.6, 4.6)  # inches
LEVELS = 24


def descent(
    surface: np.ndarray, path: np.ndarray, *, x: Range = SYMMETRIC, y: Range = SYMMETRIC, title: str = ""
) -> bytes:
    """`diagram` as PNG."""
    return of_figure(diagram(surface, path, x=x, y=y, title=title))


def diagram(
    surface: np.ndarray, path: np.ndarray, *, x: Range = SYMMETRIC, y: Range = SYMMETRIC, title: str = ""
) -> Figure:
    """Contours of the energy, dark where it is low, and over them the path of one chain: early steps thin and
    pale, late ones strong.

    Args:
        surface: E(x, y), float [rows, columns]; row 0 is at the lower end of y, column 0 at that of x.
        path: float [steps + 1, 2], x and y of the chain, its start first.
        x: from the first column to the last.
        y: from the first row to the last.
        title: above all.

    Raises:
        ValueError: no surface, or no path in two dimensions.
    """
    if surface.ndim != 2 or min(surface.shape) < 2 or path.ndim != 2 or path.shape[1] != 2 or not len(path):
        wanted = "[rows, columns] from 2 by 2 and [steps + 1, 2] from one point"
        raise ValueError(f"surface {surface.shape} and path {path.shape}: not {wanted}")
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    across, up = np.linspace(*x, surface.shape[1]), np.linspace(*y, surface.shape[0])
    seen = np.ma.masked_invalid(surface.astype(np.float64))
    if seen.count() and np.ptp(seen.compressed()) > 0:
        ground = axes.contourf(across, up, seen, levels=LEVELS, cmap="Blues_r")
        axes.contour(across, up, seen, levels=LEVELS, colors="white", linewidths=0.3, alpha=0.5)
        bar = figure.colorbar(ground, ax=axes, shrink=0.9, format="%.3g")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=SMALL, colors="0.3", length=0)
        bar.set_label("E(x)", fontsize=SMALL, color="0.3")
    steps = np.linspace(0.0, 1.0, max(1, len(path) - 1))
    axes.add_collection(
        LineCollection(
            list(np.stack([path[:-1], path[1:]], axis=1)),
            colors=[(0.98, 0.55, 0.1, 0.55 + 0.45 * share) for share in steps[: len(path) - 1]],
            linewidths=0.6 + 0.9 * steps[: len(path) - 1],
            capstyle="round",
        )
    )
    dot: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "0.15", "markersize": 7}
    axes.plot(*path[:1].T, color="white", label="start", **dot)
    axes.plot(*path[-1:].T, color=ORANGE, label=f"{len(path) - 1:,} steps", **dot)
    plain(axes, title=title or "a chain on its energy")
    axes.grid(visible=False)
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_aspect("auto")
    key(axes, loc="lower left", bbox_to_anchor=(0.0, -0.16), ncols=2)
    return figure
