"""Points of the plane: what a model was fitted to, where it puts its samples, and what it can reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lehr.figures.axes import BLUE, NORMAL, ORANGE, SMALL, key
from lehr.figures.png import DPI, of_figure

SIZE = (10.0, 6.1)  # inches
GROUND, RED = "#dfe3d4", "#c0392b"
MARGIN = 0.02  # around the map


@dataclass(frozen=True)
class Map:
    """What is drawn.

    Args:
        data: points that the model was fitted to, float [count, 2].
        samples: of the model, float [count, 2].
        real: which samples are where data can be: bool [count].
        ground: where data can be, bool [rows, columns] over [-1, 1] x [-1, 1], top row first; None: not
        known.
        reached: where the model's density counts, bool [rows, columns] in the same way; None: not drawn.
        edges: of a rectangle that the model is: left, right, lower, upper; drawn in place of `reached`.
        marks: single points by their letter.
        title: above it.
        notes: below it, a line each.
    """

    data: np.ndarray
    samples: np.ndarray
    real: np.ndarray
    ground: np.ndarray | None = None
    reached: np.ndarray | None = None
    edges: Sequence[float] | None = None
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)
    title: str = ""
    notes: Sequence[str] = ()


def points(shown: Map) -> bytes:
    """The map as PNG: ground, data, samples, the edge of what the model reaches, and marks."""
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    if shown.ground is not None:
        _ground(axes, shown.ground)
    for mask, colour, what in ((shown.real, BLUE, "samples"), (~shown.real, RED, "samples in the sea")):
        place = shown.samples[mask]
        if len(place):
            label = f"{what if shown.ground is not None else 'samples'} ({len(place)})"
            axes.scatter(place[:, 0], place[:, 1], s=11, c=colour, alpha=0.6, linewidths=0, label=label)
    axes.scatter(shown.data[:, 0], shown.data[:, 1], s=13, c="0.1", marker="+", linewidths=0.8,
                 label=f"data ({len(shown.data)})")  # fmt: skip
    _reach(axes, shown)
    for letter, place in shown.marks.items():
        _mark(axes, letter, place)
    _frame(axes, shown)
    return of_figure(figure)


def _ground(axes: Axes, ground: np.ndarray) -> None:
    pixels = np.ones((*ground.shape, 4))
    pixels[ground] = [*(int(GROUND[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0]
    axes.imshow(pixels, extent=(-1.0, 1.0, -1.0, 1.0), interpolation="nearest", aspect="auto", zorder=0)


def _reach(axes: Axes, shown: Map) -> None:
    """The edge of what the model reaches."""
    if shown.edges is not None:
        left, right, lower, upper = shown.edges
        axes.add_patch(Rectangle((left, lower), right - left, upper - lower, fill=False, edgecolor=ORANGE,
                                 linewidth=1.8, label="the model's rectangle"))  # fmt: skip
    elif shown.reached is not None and shown.reached.any() and not shown.reached.all():
        rows, columns = shown.reached.shape
        x = (np.arange(columns) + 0.5) * 2.0 / columns - 1.0
        y = 1.0 - (np.arange(rows) + 0.5) * 2.0 / rows
        axes.contour(x, y, shown.reached.astype(float), levels=[0.5], colors=ORANGE, linewidths=1.5)
        axes.plot([], [], color=ORANGE, linewidth=1.5, label="edge of what it covers")


def _mark(axes: Axes, letter: str, place: Sequence[float]) -> None:
    """A ring around the place, and its letter beside it, towards the middle of the map."""
    x, y = place
    axes.scatter([x], [y], s=70, facecolors="none", edgecolors="0.1", linewidths=1.4, zorder=6)
    box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "0.1", "linewidth": 1.2}
    axes.annotate(letter, (x, y), xytext=(-19 if x > 0 else 19, 0), textcoords="offset points", ha="center",
                  va="center", fontsize=NORMAL, fontweight="bold", color="0.1", bbox=box,
                  zorder=7)  # fmt: skip


def _frame(axes: Axes, shown: Map) -> None:
    axes.set_xlim(-1.0 - MARGIN, 1.0 + MARGIN)
    axes.set_ylim(-1.0 - MARGIN, 1.0 + MARGIN)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("0.8")
    axes.set_title(shown.title, loc="left", fontsize=NORMAL + 1, color="0.15")
    axes.set_xlabel("\n".join(shown.notes), loc="left", fontsize=SMALL + 0.5, color="0.3", linespacing=1.5)
    key(axes, loc="lower left", borderaxespad=0.8)
