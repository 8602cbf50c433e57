"""Annealed importance sampling against exact enumeration."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import machines
from lehr.dynamics.annealing import Weights, enumerated, log_likelihood, log_odds_of, log_partition


@cache
def weights(visible: int = 12, hidden: int = 8, scale: float = 1.0) -> Weights:
    named = machines.numpy_of(machines.restricted(visible, hidden, scale=scale))
    return Weights(named["kernel"], named["visible_bias"], named["hidden_bias"])


@pytest.mark.parametrize(("visible", "hidden"), [(6, 3), (3, 6)])
def test_enumeration_is_the_sum_over_all_states(visible: int, hidden: int) -> None:
    v, h = machines.states(visible), machines.states(hidden)
    kernel, a, b = weights(visible, hidden)
    energies = -(v @ kernel @ h.T) - (v @ a)[:, None] - h @ b
    assert enumerated(weights(visible, hidden)) == pytest.approx(np.log(np.exp(-energies).sum()), abs=1e-9)


def test_enumeration_in_parts_is_that_of_the_whole() -> None:
    """16 units: more states than are summed at once. Without weights between the layers Z is a product."""
    free = Weights(np.zeros((16, 20)), np.linspace(-1, 1, 16), np.linspace(-2, 1, 20))
    exact = np.logaddexp(0, free.visible_bias).sum() + np.logaddexp(0, free.hidden_bias).sum()
    assert enumerated(free) == pytest.approx(exact, abs=1e-9)


def test_what_is_too_large_to_enumerate_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 20"):
        enumerated(Weights(np.zeros((21, 30)), np.zeros(21), np.zeros(30)))


@pytest.mark.parametrize("based", [False, True])
def test_annealing_finds_log_z_within_its_error(based: bool) -> None:
    exact = enumerated(weights())
    base = np.linspace(-1.5, 1.5, 12) if based else None
    found = log_partition(weights(), temperatures=2000, chains=200, seed=1, base=base)
    assert found.standard_error < 0.05
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.effective > 50


def test_few_temperatures_have_an_error_that_they_tell() -> None:
    """That the bound above can fail: with three temperatures the error is many of the good one's."""
    exact = enumerated(weights())
    good = log_partition(weights(), temperatures=2000, chains=200, seed=1)
    poor = log_partition(weights(), temperatures=3, chains=200, seed=1)
    assert poor.standard_error > 5 * good.standard_error
    assert poor.effective < 0.5 * good.effective
    assert abs(poor.value - exact) > 4 * good.standard_error


def test_the_mean_weight_is_unbiased() -> None:
    """With one temperature this is plain importance sampling from the base: Z in the mean, if any is."""
    mild = weights(6, 4, 0.3)
    found = log_partition(mild, temperatures=1, chains=20_000, seed=2)
    assert abs(found.value - enumerated(mild)) < 4 * found.standard_error < 0.1


def test_a_machine_without_weights_between_its_layers_is_exact() -> None:
    """Where the base is the machine's own visible law, every weight is the same."""
    free = Weights(np.zeros((5, 3)), np.linspace(-1, 1, 5), np.zeros(3))
    found = log_partition(free, temperatures=10, chains=4, base=free.visible_bias)
    assert found.value == pytest.approx(enumerated(free), abs=1e-5)
    assert found.effective == pytest.approx(4.0, abs=1e-6)
    assert found.standard_error < 1e-5


def test_the_answer_depends_on_the_arguments_alone() -> None:
    one, again, other = (log_partition(weights(), temperatures=20, chains=10, seed=s) for s in (4, 4, 5))
    assert one == again
    assert one.value != other.value


@pytest.mark.parametrize(("temperatures", "chains"), [(0, 1), (2**18 + 1, 1), (1, 0)])
def test_impossible_numbers_are_refused(temperatures: int, chains: int) -> None:
    with pytest.raises(ValueError, match="temperatures"):
        log_partition(weights(), temperatures=temperatures, chains=chains)


def test_probabilities_sum_to_one() -> None:
    log_z, every = enumerated(weights(6, 3)), machines.states(6)
    each = [log_likelihood(weights(6, 3), np.stack([row, row]), log_z).value for row in every]
    assert np.exp(each).sum() == pytest.approx(1.0, abs=1e-9)
    assert np.exp(each) == pytest.approx(machines.visible_law(machines.restricted(6, 3)), rel=1e-5)


def test_the_error_of_a_likelihood_is_that_of_a_mean_over_examples() -> None:
    rows = machines.states(6)[:10].reshape(10, 2, 3, 1)
    log_z = enumerated(weights(6, 3))
    each = [log_likelihood(weights(6, 3), np.stack([row, row]), log_z).value for row in rows]
    found = log_likelihood(weights(6, 3), rows, log_z)
    assert found.value == pytest.approx(np.mean(each))
    assert found.standard_error == pytest.approx(np.std(each, ddof=1) / np.sqrt(10))


def test_the_base_of_pixels_that_are_always_black_is_finite() -> None:
    odds = log_odds_of(np.array([0.0, 0.5, 1.0]), examples=98)
    assert odds == pytest.approx([np.log(1 / 99), 0.0, np.log(99)])
