"""The path of a chain on its energy: what is drawn of it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from lehr.figures.descent import descent, diagram

SURFACE = np.add.outer(np.linspace(-1, 1, 9) ** 2, np.linspace(-1, 1, 11))
PATH = np.array([[0.5, 0.5], [0.25, 0.5], [0.25, -0.5], [-1.0, -1.0]])


def test_every_step_is_drawn_where_it_was_and_the_ends_are_marked() -> None:
    axes = diagram(SURFACE, PATH, title="t").axes[0]
    (lines,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert np.array_equal(lines.get_segments(), np.stack([PATH[:-1], PATH[1:]], 1))
    assert np.all(np.diff(lines.get_linewidths()) > 0), "late steps are the strong ones"
    start, end = axes.lines
    assert [start.get_xdata()[0], start.get_ydata()[0]] == [0.5, 0.5]
    assert [end.get_xdata()[0], end.get_ydata()[0]] == [-1.0, -1.0]
    assert end.get_label() == "3 steps"
    assert axes.get_title(loc="left") == "t"


def test_rows_of_the_surface_go_up() -> None:
    """E = y^2 + x is lowest in the middle of the left side; contours know their x and y."""
    axes = diagram(SURFACE, PATH, x=(-2.0, 2.0), y=(0.0, 4.0)).axes[0]
    assert axes.get_xlim() == (-2.0, 2.0)
    assert axes.get_ylim() == (0.0, 4.0)
    ground = axes.collections[0]
    points = np.concatenate([path.vertices for path in ground.get_paths() if len(path.vertices)])
    assert points[:, 0].min() == -2.0
    assert points[:, 1].max() == 4.0
    lowest = next(path for path in ground.get_paths() if len(path.vertices)).vertices
    assert np.abs(lowest[:, 1] - 2.0).max() < 1.5
    assert lowest[:, 0].max() < -1.0


@pytest.mark.parametrize("surface", [np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_level_ground_and_a_chain_that_never_moved(surface: np.ndarray) -> None:
    assert descent(surface, PATH[:1]) == descent(surface, PATH[:1])
    assert descent(surface, PATH).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("surface", "path"),
    [(SURFACE[0], PATH), (SURFACE[:1], PATH), (SURFACE, PATH[:, :1]), (SURFACE, PATH[:0])],
)
def test_what_is_no_surface_and_no_path_is_refused(surface: np.ndarray, path: np.ndarray) -> None:
    with pytest.raises(ValueError, match="from 2 by 2"):
        descent(surface, path)
