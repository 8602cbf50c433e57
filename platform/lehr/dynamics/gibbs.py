"""Gibbs sampling of binary units (Geman and Geman 1984), with addressed randomness.

In two layers all units of a layer are independent given the other one, so a sweep is two blocks: the visible
units given the hidden ones, then the hidden ones given those. In a machine whose units are all connected a
sweep draws one unit after the other, each given all others.

A unit is 1 where a uniform number lies below its probability. Of sweep k of training step s, row i's numbers
depend on the seed, s, k and i's global number alone: see `noise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from lehr import seeds
from lehr.dynamics.noise import CHAIN_STEPS, Noise
from lehr.errors import UserError, letter
from lehr.seeds import Purpose

SWEEPS = CHAIN_STEPS // 4
"""A chain has at most so many sweeps: two draws each, and as many addresses again for other draws."""
OTHER = CHAIN_STEPS // 2
"""The first address of draws that belong to no sweep."""


class Pair(Protocol):
    """Two layers of binary units, connected only with each other."""

    def hidden_input(self, visible: Any) -> Any:
        """Log-odds of the hidden units, float32 [batch, hidden], given visible ones."""
        ...

    def visible_input(self, hidden: Any) -> Any:
        """Log-odds of the visible units, float32 [batch, visible], given hidden ones."""
        ...


@dataclass(frozen=True)
class Coins:
    """Where a batch of chains has its draws: the stream, the training step, and the first chain's number."""

    noise: Noise
    step: Any = 0
    first: Any = 0

    def toss(self, log_odds: Any, k: Any) -> Any:
        """Each unit of [batch, units] 1 with its probability, else 0: float32; `k` is the draw's number."""
        return decided(self.uniform(log_odds, k), log_odds)

    def uniform(self, like: Any, k: Any) -> Any:
        """Numbers in [-1, 1), float32, as many as `like` [batch, units] has."""
        shape = (tf.shape(like)[0] if like.shape[0] is None else like.shape[0], like.shape[1])
        return self.noise.uniform(shape, step=self.step, k=k, first=self.first)


def decided(chance: Any, log_odds: Any) -> Any:
    """1 where `chance`, uniform in [-1, 1), is below 2 p - 1 = tanh(log_odds / 2), else 0: float32."""
    return tf.cast(chance < tf.tanh(0.5 * log_odds), tf.float32)


class End(NamedTuple):
    """Where chains of two layers are: `visible` and `hidden` units, float32 [batch, units], and the log-odds
    `hidden_input` that `hidden` was drawn with."""

    visible: Any
    hidden_input: Any
    hidden: Any


def sweeps(pair: Pair, hidden: Any, coins: Coins, *, steps: Any, start: Any = 0) -> End:
    """Where chains of two layers are after `steps` sweeps, one at least, from hidden units [batch, hidden].

    Args:
        pair: the machine.
        hidden: float32 [batch, hidden], each 0 or 1.
        coins: of the chains.
        steps: int or int scalar; at most SWEEPS.
        start: the number of the first sweep.
    """
    # The first sweep stands outside: a loop of one would only cost, and its shapes are then known.
    first = tf.cast(start, tf.int64)
    end = _sweep(pair, hidden, coins, first)
    if isinstance(steps, int) and steps == 1:
        return end
    last = first + tf.cast(steps, tf.int64)

    def body(k: Any, *state: Any) -> tuple[Any, ...]:
        return k + 1, *_sweep(pair, state[2], coins, k)

    return End(*tf.while_loop(lambda k, *_: k < last, body, (first + 1, *end), parallel_iterations=1)[1:])


def _sweep(pair: Pair, hidden: Any, coins: Coins, k: Any) -> End:
    visible = coins.toss(pair.visible_input(hidden), 2 * k + 1)
    hidden_input = pair.hidden_input(visible)
    return End(visible, hidden_input, coins.toss(hidden_input, 2 * k + 2))


def trajectory(pair: Pair, hidden: Any, coins: Coins, *, at: Sequence[int]) -> list[Any]:
    """The hidden units of chains after the sweeps `at`, rising from 0: float32 [batch, hidden] each."""
    states, now = [], 0
    for mark in at:
        if mark > now:
            hidden = sweeps(pair, hidden, coins, steps=mark - now, start=now).hidden
        states.append(hidden)
        now = mark
    return states


class Net(NamedTuple):
    """A machine whose units are all connected: `couplings`, symmetric with zero diagonal [units, units], and
    `biases` [units], both float32."""

    couplings: Any
    biases: Any


def unit_sweeps(
    net: Net, units: Any, coins: Coins, *, steps: Any, of: tuple[int, int], start: Any = 0
) -> Any:
    """Units of a fully connected machine after `steps` sweeps, one unit after the other.

    Args:
        net: the machine.
        units: float32 [batch, units], each 0 or 1.
        coins: of the chains.
        steps: int or int scalar.
        of: the units that move, [first, last); the others are clamped.
        start: the number of the first sweep.

    Returns:
        float32 [batch, units].
    """
    first = tf.cast(start, tf.int64)
    last = first + tf.cast(steps, tf.int64)

    def sweep(k: Any, columns: Any) -> tuple[Any, Any]:
        chances = tf.transpose(coins.uniform(units, k))

        def unit(index: Any, columns: Any) -> tuple[Any, Any]:
            log_odds = tf.linalg.matvec(columns, net.couplings[index], transpose_a=True) + net.biases[index]
            drawn = decided(chances[index], log_odds)
            return index + 1, tf.tensor_scatter_nd_update(columns, [[index]], drawn[tf.newaxis])

        begin = (tf.constant(of[0]), columns)
        return k + 1, tf.while_loop(lambda index, _: index < of[1], unit, begin, parallel_iterations=1)[1]

    # Units by rows: each draw writes one row and reads all, in the order of memory.
    begin = (first, tf.transpose(units))
    return tf.transpose(tf.while_loop(lambda k, _: k < last, sweep, begin, parallel_iterations=1)[1])


class Chains:
    """Persistent chains (Tieleman 2008), on the host: one a slot of the global batch.

    A chain starts from fair coins addressed by (seed, global slot) and then goes on from where training left
    it. Who holds a slot changes nothing.

    Args:
        units: of a chain.
        first_slot: global number of the first slot held here.
        slots: held here.
        seed: of the run.
    """

    def __init__(self, units: int, *, first_slot: int, slots: int, seed: int) -> None:
        self._chains = np.zeros((slots, units), np.uint8)
        for row in range(slots):
            address = (0, first_slot + row, 0)
            self._chains[row] = seeds.uniform(seed, Purpose.GIBBS_START, address, units) < 0.5

    def draw(self, step: int) -> dict[str, np.ndarray]:
        """`start`: float32 [slots, units], where the chains of `step` start."""
        return {"start": self._chains.astype(np.float32)}

    def keep(self, step: int, products: dict[str, np.ndarray]) -> None:
        """Take `chain`, float32 [slots, units]: where the chains of `step` ended."""
        self._chains[...] = products["chain"]

    def state(self) -> dict[str, np.ndarray]:
        """Copies: `chains` uint8 [slots, units]."""
        return {"chains": self._chains.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state` of the same slots.

        Raises:
            UserError: it is of other chains.
        """
        came = state["chains"].shape if "chains" in state else "nothing"
        if came != self._chains.shape:
            raise UserError(
                letter(
                    "checkpoint: chains",
                    f"{came} where {self._chains.shape} is wanted",
                    accepted="persistent chains of the same model and global batch",
                    do="use the model and sampler settings that the checkpoint was made with",
                )
            )
        self._chains[...] = state["chains"]
