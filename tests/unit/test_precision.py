"""Precision and recall of samples, on sets where both are known."""

from __future__ import annotations

import numpy as np
import pytest

from lehr.measures import precision
from lehr.measures.precision import precision_and_recall


def cluster(seed: int, centre: float, count: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)) * 0.1 + centre


def both(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def test_samples_of_one_kind_of_two_are_precise_and_recall_half() -> None:
    real = both(cluster(0, 0.0), cluster(1, 9.0))
    found = precision_and_recall(real, both(cluster(0, 0.0), cluster(0, 0.0) + 1e-6))
    assert found == (1.0, 0.5)


def test_samples_half_of_which_are_like_nothing_real() -> None:
    real = cluster(0, 0.0)
    assert precision_and_recall(real, both(real, cluster(1, 9.0))) == (0.5, 1.0)


def test_noise_has_neither_and_the_data_itself_has_both() -> None:
    real = cluster(0, 0.0)
    assert precision_and_recall(real, cluster(1, 5.0)) == (0.0, 0.0)
    assert precision_and_recall(real, real[::-1]) == (1.0, 1.0)


def test_copies_of_one_example_reach_nothing_else() -> None:
    """A ball of no radius holds its centre, and no more."""
    real = cluster(0, 0.0, 20)
    precise, recalled = precision_and_recall(real, np.repeat(real[:1], 20, axis=0))
    assert (precise, recalled) == (1.0, 1 / 20)


def test_a_radius_reaches_to_the_neighbour_that_is_named_and_includes_it() -> None:
    real = np.array([[0.0], [1.0], [3.0], [7.0]])  # radii to the second neighbour: 3, 2, 3, 6
    inside, outside = [[-3.0], [13.0]], [[-3.001], [13.001]]
    assert precision_and_recall(real, np.array(inside * 2), neighbours=2)[0] == 1.0
    assert precision_and_recall(real, np.array(outside * 2), neighbours=2)[0] == 0.0


def test_blocks_change_nothing_and_it_is_what_the_definition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    real, drawn = draw.normal(size=(37, 3)), draw.normal(size=(41, 3)) + 0.8

    def covered(rows: np.ndarray, centres: np.ndarray) -> float:
        reach = [np.sort(np.linalg.norm(centres - centre, axis=1))[3] for centre in centres]
        return float(np.mean([(np.linalg.norm(centres - row, axis=1) <= reach).any() for row in rows]))

    wanted = (covered(drawn, real), covered(real, drawn))
    assert 0.0 < min(wanted) < max(wanted) < 1.0
    assert precision_and_recall(real, drawn) == pytest.approx(wanted)
    monkeypatch.setattr(precision, "BLOCK", 5)
    assert precision_and_recall(real, drawn) == pytest.approx(wanted)


def test_moving_and_scaling_both_changes_nothing() -> None:
    draw = np.random.default_rng(0)
    real, drawn = draw.normal(size=(60, 3)), draw.normal(size=(60, 3)) * 1.5
    found = precision_and_recall(real, drawn)
    assert precision_and_recall(100.0 * real + 1e4, 100.0 * drawn + 1e4) == found


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        precision_and_recall(cluster(0, 0.0, 3), cluster(1, 0.0))
