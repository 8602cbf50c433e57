"""A run's metrics by step: training solid, held-out data dashed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lehr.figures.axes import BLUE, GREEN, ORANGE, key, plain
from lehr.figures.png import DPI, of_figure

Points = dict[str, tuple[np.ndarray, np.ndarray]]  # by metric's full name: steps and values
PANEL = (4.2, 2.9)  # inches
ACROSS = 2  # panels in a row
BUSY = 150  # points of a curve beyond which its running mean is drawn over it
_FIRST = ("loss", "regulariser", "contrastive_divergence", "real_score", "fake_score", "accuracy")
_TOGETHER = {
    "real_score": "scores",
    "fake_score": "scores",
    "chain_age": "chain ages",
    "chain_age_oldest": "chain ages",
}
_DASHED = (0, (4, 2))
_COLOURS = {"fake_score": ORANGE, "chain_age_oldest": ORANGE, "accuracy": GREEN}


def curves(entries: Iterable[Mapping[str, Any]], *, title: str = "") -> bytes:
    """`diagram` as PNG."""
    return of_figure(diagram(entries, title=title))


def diagram(entries: Iterable[Mapping[str, Any]], *, title: str = "") -> Figure:
    """What the metrics entries of a journal say, one panel a metric.

    `train/<name>` is drawn solid and `validation/<name>` dashed; the scores of real and fake images share a
    panel. Numbers that are not finite leave a gap.

    Args:
        entries: as the journal has them; others than metrics are passed over.
        title: above all.
    """
    entries = [entry for entry in entries if entry.get("type") == "metrics"]
    found = points(entries)
    shown = panels(found)
    down = max(1, math.ceil(len(shown) / ACROSS))
    across = min(ACROSS, max(1, len(shown)))
    figure = Figure(figsize=(PANEL[0] * across, PANEL[1] * down + (0.3 if title else 0.0)), dpi=DPI,
                    layout="constrained", facecolor="white")  # fmt: skip
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color="0.1")
    for number, (name, metrics) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(down, across, number)
        _panel(axes, {metric: found[metric] for metric in metrics})
        lowest = number > len(shown) - across
        plain(axes, title=name.replace("_", " "), x=_steps_label(entries) if lowest else "")
    if not shown:
        figure.text(0.5, 0.5, "no metrics yet", ha="center", va="center", color="0.4")
    return figure


def points(entries: Iterable[Mapping[str, Any]]) -> Points:
    """Curves of `train/` and `validation/` metrics, by name: steps int64 and values float64, [points] each.

    Of several values at one step, the last counts. A metric that was never a number has no curve.
    """
    found: dict[str, dict[int, float]] = {}
    for entry in entries:
        for name, value in entry["values"].items():
            if name.startswith(("train/", "validation/")):
                number = float(value)
                found.setdefault(name, {})[int(entry["step"])] = number if math.isfinite(number) else math.nan
    return {
        name: (np.array(sorted(of), np.int64), np.array([of[step] for step in sorted(of)], np.float64))
        for name, of in found.items()
        if any(map(math.isfinite, of.values()))
    }


def panels(found: Points) -> dict[str, list[str]]:
    """Which curves share a panel, by the panel's name, in order: the best known metrics first."""
    kinds = {name: name.partition("/")[2] for name in found}
    order = sorted(found, key=lambda name: (_rank(kinds[name]), kinds[name], name))
    shown: dict[str, list[str]] = {}
    for name in order:
        shown.setdefault(_TOGETHER.get(kinds[name], kinds[name]), []).append(name)
    return shown


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the numbers among the `width` values around each, float64 [points]; fewer at the ends."""
    window = np.ones(width)
    present = np.isfinite(values)
    counts = np.convolve(present, window, "same")
    sums = np.convolve(np.where(present, values, 0.0), window, "same")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _rank(kind: str) -> int:
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _panel(axes: Any, lines: Points) -> None:
    for name, (steps, values) in lines.items():
        part, _, kind = name.partition("/")
        style: dict[str, Any] = {"color": _COLOURS.get(kind, BLUE), "label": _label(name, lines)}
        if part == "train" and len(values) > BUSY:
            axes.plot(steps, values, color=style["color"], linewidth=0.6, alpha=0.3)
            values = running_mean(values, len(values) // 40)
        elif np.isfinite(values).sum() < 2:
            style |= {"marker": "o", "markersize": 4}
        axes.plot(steps, values, linewidth=1.6, linestyle="-" if part == "train" else _DASHED, **style)
    if len(lines) > 1:
        key(axes)


def _label(name: str, lines: Points) -> str:
    part, _, kind = name.partition("/")
    kinds = {other.partition("/")[2] for other in lines}
    what = "training" if part == "train" else "validation"
    return what if len(kinds) == 1 else f"{kind.removesuffix('_score').replace('_', ' ')}, {what}"


def _steps_label(entries: list[Mapping[str, Any]]) -> str:
    """The x axis: steps, and how many make an epoch when that is known."""
    rates = [entry["step"] / epoch for entry in entries if (epoch := entry["values"].get("epoch", 0))]
    return f"step ({round(rates[-1]):,} an epoch)" if rates and math.isfinite(rates[-1]) else "step"
