"""All numbers of two sets by name; and likelihoods in other units."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lehr.measures import frechet, kernel, likelihood
from lehr.measures.comparison import METRICS, compare, scale

DRAW = np.random.default_rng(0)
REAL = np.maximum(DRAW.normal(size=(200, 5)), 0.0) * 30.0
DRAWN = np.maximum(DRAW.normal(size=(90, 5)) + 0.2, 0.0) * 30.0


def test_every_number_names_its_extractor() -> None:
    found = compare(REAL, DRAWN, METRICS, extractor="lenet")
    assert list(found) == ["fid_lenet", "kid_lenet", "kid_lenet_error", "precision_lenet", "recall_lenet"]
    unit = scale(REAL)
    assert unit == pytest.approx(math.sqrt((REAL**2).mean()))
    moments = (frechet.Moments.of(REAL / unit), frechet.Moments.of(DRAWN / unit))
    assert found["fid_lenet"] == pytest.approx(frechet.distance(*moments))
    assert found["kid_lenet"] == pytest.approx(kernel.distance(REAL / unit, DRAWN / unit).value)
    assert 0.5 < found["precision_lenet"] <= 1.0


def test_only_what_is_asked_for() -> None:
    assert list(compare(REAL, DRAWN, ("recall",), extractor="x")) == ["recall_x"]
    assert list(compare(REAL, DRAWN, ("kid",), extractor="x")) == ["kid_x", "kid_x_error"]
    assert compare(REAL, DRAWN, (), extractor="x") == {}


def test_the_scale_of_a_networks_features_changes_nothing() -> None:
    one, other = (
        compare(REAL, DRAWN, METRICS, extractor="x"),
        compare(7 * REAL, 7 * DRAWN, METRICS, extractor="x"),
    )
    assert one == pytest.approx(other)
    assert scale(np.zeros((3, 2))) == 1.0


def test_recall_takes_equally_many_of_both() -> None:
    """More real examples than samples would make the samples' balls, and not the model, decide."""
    found = compare(REAL, REAL[:90], ("precision", "recall"), extractor="x")
    some = REAL[kernel.shuffled(200)[:90]]
    assert found == compare(
        some[np.argsort(kernel.shuffled(90))], REAL[:90], ("precision", "recall"), extractor="x"
    )


def test_units_of_likelihood() -> None:
    assert likelihood.bits_per_dimension(256 * math.log(4.0), 256) == pytest.approx(2.0)
    assert likelihood.perplexity(math.log(50.0)) == pytest.approx(50.0)
    assert likelihood.perplexity(1e4) == math.inf


def test_pixels_by_themselves_cost_what_their_shares_say() -> None:
    """Laplace's rule: a level seen n times of 6 has the share (n + 1) / 8 of two levels."""
    train = np.array([[0, 1, 1]] * 5 + [[0, 1, 0]], np.float32)
    held_out = np.array([[0, 1, 0], [1, 1, 1]], np.float32)
    shares = [7 / 8, 7 / 8, 2 / 8, 1 / 8, 7 / 8, 6 / 8]
    found = likelihood.marginal_bits(train, held_out, levels=2)
    assert found == pytest.approx(-np.log2(shares).mean())
    assert likelihood.marginal_bits(train[:, :1], np.array([[3.0]]), levels=4) == pytest.approx(np.log2(10))
