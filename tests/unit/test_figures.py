"""Pictures, pixel by pixel; and diagrams, line by line."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr import figures
from lehr.figures.curves import diagram, panels, points, running_mean
from lehr.figures.grid import GAP, columns
from lehr.figures.pixels import NOT_A_NUMBER, PAPER, shade
from lehr.figures.strip import FOOT


def pixels(png: bytes) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB"))


def cells(sheet: np.ndarray, down: int, across: int) -> np.ndarray:
    """The images of a sheet: uint8 [down, across, height, width, 3]; what lies between them must be paper."""
    height, width = (sheet.shape[0] - GAP) // down, (sheet.shape[1] - GAP) // across
    found = np.empty((down, across, height - GAP, width - GAP, 3), np.uint8)
    rest = sheet.copy()
    for i in range(down):
        for j in range(across):
            place = np.s_[i * height + GAP : (i + 1) * height, j * width + GAP : (j + 1) * width]
            found[i, j] = sheet[place]
            rest[place] = PAPER
    assert (rest == PAPER).all()
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_pixel_as_a_square(channels: int) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (12, 5, 7, channels))
    shown = cells(pixels(figures.grid(images)), 3, 4).reshape(12, 5 * 13, 7 * 13, 3)  # 96 // 7 = 13
    levels = np.broadcast_to(np.rint((images + 1) / 2 * 255).astype(np.uint8), (12, 5, 7, 3))
    np.testing.assert_array_equal(shown, levels.repeat(13, 1).repeat(13, 2))


def test_places_without_an_image_are_paper() -> None:
    shown = cells(pixels(figures.grid(np.full((7, 4, 4, 1), -1.0))), 3, 3).reshape(9, -1)
    assert (shown[:7] == 0).all()
    assert (shown[7:] == PAPER).all()


def test_range_saturation_and_what_is_no_number() -> None:
    image = np.array([0.0, 1.0, 0.5, -7.0, np.inf, np.nan]).reshape(1, 6, 1)
    found = shade(image, (0.0, 1.0))[0]
    assert found[:5, 0].tolist() == [0, 255, 128, 0, 255]
    assert tuple(found[5]) == NOT_A_NUMBER


@given(st.integers(1, 300))
def test_a_sheet_is_nearly_square_and_nearly_full(count: int) -> None:
    across = columns(count)
    down = -(-count // across)
    assert across * down >= count > across * (down - 1)
    assert math.sqrt(count) <= across <= 1.5 * math.ceil(math.sqrt(count))
    assert columns(across * across) == across


@pytest.mark.parametrize("images", [np.zeros((0, 4, 4, 1)), np.zeros((4, 4, 1)), np.zeros((2, 4, 4, 2))])
def test_what_is_no_image_is_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images|channels"):
        figures.grid(images)


def test_a_strip_has_a_label_under_each_frame() -> None:
    frames = np.random.default_rng(1).uniform(-1, 1, (10, 8, 8, 1))
    steps = (0, 1, 3, 5, 10, 30, 50, 100, 300, 999)
    sheet = pixels(figures.strip(frames, steps))
    shown = cells(sheet[:-FOOT], 1, 10)[0]
    np.testing.assert_array_equal(shown[:, 6::12, 6::12], shade(frames))  # 96 / 8 = 12
    foot = sheet[-FOOT:]
    width = (sheet.shape[1] - GAP) // 10
    inked = [(foot[:, i * width : (i + 1) * width] < 128).any(axis=(0, 2)).nonzero()[0] for i in range(10)]
    for ink in inked:
        assert abs((ink.min() + ink.max()) / 2 - width / 2) < 5  # in the middle
        assert len(ink) < width  # beside its neighbours
    with pytest.raises(ValueError, match="10 steps"):
        figures.strip(frames[:9], steps)


def test_pictures_leave_out_a_frame_that_looks_like_the_one_before() -> None:
    frames = np.zeros((3, 4, 8, 8, 1))
    drawn = figures.pictures(frames[-1], frames, (0, 999, 1000), np.zeros((1000, 4)))
    assert sorted(drawn) == ["energy", "grid", "strip"]
    assert drawn["strip"] == figures.strip(frames[:2, 0], (0, 999))
    drawn = figures.pictures(frames[-1], frames, (0, 300, 500), np.zeros((0, 4)))
    assert drawn["strip"] == figures.strip(frames[:, 0], (0, 300, 500))
    assert "energy" not in drawn


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 1), (1000, 3), (5, 100)])
def test_energies_of_any_size_and_without_numbers(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(2).normal(size=shape)
    plain = figures.energies(values)
    values[0] = np.nan
    values[-1, 0] = np.inf
    assert pixels(figures.energies(values)).shape == pixels(plain).shape


def entries() -> list[dict[str, Any]]:
    """Two epochs of five steps, validated after each; and what a journal holds besides."""
    made: list[dict[str, Any]] = [{"type": "start", "step": 0}]
    for step in range(1, 11):
        values = {"train/loss": 1.0 / step, "train/real_score": 1.0, "train/fake_score": -1.0}
        made.append(
            {"type": "metrics", "step": step, "values": values | {"epoch": step / 5, "time/step_s": 9.0}}
        )
        if step % 5 == 0:
            made.append(
                {"type": "metrics", "step": step, "values": {"validation/loss": 2.0, "epoch/loss": 3.0}}
            )
    return made


def test_curves_are_of_training_solid_and_of_held_out_data_dashed() -> None:
    figure = diagram(entries(), title="a run")
    loss, scores = figure.axes
    assert (loss.get_title("left"), scores.get_title("left")) == ("loss", "scores")
    solid, dashed = loss.lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    np.testing.assert_allclose(solid.get_xydata(), [(s, 1.0 / s) for s in range(1, 11)])
    np.testing.assert_allclose(dashed.get_xydata(), [(5, 2.0), (10, 2.0)])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert {line.get_label() for line in scores.lines} == {"real, training", "fake, training"}
    assert loss.get_xlabel() == "step (5 an epoch)"


def test_the_known_metrics_come_first_and_others_follow() -> None:
    names = ["train/zeal", "train/accuracy", "validation/accuracy", "validation/loss", "train/loss"]
    shown = panels({name: (np.zeros(1), np.zeros(1)) for name in names})
    assert shown == {
        "loss": ["train/loss", "validation/loss"],
        "accuracy": ["train/accuracy", "validation/accuracy"],
        "zeal": ["train/zeal"],
    }


def test_what_is_not_finite_is_a_gap_and_the_last_word_counts() -> None:
    told = [(1, 5.0), (2, float("inf")), (1, 6.0), (3, float("nan")), (4, 7.0)]
    said = [{"type": "metrics", "step": step, "values": {"train/loss": value}} for step, value in told]
    steps, values = points(said)["train/loss"]
    np.testing.assert_array_equal(steps, [1, 2, 3, 4])
    np.testing.assert_array_equal(values, [6.0, np.nan, np.nan, 7.0])


def test_a_running_mean_goes_over_gaps() -> None:
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0])
    np.testing.assert_allclose(running_mean(values, 3), [2.0, 2.0, 4.0, 6.0, 6.0])
    assert np.isnan(running_mean(np.full(4, np.nan), 3)).all()


@pytest.mark.filterwarnings("error")
def test_curves_of_nothing_of_one_point_and_of_many() -> None:
    many = [{"type": "metrics", "step": s, "values": {"train/loss": np.sin(s / 9)}} for s in range(1, 400)]
    for said in ([], entries()[:2], many):
        assert pixels(figures.curves(said)).std() > 0
    assert len(diagram(many).axes[0].lines) == 2  # the mean over the points


def test_the_same_input_gives_the_same_bytes() -> None:
    assert figures.curves(entries()) == figures.curves(entries())
    assert figures.energies(np.ones((5, 2))) == figures.energies(np.ones((5, 2)))


def test_no_pyplot() -> None:
    """It keeps a global state and may want a display."""
    program = "import sys, lehr.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
