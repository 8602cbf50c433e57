"""Addresses of random numbers: a draw is a function of (seed, purpose, step, index), never of a state.

The generator is Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): 4x64-10 on
the host through NumPy, 4x32-10 in compiled code through TensorFlow's stateless ops. Only raw bits of NumPy's
bit generator are used: their stream is covered by NumPy's compatibility promise, those of
`Generator`'s methods are not.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_MASK = (1 << 64) - 1


class Purpose(IntEnum):
    """What a draw is for; no two share a stream. The numbers are part of the format: add, never renumber."""

    WEIGHTS = 1
    ORDER = 2
    DATA_NOISE = 3
    CHAIN_NOISE = 4
    CHAIN_SOURCE = 5
    CHAIN_FRESH = 6
    SAMPLE_START = 7
    SAMPLE_NOISE = 8
    VALIDATION_NOISE = 9
    DROPOUT = 10
    GUARD = 11
    GIBBS_NOISE = 12
    GIBBS_START = 13
    DRAW = 14
    ACCEPTANCE = 15
    BINARISE = 16
    LAND = 17
    ANNEALING = 18


def key(seed: int, purpose: Purpose) -> int:
    """64-bit Philox key of one stream: SplitMix64's finaliser over seed and purpose."""
    z = (seed * 0x9E3779B97F4A7C15 + int(purpose) * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def raw(seed: int, purpose: Purpose, address: tuple[int, int, int], count: int) -> np.ndarray:
    """`count` uint64 numbers at `address`, each part of which must fit in 64 bits.

    The address fills the upper three words of the 256-bit counter, so draws of up to 2**64 numbers at
    different addresses never overlap.
    """
    a, b, c = address
    generator = np.random.Philox(key=[key(seed, purpose), 0], counter=[0, a, b, c])
    return generator.random_raw(count)


def uniform(seed: int, purpose: Purpose, address: tuple[int, int, int], count: int) -> np.ndarray:
    """`count` float64 numbers in [0, 1), 53 bits each, at `address`."""
    return (raw(seed, purpose, address, count) >> np.uint64(11)) * (1.0 / (1 << 53))


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` examples in `epoch`: int64 [count], each index once."""
    return np.argsort(raw(seed, Purpose.ORDER, (epoch, 0, 0), count), kind="stable")
