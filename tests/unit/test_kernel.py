"""The kernel distance: unbiased by enumeration, and with an error that means something."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lehr.measures import kernel

POINTS = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]])
P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])


def discrepancy(p: np.ndarray, q: np.ndarray) -> float:
    """The squared maximum mean discrepancy of two laws on POINTS: (p - q)' K (p - q)."""
    return float((p - q) @ kernel.polynomial(POINTS, POINTS) @ (p - q))


def test_the_kernel_is_the_papers() -> None:
    found = kernel.polynomial(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[(11 / 2 + 1) ** 3, 1.0]])


@pytest.mark.parametrize(("p", "q"), [(P, Q), (P, P)])
@pytest.mark.parametrize("sizes", [(2, 2), (3, 2)])
def test_its_mean_over_all_samples_is_the_true_value(
    p: np.ndarray, q: np.ndarray, sizes: tuple[int, int]
) -> None:
    """Every pair of samples that can be drawn, weighted by how likely it is."""
    total = weight = 0.0
    for one in itertools.product(range(3), repeat=sizes[0]):
        for other in itertools.product(range(3), repeat=sizes[1]):
            likely = float(np.prod(p[list(one)]) * np.prod(q[list(other)]))
            total += likely * kernel.unbiased(POINTS[list(one)], POINTS[list(other)])
            weight += likely
    assert weight == pytest.approx(1.0)
    assert total == pytest.approx(discrepancy(p, q), abs=1e-9)


def test_it_is_the_mean_over_disjoint_subsets_and_its_standard_error() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(64, 3)), draw.normal(size=(50, 3)) + 0.5
    found = kernel.distance(one, other)
    assert (found.subsets, found.size) == (10, 5)
    mine = [
        kernel.unbiased(
            one[kernel.shuffled(64)][5 * i : 5 * i + 5], other[kernel.shuffled(50)][5 * i : 5 * i + 5]
        )
        for i in range(10)
    ]
    assert found.value == pytest.approx(np.mean(mine))
    assert found.error == pytest.approx(np.std(mine, ddof=1) / np.sqrt(10))


def test_subsets_are_as_large_as_the_papers_where_there_are_rows_for_it() -> None:
    rows = np.zeros((25_000, 1))
    assert (kernel.distance(rows, rows).subsets, kernel.distance(rows, rows).size) == (25, 1000)
    assert (kernel.distance(rows[:4], rows).subsets, kernel.distance(rows[:4], rows).size) == (2, 2)
    with pytest.raises(ValueError, match="3 rows"):
        kernel.distance(rows[:3], rows)


def test_the_error_is_how_far_the_value_varies() -> None:
    """Over many pairs of sets: two standard errors hold the true value about 19 times of 20."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        sets = [POINTS[draw.choice(3, 400, p=law)] for law in (P, Q)]
        found.append(kernel.distance(*sets))
    values = np.array([each.value for each in found])
    errors = np.array([each.error for each in found])
    assert values.mean() == pytest.approx(discrepancy(P, Q), abs=4 * values.std() / np.sqrt(200))
    assert errors.mean() == pytest.approx(values.std(), rel=0.2)
    assert 0.85 < np.mean(np.abs(values - discrepancy(P, Q)) < 2 * errors) < 0.99


def test_a_sorted_file_is_shuffled_and_always_alike() -> None:
    order = kernel.shuffled(1000)
    assert sorted(order) == list(range(1000))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    np.testing.assert_array_equal(order, kernel.shuffled(1000))
