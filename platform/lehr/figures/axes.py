"""What all our diagrams have in common."""

from __future__ import annotations

from typing import Any

BLUE, ORANGE, GREEN = "#2f6db5", "#d9772b", "#3b8f5a"
SMALL, NORMAL = 8.0, 9.5  # points


def plain(axes: Any, *, title: str, x: str = "", y: str = "") -> None:
    """A title on the left, light lines to read by, and no frame."""
    axes.set_title(title, loc="left", fontsize=NORMAL, color="0.15")
    axes.set_xlabel(x, fontsize=SMALL, color="0.3")
    axes.set_ylabel(y, fontsize=SMALL, color="0.3")
    axes.tick_params(labelsize=SMALL, colors="0.3", length=0)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("0.7")


def key(axes: Any, **place: Any) -> None:
    """The legend, without a box."""
    axes.legend(frameon=False, fontsize=SMALL, labelcolor="0.2", handlelength=1.8, **place)
