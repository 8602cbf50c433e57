"""Likelihoods in the units that papers use."""

from __future__ import annotations

import math

import numpy as np


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """From the mean negative log-likelihood of an example in nats, with a density over whole grey levels.

    Args:
        nats: of one example.
        dimensions: its numbers: height x width x channels.
    """
    return nats / (dimensions * math.log(2.0))


def perplexity(nats: float) -> float:
    """Of a word's mean cross-entropy in nats: so many equally likely words would be as hard to guess."""
    return math.exp(nats) if nats < math.log(1.7e308) else math.inf


def marginal_bits(train: np.ndarray, held_out: np.ndarray, *, levels: int) -> float:
    """Bits per dimension of held-out examples under independent dimensions, each with the share that its
    levels have in training (one example more of each level, so that none is impossible: Laplace's rule).

    Args:
        train: whole numbers 0 to levels - 1, [examples, dimensions].
        held_out: the same, [others, dimensions].
        levels: how many.
    """
    known, wanted = train.astype(np.int64), held_out.astype(np.int64)
    places = np.arange(known.shape[1])
    counts = np.bincount((known + places * levels).ravel(), minlength=known.shape[1] * levels)
    shares = (counts.reshape(-1, levels) + 1.0) / (len(known) + levels)
    return float(-np.log2(shares[places, wanted]).mean())
