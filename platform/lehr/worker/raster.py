"""Samples of autoregressive models of images: pixel by pixel, addressed by (seed, image) alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lehr.dynamics import raster as dynamics
from lehr.figures.grid import grid
from lehr.plan import Plan
from lehr.samples import Drawn
from lehr.seeds import Purpose
from lehr.worker.build import xla
from lehr.worker.sampling import Wanted


class Raster:
    """Draws from a model that can be scanned; compiles once for each seed.

    What it draws has the array `images` float32 [count, height, width, channels], in whole levels, and the
    picture `grid`. Its facts tell how probable the model finds its own samples, in bits a dimension: at
    temperature 1 an estimate of its entropy, to be held against the same number of held-out examples.

    Args:
        plan: of the run.
        model: its network, built; see `lehr.dynamics.raster.Scan`.
        assets: not used.
    """

    def __init__(self, plan: Plan, model: Any, assets: Mapping[str, bytes]) -> None:
        self._plan, self._model = plan, model
        self._by_seed: dict[int, dynamics.Raster] = {}

    def draw(self, wanted: Wanted) -> Drawn:
        """`wanted.count` images at `wanted.temperature`."""
        if wanted.seed not in self._by_seed:
            made = dynamics.Raster(self._model, seed=wanted.seed, xla=xla(self._plan))
            self._by_seed = {wanted.seed: made}  # a program is large, and few come back to a seed
        images, _ = self._by_seed[wanted.seed].draw(wanted.count, temperature=wanted.temperature)
        return Drawn(
            count=wanted.count,
            arrays={"images": images},
            pictures={"grid": grid(images, self._plan.spec.data.bounds or (0.0, 1.0))},
            facts={
                "bits_per_dimension": self._bits(images),
                "purposes": {"draw": Purpose.DRAW.name},
            },
        )

    def _bits(self, images: np.ndarray) -> float:
        groups = range(0, len(images), dynamics.GROUP)
        told = [self._model.log_probability(images[row : row + dynamics.GROUP]) for row in groups]
        return -float(np.concatenate(told).mean()) / (math.prod(images.shape[1:]) * math.log(2.0))
