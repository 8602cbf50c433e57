"""Samples of models of points in the plane, and what can be told of such a model exactly.

In the plane next to nothing needs to be estimated: a grid of 16 places in each box of the map is fine enough
to say what a model does. `told` makes the picture and the facts of one set.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lehr.data import land
from lehr.dynamics.noise import Noise
from lehr.figures.points import Map
from lehr.figures.points import points as picture
from lehr.plan import Plan
from lehr.samples import Drawn
from lehr.seeds import Purpose
from lehr.spec import kinds
from lehr.worker.sampling import Wanted

LogDensity = Callable[[np.ndarray], np.ndarray]
"""From points float32 [count, 2] to the logarithm of a model's density there [count]."""

PARTS = 4  # places of the grid along each side of a box of the mask
CHUNK = 2048  # places whose distances are held at once
FAINT = 0.1
"""A place counts as covered where a model's density is at least this share of that of the land's own law."""


class Points:
    """Draws from a model with `sample(uniform, normal)` and `log_probability`: `rectangle`, `mixture`.

    What it draws has the array `points` float32 [count, 2] and, where the data is `land`, the picture `map`
    and the facts of `told`.

    Args:
        plan: of the run.
        model: its network, built.
        assets: not used.
    """

    def __init__(self, plan: Plan, model: Any, assets: Mapping[str, bytes]) -> None:
        self._plan, self._model = plan, model

    def draw(self, wanted: Wanted) -> Drawn:
        """`wanted.count` points."""
        noise, count = Noise(wanted.seed, Purpose.DRAW), wanted.count
        uniform = noise.uniform((count, 3), step=0, k=0, first=0)
        normal = noise.normal((count, 2), step=0, k=1, first=0)
        points = np.asarray(self._model.sample(uniform, normal), np.float32)
        pictures, facts = told(self._plan, points, self._log_density, edges=self._edges())
        return Drawn(count=count, arrays={"points": points}, pictures=pictures, facts=facts)

    def _log_density(self, places: np.ndarray) -> np.ndarray:
        return np.asarray(self._model.log_probability(tf.constant(places)), np.float64)

    def _edges(self) -> tuple[float, ...] | None:
        """Left, right, lower and upper edge of a model that is a rectangle."""
        if not hasattr(self._model, "edges"):
            return None
        low, high = (np.asarray(corner, np.float64) for corner in self._model.edges())
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def of_energy(model: Any) -> LogDensity:
    """The log-density of a model whose call gives a score f = -E, over the map [-1, 1] x [-1, 1].

    log p(x) = f(x) - log Z, and Z, the integral of exp(f) over the map, is a sum over the grid: in two
    dimensions the constant that energy-based models never compute is at hand.
    """

    def score(places: np.ndarray) -> np.ndarray:
        return np.asarray(model(tf.constant(places), training=False), np.float64)

    scores = score(_grid())
    most = scores.max()
    constant = most + math.log(land.MAP_AREA * np.exp(scores - most).mean())
    return lambda places: score(places) - constant


