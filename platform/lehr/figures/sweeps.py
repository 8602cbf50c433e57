"""A sweep in diagrams: how the best was found, what parameters do, which matter, what was copied from what.

history(trials)                 each trial's best value by number, and the best so far
parallel(trials, axes)          one line a trial through all its parameters, the good ones dark
slices(trials, axes)            the value against each parameter alone
importance(shares)              how much each parameter matters
lineage(stretches, ...)         population-based training: who went on from whose state

They are figures yet; `lehr.figures.png.of_figure` makes PNG of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from lehr.figures.axes import BLUE, NORMAL, ORANGE, SMALL, key, plain
from lehr.figures.png import DPI

RED, GREY = "#b5443a", "0.6"
SPREAD = 50.0  # of positive values, from which their axis is logarithmic
FAR = 3.0  # quartile distances beyond which a bad value is drawn at the edge
PANEL = (3.3, 2.7)  # inches, of a slice
ACROSS = 3
DECADES = 307  # to either side of 1, that a float has with all its digits
MOST_LABELS = 40  # lanes of a lineage with a label each


@dataclass(frozen=True)
class Trials:
    """The trials of a sweep, in order of their numbers.

    Args:
        metric: what is compared.
        mode: "min" or "max".
        numbers: int [trials].
        values: float [trials], the best of each; NaN where there is none.
        diverged: bool [trials].
    """

    metric: str
    mode: str
    numbers: np.ndarray
    values: np.ndarray
    diverged: np.ndarray

    @property
    def shown(self) -> np.ndarray:
        """Those with a value."""
        return np.isfinite(self.values) & ~self.diverged

    @property
    def best(self) -> int | None:
        """The place of the best; None where there is none."""
        if not self.shown.any():
            return None
        signed = np.where(self.shown, self.values if self.mode == "min" else -self.values, np.inf)
        return int(np.argmin(signed))

    def ranks(self) -> np.ndarray:
        """Float [trials] from 0, the worst, to 1, the best; NaN where there is no value."""
        found = np.full(len(self.values), np.nan)
        places = np.flatnonzero(self.shown)
        signed = self.values[places] * (-1 if self.mode == "min" else 1)
        found[places[np.argsort(signed, kind="stable")]] = np.linspace(0, 1, len(places)) if len(
            places) > 1 else 1.0  # fmt: skip
        return found


@dataclass(frozen=True)
class Axis:
    """One searched key.

    Args:
        name: its path.
        values: float [trials]; places in `choices` if there are; NaN where it did not vary.
        log: whether its range is logarithmic.
        choices: the texts of what could be chosen.
        bounds: of its range, drawn from below to above; of choices not asked.
        whole: whether it takes whole numbers alone.
    """

    name: str
    values: np.ndarray
    log: bool = False
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    whole: bool = False

    def places(self) -> np.ndarray:
        """Float [trials] from 0 to 1, where each value lies on its range."""
        if self.choices:
            return (self.values + 0.5) / len(self.choices)
        low, high = (self._scaled(np.array([end]))[0] for end in self.bounds)
        return (self._scaled(self.values) - low) / ((high - low) or 1.0)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        return np.log(values) if self.log else np.asarray(values, np.float64)

    def marks(self) -> list[tuple[float, str]]:
        """Where texts stand beside the axis, from 0 to 1, and which."""
        if self.choices:
            return [((place + 0.5) / len(self.choices), text) for place, text in enumerate(self.choices)]
        low, high = self.bounds
        middle = math.sqrt(low) * math.sqrt(high) if self.log else (low + high) / 2
        marks = [(0.0, low), (0.5, middle), (1.0, high)]
        return [(at, f"{mark:.3g}") for at, mark in marks if not self.whole or mark == int(mark)]


@dataclass(frozen=True)
class Stretch:
    """One segment of a trial.

    Args:
        trial: its number.
        begin: the step with which it began.
        end: the step that it reached.
        value: the last reported; NaN where there is none.
        source: the trial whose state it began with; None: from the seed, or its own.
        diverged: whether it ended so.
    """

    trial: int
    begin: int
    end: int
    value: float
    source: int | None = None
    diverged: bool = False


def history(trials: Trials) -> Figure:
    """Each trial's best value by its number, and the best so far as a line."""
    figure = Figure(figsize=(7.0, 3.6), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    shown, better = trials.shown, np.minimum if trials.mode == "min" else np.maximum
    edge = _value_axis(axes, trials)
    _points(axes, trials, trials.numbers, np.full(len(shown), BLUE), edge)
    if shown.any():
        numbers = np.append(trials.numbers[shown], trials.numbers.max())
        so_far = better.accumulate(trials.values[shown])
        axes.step(numbers, np.append(so_far, so_far[-1]), where="post", color=ORANGE, linewidth=1.8,
                  label="best so far")  # fmt: skip
        key(axes, loc="lower right", bbox_to_anchor=(1.0, 1.03), ncols=3, borderaxespad=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(axes, title="how the best was found", x="trial", y=_metric(trials))
    return figure


def slices(trials: Trials, axes: Sequence[Axis]) -> Figure:
    """The value against each parameter alone, one panel each; later trials are darker.."""
    across = min(ACROSS, max(1, len(axes)))
    down = max(1, math.ceil(len(axes) / across))
    figure = Figure(figsize=(PANEL[0] * across + 0.4, PANEL[1] * down + 0.3), dpi=DPI, layout="constrained",
                    facecolor="white")  # fmt: skip
    ages = np.linspace(0.25, 0.95, len(trials.numbers)) if len(trials.numbers) > 1 else np.array([0.95])
    colours = np.array([matplotlib.colors.to_hex(matplotlib.colormaps["Blues"](age)) for age in ages])
    for number, axis in enumerate(axes, start=1):
        panel = figure.add_subplot(down, across, number)
        _points(panel, trials, axis.values, colours, _value_axis(panel, trials))
        _parameter_axis(panel, axis)
        plain(panel, title=axis.name)
    figure.supylabel(_metric(trials).replace(" (", "\n("), fontsize=SMALL, color="0.3")
    figure.suptitle("the value against each parameter; the later the trial, the darker" + _crosses(trials),
                    x=0.01, ha="left", fontsize=NORMAL, color="0.15")  # fmt: skip
    return figure


def parallel(trials: Trials, axes: Sequence[Axis]) -> Figure:
    """One line a trial through all its parameters to its value; the better, the darker.."""
    names = [*(axis.name for axis in axes), _metric(trials)]
    width = max(6.0, 1.75 * len(names))
    figure = Figure(figsize=(width, 4.0), dpi=DPI, layout="constrained", facecolor="white")
    panel = figure.add_subplot()
    value = _value_as_axis(trials)
    lines = np.stack([axis.places() for axis in (*axes, value)], axis=1)
    lines[trials.diverged, -1] = 0.0
    ranks, across = trials.ranks(), np.arange(len(names))
    for place in np.argsort(np.nan_to_num(ranks, nan=-1.0)):  # the best on top
        if trials.shown[place] or trials.diverged[place]:
            _line(panel, across, lines[place], ranks[place], best=bool(place == trials.best))
    for place, axis in enumerate((*axes, value)):
        _upright(panel, place, axis)
    panel.set_xticks(across, [_folded(name) for name in names], fontsize=SMALL, color="0.15")
    panel.set_xlim(-0.25, len(names) - 0.35)
    panel.set_ylim(-0.06, 1.06)
    panel.set_yticks([])
    panel.tick_params(length=0, pad=8)
    for side in panel.spines.values():
        side.set_visible(False)
    told = "each line a trial; the better, the darker; orange: the best"
    panel.set_title(f"{told}{'; red: diverged' if trials.diverged.any() else ''}", loc="left",
                    fontsize=NORMAL, color="0.15", pad=12)  # fmt: skip
    return figure


def importance(shares: Mapping[str, float]) -> Figure:
    """A bar a parameter, the one that matters most on top."""
    ordered = sorted(shares.items(), key=lambda each: each[1])
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(ordered)), dpi=DPI, layout="constrained",
                    facecolor="white")  # fmt: skip
    axes = figure.add_subplot()
    names, values = [name for name, _ in ordered], [100 * share for _, share in ordered]
    axes.barh(names, values, color=BLUE, height=0.62)
    for place, value in enumerate(values):
        axes.text(value + 1, place, f"{value:.0f} %", va="center", fontsize=SMALL, color="0.3")
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    plain(axes, title="how much each parameter matters", x="share of the variance of the trials' ranks, %")
    axes.grid(visible=False, axis="y")
    return figure


