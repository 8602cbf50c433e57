"""What chains are like: their slope, how far they go, how many pixels stick at the walls, how old they are.

In training, numbers of each chain, whose mean over all slots is a metric. Of samples, how long a chain
remembers: the autocorrelation of its energy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from lehr.dynamics.langevin import Ends

METRICS = (
    "chain_gradient",
    "chain_displacement",
    "chain_saturation",
    "chain_acceptance",
    "chain_age",
    "chain_age_oldest",
)
WALL = 1.0 - 1.0 / 255.0  # beyond it a pixel is black or white when printed in 256 greys
LAGS = (1, 10, 100)


def of_chains(start: Any, ends: Ends, *, steps: int) -> dict[str, Any]:
    """Numbers of each chain of a training step, float32 [batch].

    Args:
        start: where they started, images [batch, ...].
        ends: where they are after `steps` steps.
        steps: of each.

    Returns:
        `chain_gradient`: mean |dE/dx| over pixels where the last step began, before its bound.
        `chain_displacement`: root mean square over pixels of end - start.
        `chain_saturation`: share of pixels that are black or white at the end.
        `chain_acceptance`: share of steps that were taken.
    """
    axes = list(range(1, ends.images.shape.rank))
    at_wall = tf.cast(tf.abs(ends.images) >= WALL, tf.float32)
    return {
        "chain_gradient": tf.reduce_mean(tf.abs(ends.gradient), axes),
        "chain_displacement": tf.sqrt(tf.reduce_mean((ends.images - start) ** 2, axes)),
        "chain_saturation": tf.reduce_mean(at_wall, axes),
        "chain_acceptance": ends.taken / float(steps),
    }


def autocorrelation(values: np.ndarray) -> np.ndarray:
    """Of series [steps, chains]: float64 [steps], at lags 0, 1, ...; 1 at lag 0, NaN if nothing varies.

    Covariances are about each chain's own mean, divided by the number of steps (so they fade where few
    pairs are left), and averaged over chains before they are divided by the variance.
    """
    steps = len(values)
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    spectrum = np.fft.rfft(centred, 2 * steps, axis=0)  # twice as long: a chain does not go round
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:steps].mean(axis=1) / steps
    scale = covariance[0]
    return covariance / scale if scale > 0 else np.full(steps, np.nan)


def integrated(correlation: np.ndarray) -> float:
    """The integrated autocorrelation time in steps, 1 + 2 sum of `correlation` from lag 1 on: a chain of n
    steps tells as much as n / time independent draws. The sum ends before the first pair of lags that sums
    to nothing or less (Geyer 1992, Statistical Science 7(4), section 3.3)."""
    if not np.isfinite(correlation).all():
        return float("nan")
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    upto = int(ended[0]) if len(ended) else len(pairs)
    return max(1.0, float(2.0 * pairs[:upto].sum() - 1.0))


def of_energies(energies: np.ndarray) -> dict[str, Any]:
    """Facts of samples from `energies` float [steps, chains], as JSON has them: the autocorrelation at the
    lags of `LAGS` that fit, and the integrated time. The first half is left out, where chains still fall;
    None for what cannot be told."""
    settled = energies[len(energies) // 2 :]
    if len(settled) < 4 or not settled.size or not np.isfinite(settled).all():
        return {"energy_autocorrelation": {}, "energy_autocorrelation_steps": None}
    correlation = autocorrelation(settled)
    time = integrated(correlation)
    lags = [lag for lag in LAGS if 4 * lag <= len(settled)]
    known = bool(np.isfinite(correlation).all())
    return {
        "energy_autocorrelation": {str(lag): float(correlation[lag]) for lag in lags} if known else {},
        "energy_autocorrelation_steps": time if known else None,
    }
