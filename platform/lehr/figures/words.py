"""Which words may come next, at several temperatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lehr.figures.axes import BLUE, SMALL, plain
from lehr.figures.png import DPI, of_figure

PANEL = (3.6, 2.4)  # inches
_LONGEST = 60  # letters of a prompt that fit above

Likely = Sequence[tuple[str, float]]  # words and their probabilities, the likeliest first


def next_words(prompt: str, likely: Mapping[float, Likely]) -> bytes:
    """Bars of the likeliest next words after `prompt`, one panel a temperature, as PNG.

    Args:
        prompt: what was read.
        likely: by temperature.
    """
    return of_figure(diagram(prompt, likely))


def diagram(prompt: str, likely: Mapping[float, Likely]) -> Figure:
    """The same as a figure."""
    size = (PANEL[0] * len(likely), PANEL[1] + 0.3)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    shown = prompt if len(prompt) <= _LONGEST else f"... {prompt[-_LONGEST:]}"
    figure.suptitle(f"after “{shown}”", x=0.01, ha="left", fontsize=11, color="0.1", parse_math=False)
    for number, (temperature, words) in enumerate(likely.items(), start=1):
        axes = figure.add_subplot(1, len(likely), number)
        names, chances = [word for word, _ in words], [chance for _, chance in words]
        bars = axes.barh(range(len(names)), chances, color=BLUE, height=0.6)
        axes.bar_label(bars, [f"{chance:.1%}" for chance in chances], padding=3, fontsize=SMALL, color="0.3")
        plain(axes, title=f"temperature {temperature:g}", x="probability")
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set_xlim(0.0, 1.18)  # one scale for all, with room for the numbers
        axes.set_xticks([0.0, 0.5, 1.0])
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
    return figure