def lineage(stretches: Sequence[Stretch], *, metric: str, mode: str) -> Figure:
    """A lane a trial: its segments by step, the better the darker, with arrows where one was copied.

    Args:
        stretches: of all trials, each trial's in order.
        metric: what is compared.
        mode: "min" or "max".
    """
    lanes = sorted({each.trial for each in stretches})
    height = 1.1 + min(0.34, 14 / max(1, len(lanes))) * len(lanes)
    figure = Figure(figsize=(8.0, height), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    values = np.array([each.value for each in stretches], np.float64)
    diverged = np.array([each.diverged for each in stretches], bool)
    ranks = Trials(metric, mode, np.arange(len(values)), values, diverged).ranks()
    for each, rank in zip(stretches, ranks, strict=True):
        colour = RED if each.diverged else _shade(rank)
        axes.plot([each.begin, max(each.end, each.begin)], [each.trial] * 2, color=colour, linewidth=4.5,
                  solid_capstyle="butt")  # fmt: skip
        if each.diverged:
            axes.plot([each.end], [each.trial], marker="x", color=RED, markersize=6)
        if each.source is not None:
            _arrow(axes, each)
    axes.set_ylim(max(lanes, default=1) + 0.7, min(lanes, default=1) - 0.7)
    if len(lanes) <= MOST_LABELS:
        axes.set_yticks(lanes)
    note = "red: diverged; " if diverged.any() else ""
    plain(axes, title=f"who went on from whose state ({note}the darker, the better {metric})", x="step",
          y="trial")  # fmt: skip
    axes.grid(visible=False, axis="y")
    return figure


def _arrow(axes: Any, each: Stretch) -> None:
    """From the source's lane to the copy's, at the step that was copied."""
    style = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.1, "shrinkA": 2, "shrinkB": 2,
             "connectionstyle": "arc3,rad=0.12", "mutation_scale": 9}  # fmt: skip
    axes.annotate("", xy=(each.begin, each.trial), xytext=(each.begin, each.source), arrowprops=style)


