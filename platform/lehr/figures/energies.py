"""How the energy falls along chains."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lehr.figures.axes import BLUE, key, plain
from lehr.figures.png import DPI, of_figure

SHOWN = 8  # chains drawn one by one
SIZE = (7.0, 3.6)  # inches


def energies(values: np.ndarray) -> bytes:
    """The energy of chains by step: their median, where 80 % of them lie, and the first few, as PNG.

    Args:
        values: float [steps, chains]; not a number is left out.

    Raises:
        ValueError: no step or no chain.
    """
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"energies {values.shape}: [steps, chains], one of each at least")
    values = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    steps = np.arange(1, len(values) + 1)
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.plot(steps, values[:, :SHOWN], color=BLUE, linewidth=0.5, alpha=0.35)
    if not np.isnan(values).all():
        low, middle, high = (_over_chains(values, share) for share in (0.1, 0.5, 0.9))
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.15, linewidth=0, label="80 % of them")
        axes.plot(steps, middle, color=BLUE, linewidth=1.8, label=f"median of {values.shape[1]} chains")
        key(axes)
    if len(steps) > 10:
        axes.set_xscale("log")  # most happens in the first steps
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(1, max(2, len(steps)))
    plain(axes, title="energy along the chains", x="Langevin step", y="E(x)")
    return of_figure(figure)


def _over_chains(values: np.ndarray, share: float) -> np.ndarray:
    """A quantile at each step [steps]; NaN where no chain has a number."""
    present = ~np.isnan(values).all(axis=1)
    found = np.full(len(values), np.nan)
    found[present] = np.nanquantile(values[present], share, axis=1)
    return found