def told(
    plan: Plan, samples: np.ndarray, log_density: LogDensity, *, edges: tuple[float, ...] | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Pictures and facts of samples from a model of points on land.

    The facts: how many samples lie in the sea and what share; `coverage_of_land`, the share of the land's
    area where the model's density is at least a tenth of that of the land's own law; the mean
    log-likelihood of held-out points, with the share to which the model gives density 0, and that of the
    land's own law, which no model can exceed but by chance; and the book's points as [longitude, latitude]:

        A  a sample in the sea, the farthest from land
        B  a place on land that the model does not cover, the farthest from what it does
        C  a sample on land, the farthest from the sea

    Args:
        plan: of the run.
        samples: float32 [count, 2].
        log_density: of the model.
        edges: left, right, lower, upper, of a model that is a rectangle.

    Returns:
        Nothing where the data is not `land`.
    """
    if plan.spec.data.kind != "land":
        return {}, {}
    real, covered = land.on_land(samples), _covered(log_density)
    marks = _marks(samples, real, covered)
    facts = _facts(plan, log_density, real, covered) | {
        "marks": {letter: _degrees(place) for letter, place in marks.items()},
        "covers_from_density": FAINT / land.AREA,
    }
    if edges is not None:
        facts["rectangle"] = [180 * edges[0], 180 * edges[1], 90 * edges[2], 90 * edges[3]]
    shown = Map(
        data=kinds.load(plan.spec.data)(plan.spec.data, "train").input,
        samples=samples,
        real=real,
        ground=land.MASK,
        reached=covered.reshape(_shape()),
        edges=edges,
        marks={letter: place.tolist() for letter, place in marks.items()},
        title=_title(plan, facts),
        notes=_notes(facts, marks),
    )
    return {"map": picture(shown)}, facts


def _facts(plan: Plan, log_density: LogDensity, real: np.ndarray, covered: np.ndarray) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "in_the_sea": int((~real).sum()),
        "share_in_the_sea": float((~real).mean()),
        "coverage_of_land": float(covered[land.on_land(_grid())].mean()),
        "log_likelihood_of_the_land": -math.log(land.AREA),
    }
    if plan.validation_examples:
        held_out = log_density(kinds.load(plan.spec.data)(plan.spec.data, "validation").input)
        facts["log_likelihood"] = float(held_out.mean())
        facts["held_out_outside"] = float(np.isneginf(held_out).mean())
    return facts


def _covered(log_density: LogDensity) -> np.ndarray:
    """Which places of the grid a model covers: bool [places]."""
    return log_density(_grid()) >= math.log(FAINT / land.AREA)


def _marks(samples: np.ndarray, real: np.ndarray, covered: np.ndarray) -> dict[str, np.ndarray]:
    grid, middle = _grid(), _middles()
    ground = land.on_land(grid)
    on_map = (np.abs(samples) <= 1.0).all(axis=1)
    found = {
        "A": _farthest(samples[~real & on_map], grid[ground & middle]),
        "B": _farthest(grid[ground & ~covered], grid[covered & middle]),
        "C": _farthest(samples[real], grid[~ground & middle]),
    }
    return {letter: place for letter, place in found.items() if place is not None}


def _farthest(places: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """The one of `places` whose nearest of `others` is farthest; None where there is none of either."""
    if len(places) == 0 or len(others) == 0:
        return None
    parts = np.array_split(places, -(-len(places) // CHUNK))
    nearest = np.concatenate([_squares(part, others).min(axis=1) for part in parts])
    return np.asarray(places[int(np.argmax(nearest))])


def _squares(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances: float [places, others]."""
    apart = np.square(places).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    return np.asarray(apart - 2.0 * places @ others.T)


def _shape() -> tuple[int, int]:
    """Rows and columns of the grid."""
    rows, columns = land.MASK.shape
    return rows * PARTS, columns * PARTS


@functools.cache
def _grid() -> np.ndarray:
    """The places of the grid, rows from the top: float32 [places, 2]."""
    rows, columns = _shape()
    y = 1.0 - (np.arange(rows) + 0.5) * 2.0 / rows
    x = (np.arange(columns) + 0.5) * 2.0 / columns - 1.0
    return np.stack([np.tile(x, rows), np.repeat(y, columns)], axis=1).astype(np.float32)


@functools.cache
def _middles() -> np.ndarray:
    """Which places stand for their whole box where distances are measured: bool [places], one a box."""
    rows, columns = (np.arange(size) % PARTS == PARTS // 2 for size in _shape())
    return np.asarray(np.logical_and.outer(rows, columns).ravel())


def _degrees(place: np.ndarray) -> list[float]:
    """[longitude, latitude]."""
    return [round(180.0 * float(place[0]), 2), round(90.0 * float(place[1]), 2)]


def _title(plan: Plan, facts: Mapping[str, Any]) -> str:
    return (
        f"{plan.spec.model.kind}: {100 * facts['share_in_the_sea']:.0f} % of its samples lie in the sea; "
        f"it covers {100 * facts['coverage_of_land']:.1f} % of the land"
    )


def _notes(facts: Mapping[str, Any], marks: Mapping[str, Any]) -> list[str]:
    letters = {
        "A": "A: generated, and in the sea",
        "B": "B: land that the model cannot generate, or hardly ever",
        "C": "C: possible under both",
    }
    notes = [";  ".join(text for letter, text in letters.items() if letter in marks)]
    if "log_likelihood" in facts:
        told, best = facts["log_likelihood"], facts["log_likelihood_of_the_land"]
        outside = facts["held_out_outside"]
        why = f" ({100 * outside:.1f} % of them lie where the density is 0)" if outside else ""
        notes.append(
            f"log-likelihood of held-out points: {told:.3f}{why}; that of the land's own law: {best:.3f} nats"
        )
    return notes
