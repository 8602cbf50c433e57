"""Diagrams of sweeps, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import told_sweeps
from lehr.figures import sweeps
from lehr.figures.png import of_figure
from lehr.figures.sweeps import Axis, Stretch, Trials
from lehr.spec.search import Range
from lehr.sweep import pictures
from lehr.sweep.records import History

NAN = float("nan")


def trials(values: list[float], *, mode: str = "min", diverged: tuple[int, ...] = ()) -> Trials:
    flags = np.isin(np.arange(len(values)), diverged)
    return Trials("validation/loss", mode, np.arange(1, len(values) + 1), np.array(values, np.float64), flags)


def texts(figure: Any) -> list[str]:
    """All that is written in a figure that was drawn."""
    of_figure(figure)
    return [
        text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")) if text.get_text()
    ]


@pytest.mark.parametrize(("mode", "wanted"), [("min", [3, 2, 2, 1, 1]), ("max", [3, 3, 5, 5, 5])])
def test_best_so_far_only_gets_better(mode: str, wanted: list[float]) -> None:
    figure = sweeps.history(trials([3.0, 2.0, 5.0, 1.0], mode=mode))
    [line] = figure.axes[0].get_lines()
    assert list(line.get_ydata()) == wanted
    assert list(line.get_xdata()) == [1, 2, 3, 4, 4]


def test_what_diverged_is_a_cross_at_the_bad_edge() -> None:
    for mode, edge in (("min", 1), ("max", 0)):
        axes = sweeps.history(trials([3.0, NAN, 5.0], mode=mode, diverged=(1,))).axes[0]
        crosses = [each for each in axes.collections if each.get_label() == "diverged"]
        assert crosses[0].get_offsets().tolist() == [[2.0, axes.get_ylim()[edge]]]


def test_a_value_far_off_does_not_press_the_others_flat() -> None:
    values = [1.0, 1.1, 1.2, 1.3, 1.4, 30.0]
    low, high = sweeps.window(np.array(values), "min")
    assert (low, high < 3) == (1.0, True)
    assert sweeps.window(np.array(values), "max") == (1.0, 30.0), "there the large ones are the good ones"
    axes = sweeps.history(trials(values)).axes[0]
    [beyond] = [each for each in axes.collections if each.get_label() == "worse than shown"]
    assert beyond.get_offsets().tolist() == [[6.0, axes.get_ylim()[1]]]


def test_values_over_decades_have_a_logarithmic_axis() -> None:
    assert sweeps.history(trials([0.01, 0.1, 1.0, 10.0])).axes[0].get_yscale() == "log"
    assert sweeps.history(trials([0.5, 0.1, 1.0])).axes[0].get_yscale() == "linear"


def test_slices_have_the_scale_of_their_range() -> None:
    rate = Axis("train.optimizer.learning_rate", np.array([1e-4, 1e-3, NAN]), log=True, bounds=(1e-5, 1e-2))
    kind = Axis("model.filters", np.array([0.0, 1.0, 1.0]), choices=("[8,16]", "[16,32]"))
    steps = Axis("sampler.steps", np.array([5.0, 6.0, 7.0]), bounds=(5, 8), whole=True)
    figure = sweeps.slices(trials([1.0, 2.0, 3.0]), [rate, kind, steps])
    first, second, third = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == [rate.name, kind.name, steps.name]
    assert first.get_xscale() == "log"
    assert first.get_xlim()[0] < 1e-5 < 1e-2 < first.get_xlim()[1]
    assert [label.get_text() for label in second.get_xticklabels()] == ["[8,16]", "[16,32]"]
    assert all(tick == int(tick) for tick in third.get_xticks())
    assert len(first.collections[0].get_offsets()) == 3
    assert "validation/loss\n(less is better)" in texts(figure)


def test_places_on_parallel_axes() -> None:
    rate = Axis("a", np.array([1e-4, 1e-2]), log=True, bounds=(1e-4, 1e-2))
    assert rate.places().tolist() == pytest.approx([0.0, 1.0])
    assert rate.marks() == [(0.0, "0.0001"), (0.5, "0.001"), (1.0, "0.01")]
    choice = Axis("b", np.array([1.0, NAN]), choices=("x", "y"))
    assert choice.places()[0] == 0.75
    assert np.isnan(choice.places()[1])
    downwards = Axis("c", np.array([1.0, 3.0]), bounds=(3.0, 1.0))
    assert downwards.places().tolist() == [1.0, 0.0]
    assert Axis("d", np.array([1.0]), bounds=(1, 2), whole=True).marks() == [(0.0, "1"), (1.0, "2")]


def test_the_best_line_is_orange_and_on_top() -> None:
    axis = Axis("a", np.array([0.1, 0.5, 0.9, 0.2]), bounds=(0.0, 1.0))
    figure = sweeps.parallel(trials([3.0, 1.0, 2.0, NAN], diverged=(3,)), [axis])
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2 and
             list(line.get_xdata()) == [0, 1]]  # fmt: skip
    assert len(lines) == 4
    orange = [line for line in lines if line.get_color() == sweeps.ORANGE]
    assert [list(line.get_ydata()) for line in orange] == [[0.5, 1.0]]
    red = [line for line in lines if line.get_color() == sweeps.RED]
    assert [list(line.get_ydata()) for line in red] == [[0.2, 0.0]]


def test_a_key_that_did_not_vary_is_passed_by() -> None:
    one = Axis("a", np.array([0.1, 0.5]), bounds=(0.0, 1.0))
    other = Axis("b", np.array([NAN, 0.5]), bounds=(0.0, 1.0))
    figure = sweeps.parallel(trials([3.0, 1.0]), [one, other])
    across = [list(line.get_xdata()) for line in figure.axes[0].get_lines()]
    assert [0, 2] in across
    assert [0, 1, 2] in across


def test_importance_is_ordered_and_in_percent() -> None:
    figure = sweeps.importance({"a": 0.2, "b": 0.7, "c": 0.1})
    bars = figure.axes[0].patches
    assert [round(bar.get_width()) for bar in bars] == [10, 20, 70]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["c", "a", "b"]
    assert {"70 %", "20 %", "10 %"} <= set(texts(figure))


def test_lineage_has_a_lane_a_trial_and_an_arrow_a_copy() -> None:
    figure = sweeps.lineage(
        [Stretch(1, 0, 30, 0.1), Stretch(2, 0, 10, 0.9), Stretch(2, 10, 30, 0.2, source=1),
         Stretch(3, 0, 5, NAN, diverged=True)],
        metric="validation/loss", mode="min",
    )  # fmt: skip
    axes = figure.axes[0]
    lanes = [
        (list(line.get_xdata()), line.get_ydata()[0])
        for line in axes.get_lines()
        if len(line.get_xdata()) == 2
    ]
    assert lanes == [([0, 30], 1), ([0, 10], 2), ([10, 30], 2), ([0, 5], 3)]
    [arrow] = axes.texts
    assert (arrow.xy, arrow.xyann) == ((10, 2), (10, 1))


@pytest.mark.parametrize("sets", [(), ("search.scheduler=none", "search.trials=20"), told_sweeps.PBT])
def test_a_whole_sweep_is_drawn_and_the_same_each_time(tmp_path: Path, sets: tuple[str, ...]) -> None:
    wanted = told_sweeps.program(*sets)
    history = told_sweeps.tell(told_sweeps.storage(tmp_path).below(wanted.run_id), wanted)
    shares = {path: 1 / len(wanted.search.space) for path in wanted.search.space}
    made = pictures.make(wanted, history, shares)
    names = ["history", "parallel", "slices", "importance"]
    assert list(made) == ([*names, "lineage"] if sets == told_sweeps.PBT else names)
    assert all(png.startswith(b"\x89PNG") for png in made.values())
    assert made == pictures.make(wanted, history, shares)


def test_before_a_value_there_is_nothing_to_draw() -> None:
    assert pictures.make(told_sweeps.program(), History(), {}) == {}


@pytest.mark.filterwarnings("ignore:overflow")  # of a tick beyond what a float can be
def test_a_range_over_hundreds_of_decades_is_drawn() -> None:
    found = trials([1e-150, 1.0, 1e150])
    for bounds in ((1e-200, 1e200), (1e-307, 1e307)):
        wide = Axis("a", np.array([bounds[0], 1.0, bounds[1]]), log=True, bounds=bounds)
        assert of_figure(sweeps.slices(found, [wide])).startswith(b"\x89PNG")
        assert wide.marks()[1] == (0.5, "1")
        assert of_figure(sweeps.parallel(found, [wide])).startswith(b"\x89PNG")


def test_an_axis_has_what_each_trial_was_best_with() -> None:
    rate = Range(log=(1e-5, 1e-1))
    assert pictures.axis("rate", rate, told_sweeps.worsened("rate", 1e-4, 1e-3), "min").values == [1e-4]
    kind = Range(choice=("adam", "sgd"))
    assert pictures.axis("kind", kind, told_sweeps.worsened("kind", "sgd", "adam"), "min").values == [1.0]


def test_choices_that_read_alike_are_told_apart() -> None:
    close = Range(choice=(0.12345678, 0.12345679))
    found = pictures.axis("rate", close, told_sweeps.worsened("rate", 0.12345679, 0.12345678), "min")
    assert found.choices == ("0.123457", "0.123457")
    assert found.values == [1.0]
