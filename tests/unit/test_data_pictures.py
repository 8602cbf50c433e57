"""Size, margin and range of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.data.pictures import Pictures, resampling

GREY = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)


def test_the_range_is_the_book_s_to_the_bit() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    seen = Pictures(16, 255, (-1.0, 1.0), 16, 16)(levels)[0, :, :, 0]
    np.testing.assert_array_equal(seen, (levels[0].astype(np.float32) - 127.5) / 127.5)
    unit = Pictures(16, 255, (0.0, 1.0), 16, 16)(levels)[0, :, :, 0]
    np.testing.assert_array_equal(unit, levels[0].astype(np.float32) / 255)


@pytest.mark.parametrize("low", [-1.0, 0.0, 0.25])
def test_a_margin_of_two_is_padding_with_the_low_end(low: float) -> None:
    seen = Pictures(28, 255, (low, 1.0), 28, 32)(GREY)
    plain = Pictures(28, 255, (low, 1.0), 28, 28)(GREY)
    want = np.pad(plain, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=np.float32(low))
    np.testing.assert_array_equal(seen, want, strict=True)


@given(st.integers(1, 40), st.integers(1, 60))
def test_weights_without_a_margin_sum_to_one(stored: int, size: int) -> None:
    weights = resampling(stored, inner=size, size=size)
    assert weights.shape == (size, stored)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 4, 16, 256])
def test_grey_levels_are_whole_numbers_from_0(levels: int) -> None:
    """As the book's 4 levels: floor(grey / 64)."""
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    seen = Pictures(16, 255, (0.0, 255.0), 16, 16, quantised=levels)(grey)[0, :, :, 0]
    np.testing.assert_array_equal(seen, grey[0] // (256 // levels), strict=False)
    shrunk = Pictures(28, 255, (0.0, 255.0), 16, 16, quantised=levels)(GREY)
    assert shrunk.dtype == np.float32
    assert set(np.unique(shrunk)) <= set(range(levels))
    framed = Pictures(28, 255, (0.0, 255.0), 28, 32, quantised=levels)(GREY)
    assert not framed[:, :2].any()


def test_resampling_to_the_same_size_changes_nothing() -> None:
    np.testing.assert_allclose(resampling(8, inner=8, size=8), np.eye(8), atol=1e-7)


@pytest.mark.parametrize("size", [16, 96])
def test_a_slope_stays_a_slope(size: int) -> None:
    """Away from the border a cubic reproduces straight lines."""
    slope = np.tile(np.arange(0, 252, 9, dtype=np.uint8), (1, 28, 1))
    seen = Pictures(28, 255, (0.0, 1.0), size, size)(slope)[0, size // 2, :, 0]
    steps = np.diff(seen[size // 7 : -size // 7])
    np.testing.assert_allclose(steps, 9 / 255 * 28 / size, rtol=0.02)


@pytest.mark.parametrize(("inner", "size"), [(28, 28), (28, 32), (16, 16), (224, 224), (20, 32)])
def test_each_row_is_rendered_by_itself(inner: int, size: int) -> None:
    """Bit for bit: which rows come together depends on the number of workers."""
    pictures = Pictures(28, 255, (-1.0, 1.0), inner, size)
    together = pictures(GREY)
    assert together.shape == (6, size, size, 1)
    assert together.dtype == np.float32
    for row in range(6):
        np.testing.assert_array_equal(pictures(GREY[row : row + 1])[0], together[row])


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (0.1, 0.3)])
def test_overshoot_is_clipped_to_the_range(bounds: tuple[float, float]) -> None:
    edge = np.zeros((1, 8, 8), np.uint8)
    edge[:, :, 4:] = 16
    seen = Pictures(8, 16, bounds, 20, 32)(edge)
    assert seen.min() == np.float32(bounds[0])
    assert seen.max() == np.float32(bounds[1])


def test_ink_at_the_border_fades_into_the_margin() -> None:
    full = np.full((1, 8, 8), 16, np.uint8)
    column = Pictures(8, 16, (0.0, 1.0), 20, 32)(full)[0, 16, :, 0]
    np.testing.assert_allclose(column, column[::-1], atol=1e-6)
    assert column[:4].max() == 0.0
    np.testing.assert_allclose(column[9:-9], 1.0, atol=1e-6)
    assert column.sum() == pytest.approx(20, rel=0.05)
