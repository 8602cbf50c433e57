"""The partition function of a restricted Boltzmann machine by annealed importance sampling.

Neal (2001, "Annealed importance sampling"); for these machines Salakhutdinov and Murray (2008, "On the
quantitative analysis of deep belief networks", section 4.1). Between a machine whose units are independent
and the one that is asked about lie the laws

    p_t(v) ~ exp(((1 - t) a0 + t a).v) prod_j (1 + exp(t (b_j + (v W)_j))),    0 <= t <= 1.

Chains start from exact draws at t = 0 and make one Gibbs sweep at each following t; the product of the ratios
p_t(v) / p_(t before)(v) on their way is, in the mean, exactly Z / Z0. It is the mean that is unbiased, so
log Z is under-estimated when few chains carry all the weight: look at `effective`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lehr.dynamics.gibbs import Coins
from lehr.dynamics.noise import CHAIN_STEPS, Noise
from lehr.seeds import Purpose

CHAINS = 100
TEMPERATURES = CHAIN_STEPS // 4
ENUMERABLE = 20
"""Units of the smaller layer that can be enumerated: 2**20 states."""
_AT_ONCE = 1 << 14
_START, _HIDDEN, _VISIBLE = 0, 1, 2


class Weights(NamedTuple):
    """Of a machine of two layers: `kernel` [visible, hidden], `visible_bias`, `hidden_bias`."""

    kernel: np.ndarray
    visible_bias: np.ndarray
    hidden_bias: np.ndarray


class Estimate(NamedTuple):
    """A mean and the standard error of it, both float64; nats where it is of logarithms."""

    value: float
    standard_error: float


class LogPartition(NamedTuple):
    """log Z in nats, its standard error (of the mean weight, to first order), and how many of the chains the
    weights are worth: (sum w)^2 / sum w^2."""

    value: float
    standard_error: float
    effective: float


def log_partition(
    weights: Weights, *, temperatures: int = 10_000, chains: int = CHAINS, seed: int = 0,
    base: np.ndarray | None = None,
) -> LogPartition:  # fmt: skip
    """log Z of a machine by annealed importance sampling.

    Args:
        weights: of the machine.
        temperatures: steps from independent units to the machine, evenly spaced; at most 2**18.
        chains: independent ones, whose weights are averaged.
        seed: of the chains; the answer depends on the arguments alone.
        base: log-odds of the independent visible units at t = 0 [visible]: those of the data's means
            (`log_odds_of`) need the fewest temperatures. None: fair coins.

    Raises:
        ValueError: no chain, or a number of temperatures that has no addresses.
    """
    if chains < 1 or not 1 <= temperatures <= TEMPERATURES:
        raise ValueError(f"{chains} chains, {temperatures} temperatures: at least 1; at most {TEMPERATURES}")
    tensors = [tf.constant(array, tf.float32) for array in weights]
    start = np.zeros(len(weights.visible_bias)) if base is None else np.asarray(base, np.float64)
    program = tf.function(_log_weights, autograph=False)
    coins = Coins(Noise(seed, Purpose.ANNEALING))
    found = program(Weights(*tensors), tf.constant(start, tf.float32), coins, temperatures, chains)
    of_base = len(weights.hidden_bias) * np.log(2.0) + np.logaddexp(0.0, start).sum()
    return _averaged(np.asarray(found, np.float64), of_base)


def _averaged(log_weights: np.ndarray, of_base: float) -> LogPartition:
    """From log-weights [chains] and log Z of the independent units."""
    peak = log_weights.max()
    scaled = np.exp(log_weights - peak)
    mean, count = scaled.mean(), len(scaled)
    spread = scaled.std(ddof=1) / np.sqrt(count) / mean if count > 1 else float("inf")
    value = of_base + peak + np.log(mean)
    return LogPartition(float(value), float(spread), float(scaled.sum() ** 2 / (scaled**2).sum()))


def _log_weights(weights: Weights, base: Any, coins: Coins, temperatures: int, chains: int) -> Any:
    """float64 [chains]; sums of many small terms."""
    kernel, visible_bias, hidden_bias = weights
    begin = coins.toss(tf.repeat(base[tf.newaxis], chains, 0), _START)
    step = tf.constant(1.0 / temperatures, tf.float64)

    def level(visible: Any, inputs: Any, t: Any) -> Any:
        """log p_t(v) but for its constant, float64 [chains]."""
        mixed = (1.0 - t) * base + t * visible_bias
        hidden = tf.reduce_sum(tf.cast(tf.math.softplus(t * inputs), tf.float64), 1)
        return tf.cast(tf.linalg.matvec(visible, mixed), tf.float64) + hidden

    def anneal(k: Any, visible: Any, total: Any) -> tuple[Any, Any, Any]:
        inputs = tf.matmul(visible, kernel) + hidden_bias
        before, now = (tf.cast(tf.cast(k + one, tf.float64) * step, tf.float32) for one in (0, 1))
        total += level(visible, inputs, now) - level(visible, inputs, before)
        hidden = coins.toss(now * inputs, 2 * k + _HIDDEN)
        upward = tf.matmul(hidden, kernel, transpose_b=True) + visible_bias
        return k + 1, coins.toss((1.0 - now) * base + now * upward, 2 * k + _VISIBLE), total

    state = (tf.constant(0, tf.int64), begin, tf.zeros([chains], tf.float64))
    return tf.while_loop(lambda k, *_: k < temperatures, anneal, state, parallel_iterations=1)[2]


def log_odds_of(means: np.ndarray, *, examples: int) -> np.ndarray:
    """Of units with these means over `examples` examples, for `base`: one example more of each value keeps
    them finite. float64."""
    chance = (np.asarray(means, np.float64) * examples + 1.0) / (examples + 2.0)
    return np.log(chance) - np.log1p(-chance)


def enumerated(weights: Weights) -> float:
    """log Z by summing over all states of the smaller layer, in nats.

    Raises:
        ValueError: it has more than 20 units.
    """
    kernel, visible_bias, hidden_bias = (np.asarray(array, np.float64) for array in weights)
    if len(visible_bias) < len(hidden_bias):
        kernel, visible_bias, hidden_bias = kernel.T, hidden_bias, visible_bias
    units = len(hidden_bias)
    if units > ENUMERABLE:
        raise ValueError(f"{units} units have too many states; at most {ENUMERABLE} can be enumerated")
    total = -np.inf
    for first in range(0, 1 << units, _AT_ONCE):
        numbers = np.arange(first, min(first + _AT_ONCE, 1 << units))
        states = (numbers[:, np.newaxis] >> np.arange(units) & 1).astype(np.float64)
        others = np.logaddexp(0.0, states @ kernel.T + visible_bias).sum(1)
        total = np.logaddexp(total, np.logaddexp.reduce(states @ hidden_bias + others))
    return float(total)


def log_likelihood(weights: Weights, visible: np.ndarray, log_z: float) -> Estimate:
    """Mean log p(v) = -F(v) - log Z over examples, in nats an example, and its standard error over them.

    Args:
        weights: of the machine.
        visible: examples, each 0 or 1: [examples, visible].
        log_z: of `log_partition` or `enumerated`; its own error is to be added.
    """
    kernel, visible_bias, hidden_bias = (np.asarray(array, np.float64) for array in weights)
    rows = np.asarray(visible, np.float64).reshape(len(visible), -1)
    each = rows @ visible_bias + np.logaddexp(0.0, rows @ kernel + hidden_bias).sum(1) - log_z
    return Estimate(float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))))
