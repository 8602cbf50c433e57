"""The Fréchet distance of two sets of features (Heusel et al. 2017, "GANs trained by a two time-scale update
rule")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Mean [features] and covariance [features, features] of a set, float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Of features [examples, features], with the unbiased covariance.

        Raises:
            ValueError: there are no more examples than features, so that the covariance has no full rank: the
                distance would say more about the count than about the model.
        """
        count, dimension = features.shape
        if count <= dimension:
            raise ValueError(
                f"{count} examples of {dimension} features: more examples than features are needed"
            )
        wide = features.astype(np.float64)
        mean = wide.mean(axis=0)
        centred = wide - mean
        return cls(mean, centred.T @ centred / (count - 1))


def distance(one: Moments, other: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians with these moments.

        |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))        (Dowson and Landau 1982, equation 4)

    C1 C2 is not symmetric, and the root of such a matrix is badly conditioned where features hardly vary. Its
    trace is the sum of the roots of the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which are the
    singular values of C1^(1/2) C2^(1/2): taken from there, nothing small is squared.
    """
    shared = np.linalg.svd(_root(one.covariance) @ _root(other.covariance), compute_uv=False).sum()
    apart = one.mean - other.mean
    spread = np.trace(one.covariance) + np.trace(other.covariance) - 2.0 * shared
    return float(max(0.0, apart @ apart + spread))  # rounding may leave it a little below 0


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root; eigenvalues that rounding has left below 0 count as 0."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    root: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