def _shade(rank: float) -> Any:
    """The colour of a rank: the better the darker; grey without one."""
    return GREY if not math.isfinite(rank) else matplotlib.colormaps["Blues"](0.2 + 0.75 * rank)


def _metric(trials: Trials) -> str:
    return f"{trials.metric} ({'less' if trials.mode == 'min' else 'more'} is better)"


def window(values: np.ndarray, mode: str) -> tuple[float, float]:
    """What part of the values' axis is shown: all of it, but for bad values far from the rest."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    quarter, three = np.quantile(finite, [0.25, 0.75])
    far = FAR * (three - quarter)
    if mode == "min" and far > 0:
        high = min(high, float(three + far))
    elif mode == "max" and far > 0:
        low = max(low, float(quarter - far))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _crosses(trials: Trials) -> str:
    return "; crosses: diverged" if trials.diverged.any() else ""


def _is_log(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite) > 2 and finite.min() > 0 and finite.max() > SPREAD * finite.min())


def _around(low: float, high: float, share: float) -> tuple[float, float]:
    """Bounds of a logarithmic axis with a rim of so much of it; no farther than a float reaches."""
    low, high = math.log10(low), math.log10(high)
    rim = share * (high - low)
    return 10.0 ** max(low - rim, -DECADES), 10.0 ** min(high + rim, DECADES)


def _value_axis(axes: Any, trials: Trials) -> float:
    """Set the y axis for the values; where what lies beyond its bad end is drawn."""
    values = trials.values[trials.shown]
    if _is_log(values):
        axes.set_yscale("log")
        bounds = _around(float(values.min()), float(values.max()), 0.08)
    else:
        low, high = window(values, trials.mode)
        rim = 0.08 * (high - low)
        bounds = low - rim, high + rim
    axes.set_ylim(*bounds)
    return float(bounds[1] if trials.mode == "min" else bounds[0])


def _points(axes: Any, trials: Trials, x: np.ndarray, colours: np.ndarray, edge: float) -> None:
    """A point a trial; at the edge, as a triangle, what lies beyond it, and as a cross what diverged."""
    shown, best = trials.shown, trials.best
    beyond = shown & (trials.values > edge if trials.mode == "min" else trials.values < edge)
    inside, marker = shown & ~beyond, "^" if trials.mode == "min" else "v"
    axes.scatter(x[inside], trials.values[inside], c=list(colours[inside]), s=20, linewidths=0, zorder=3)
    for mask, shape, colour in ((beyond, marker, GREY), (trials.diverged, "x", RED)):
        label = "diverged" if shape == "x" else "worse than shown"
        if mask.any():
            axes.scatter(x[mask], np.full(mask.sum(), edge), c=colour, marker=shape, s=26, clip_on=False,
                         zorder=4, label=label)  # fmt: skip
    if best is not None:
        axes.scatter(x[best : best + 1], trials.values[best : best + 1], facecolors="none", edgecolors=ORANGE,
                     s=70, linewidths=1.6, zorder=5)  # fmt: skip


def _parameter_axis(panel: Any, axis: Axis) -> None:
    if axis.choices:
        panel.set_xlim(-0.5, len(axis.choices) - 0.5)
        panel.set_xticks(range(len(axis.choices)), axis.choices, fontsize=SMALL,
                         rotation=25 if sum(map(len, axis.choices)) > 24 else 0)  # fmt: skip
        return
    low, high = axis.bounds
    if axis.log:
        panel.set_xscale("log")
        decades = math.log10(high) - math.log10(low)
        subs: Any = (1.0,) if decades > 1.6 else (1.0, 2.0, 5.0) if decades > 0.9 else range(1, 10)
        panel.xaxis.set_major_locator(LogLocator(subs=subs))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlim(*_around(low, high, 0.04))
    else:
        rim = 0.04 * (high - low)
        panel.set_xlim(low - rim, high + rim)
        panel.xaxis.set_major_locator(MaxNLocator(7, integer=axis.whole))


def _value_as_axis(trials: Trials) -> Axis:
    """The value as the last of parallel axes, its good end on top; what is beyond the bad end is at it."""
    values, is_log = trials.values, _is_log(trials.values[trials.shown])
    finite = values[trials.shown]
    low, high = (float(finite.min()), float(finite.max())) if is_log else window(finite, trials.mode)
    bounds = (high, low) if trials.mode == "min" else (low, high)
    clipped = np.clip(np.where(trials.shown, values, np.nan), low, high)
    return Axis("", clipped, is_log, (), bounds)


def _line(panel: Any, across: np.ndarray, line: np.ndarray, rank: float, *, best: bool) -> None:
    known = np.isfinite(line)  # a key that did not vary is passed by
    style: dict[str, Any] = {"color": _shade(rank), "linewidth": 1.0, "alpha": 0.85}
    if not math.isfinite(rank):
        style = {"color": RED, "linewidth": 0.9, "alpha": 0.55, "linestyle": (0, (3, 3))}
    if best:
        style = {"color": ORANGE, "linewidth": 2.4, "zorder": 5}
    panel.plot(across[known], line[known], **style)


def _upright(panel: Any, place: int, axis: Axis) -> None:
    panel.axvline(place, color="0.75", linewidth=1.0, zorder=0, ymin=0.05, ymax=0.95)
    for at, text in axis.marks():
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
        panel.text(place + 0.03, at, text, fontsize=SMALL - 0.5, color="0.2", va="center", bbox=box, zorder=6)


def _folded(name: str) -> str:
    """A path over several lines, so that neighbours do not meet."""
    return name.replace(" (", "\n(").replace(".", ".\n", 1) if len(name) > 18 else name
