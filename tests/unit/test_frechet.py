"""The Fréchet distance: against closed forms, and under what must not change it."""

from __future__ import annotations

import numpy as np
import pytest

from lehr.measures.frechet import Moments, distance


def spread(seed: int, size: int) -> np.ndarray:
    """A covariance with full rank."""
    factor = np.random.default_rng(seed).normal(size=(size, size))
    return factor @ factor.T + 0.1 * np.eye(size)


def turn(seed: int, size: int) -> np.ndarray:
    """A rotation."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


@pytest.mark.parametrize("seed", range(5))
def test_covariances_that_commute_have_a_closed_form(seed: int) -> None:
    """Then the distance is |m1 - m2|^2 + sum of (sqrt a - sqrt b)^2 over eigenvalues a and b, whatever their
    size."""
    draw, axes = np.random.default_rng(seed), turn(seed, 6)
    a, b = 10.0 ** draw.uniform(-9, 4, (2, 6))
    means = draw.normal(size=(2, 6))
    one = Moments(means[0], axes @ np.diag(a) @ axes.T)
    other = Moments(means[1], axes @ np.diag(b) @ axes.T)
    wanted = np.sum((means[0] - means[1]) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert distance(one, other) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_two_dimensions_have_a_closed_form(seed: int) -> None:
    """Tr (C1 C2)^(1/2) = sqrt(Tr C1 C2 + 2 sqrt(det C1 C2)), also where C1 and C2 do not commute."""
    first, second = spread(seed, 2), spread(seed + 100, 2)
    product = first @ second
    shared = np.sqrt(np.trace(product) + 2.0 * np.sqrt(np.linalg.det(product)))
    wanted = 4.0 + np.trace(first) + np.trace(second) - 2.0 * shared
    found = distance(Moments(np.zeros(2), first), Moments(np.array([2.0, 0.0]), second))
    assert found == pytest.approx(wanted, rel=1e-10)


def test_moving_and_turning_both_changes_nothing_and_scaling_squares() -> None:
    draw, axes = np.random.default_rng(0), turn(1, 4)
    one, other = draw.normal(size=(50, 4)), 2.0 * draw.normal(size=(40, 4)) + 1.0
    found = distance(Moments.of(one), Moments.of(other))
    assert found == pytest.approx(distance(Moments.of(other), Moments.of(one)), rel=1e-12)
    moved = distance(Moments.of(one @ axes + 7.0), Moments.of(other @ axes + 7.0))
    assert moved == pytest.approx(found, rel=1e-10)
    assert distance(Moments.of(3.0 * one), Moments.of(3.0 * other)) == pytest.approx(9.0 * found, rel=1e-10)


def test_a_set_is_at_no_distance_from_itself_even_where_features_never_vary() -> None:
    """ReLUs that are always 0 make the covariance singular."""
    rows = np.random.default_rng(0).normal(size=(300, 84)).astype(np.float32)
    rows[:, 10:60] = 0.0
    moments = Moments.of(rows)
    assert np.linalg.matrix_rank(moments.covariance) == 34
    assert distance(moments, moments) == pytest.approx(0.0, abs=1e-10)


def test_moments_are_those_of_numpy_in_double_precision() -> None:
    rows = (1e4 + np.random.default_rng(0).normal(size=(30, 5))).astype(np.float32)
    moments = Moments.of(rows)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.astype(np.float64).T), rtol=1e-8, atol=1e-12)
    assert moments.mean.dtype == moments.covariance.dtype == np.float64


def test_fewer_rows_than_features_and_one_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(85, 84))
    Moments.of(rows)
    with pytest.raises(ValueError, match="84 examples of 84 features"):
        Moments.of(rows[:84])


def test_many_samples_of_gaussians_come_near_their_distance() -> None:
    draw, first, second = np.random.default_rng(0), spread(1, 3), spread(2, 3)
    sets = [draw.multivariate_normal(np.full(3, m), c, 100_000) for m, c in ((0.0, first), (1.0, second))]
    wanted = distance(Moments(np.zeros(3), first), Moments(np.ones(3), second))
    assert distance(*map(Moments.of, sets)) == pytest.approx(wanted, rel=0.02)
