"""Small Boltzmann machines for tests, and their exact laws by enumeration, in float64 and without lehr."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from lehr.models.boltzmann import BoltzmannMachine
from lehr.models.rbm import RestrictedBoltzmannMachine


def states(units: int) -> np.ndarray:
    """All states of binary units, the first unit changing fastest: float64 [2**units, units]."""
    return (np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(np.float64)


def number(rows: Any) -> np.ndarray:
    """Where each of [rows, units] stands among `states`."""
    rows = np.asarray(rows)
    return (rows @ (1 << np.arange(rows.shape[1]))).astype(np.int64)


def restricted(visible: int, hidden: int, *, scale: float = 1.0, seed: int = 0) -> RestrictedBoltzmannMachine:
    """A machine with weights and biases that make its law far from uniform."""
    model = RestrictedBoltzmannMachine(SimpleNamespace(hidden=hidden), (visible,))
    return scaled(model, scale, seed)


def connected(visible: int, hidden: int, *, scale: float = 0.7, seed: int = 0) -> BoltzmannMachine:
    """A machine whose units are all connected, its weights as of `restricted`."""
    return scaled(BoltzmannMachine(SimpleNamespace(hidden=hidden), (visible,)), scale, seed)


def scaled(model: Any, scale: float, seed: int) -> Any:
    draws = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(draws.normal(size=weight.shape) * scale)
    return model


def numpy_of(model: Any) -> dict[str, np.ndarray]:
    """Weights by name, float64."""
    return {
        weight.path.split("/")[-1]: np.asarray(weight, np.float64) for weight in model.trainable_variables
    }


def law(model: Any) -> np.ndarray:
    """p(v, h) over all states of visible and hidden units, those of `states`: float64 [2**units]."""
    units = states(model.visible + model.hidden)
    v, h = units[:, : model.visible], units[:, model.visible :]
    weights = numpy_of(model)
    energy = -(v @ weights["kernel"] * h).sum(1) - v @ weights["visible_bias"] - h @ weights["hidden_bias"]
    if "visible_pairs" in weights:
        energy -= pairs_term(v, weights["visible_pairs"]) + pairs_term(h, weights["hidden_pairs"])
    likely = np.exp(-energy)
    return likely / likely.sum()


def pairs_term(units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over pairs i < j of w_ij u_i u_j, for each row."""
    pairs = [(i, j) for i in range(units.shape[1]) for j in range(i + 1, units.shape[1])]
    return sum(
        (w * units[:, i] * units[:, j] for (i, j), w in zip(pairs, weights, strict=True)),
        np.zeros(len(units)),
    )


def visible_law(model: Any) -> np.ndarray:
    """p(v) over all states of the visible units: float64 [2**visible]."""
    return law(model).reshape(2**model.hidden, 2**model.visible).sum(0)


def moments(model: Any, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Means of -dE/dw under a law over all units, by the weight's name."""
    units = states(model.visible + model.hidden)
    v, h = units[:, : model.visible], units[:, model.visible :]
    p = probabilities[:, None]
    found = {"kernel": (p * v).T @ h, "visible_bias": (p * v).sum(0), "hidden_bias": (p * h).sum(0)}
    if "visible_pairs" in numpy_of(model):
        for name, side in (("visible_pairs", v), ("hidden_pairs", h)):
            found[name] = ((p * side).T @ side)[np.triu_indices(side.shape[1], 1)]
    return found


def with_data(model: Any, data: np.ndarray) -> np.ndarray:
    """The law of all units when the visible ones follow the rows of `data`: mean of p(h | v) over them."""
    joint = law(model).reshape(2**model.hidden, 2**model.visible)
    given = joint / joint.sum(0)
    share = np.bincount(number(data), minlength=2**model.visible) / len(data)
    return (given * share).reshape(-1)


def slopes(model: Any, data: np.ndarray) -> dict[str, np.ndarray]:
    """Gradient of the mean negative log-likelihood of `data`, by enumeration, by the weight's name."""
    free, clamped = moments(model, law(model)), moments(model, with_data(model, data))
    return {name: free[name] - clamped[name] for name in free}


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Pearson's statistic of counts against exact probabilities."""
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


def stack_law(model: Any) -> np.ndarray:
    """p(v) of a stack of two machines: the top one's law of its visible units, and one draw down."""
    below, top = model.stack
    h = states(below.hidden)
    weights = numpy_of(below)
    on = 1 / (1 + np.exp(-(h @ weights["kernel"].T + weights["visible_bias"])))
    v = states(below.visible)
    down = np.prod(np.where(v[None] > 0, on[:, None], 1 - on[:, None]), axis=2)
    return visible_law(top) @ down
