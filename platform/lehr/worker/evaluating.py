"""The TensorFlow part of an evaluation: held-out data under a model, its samples, features of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from lehr import seeds
from lehr.data.arrays import Arrays
from lehr.data.feed import Feed
from lehr.dynamics import annealing
from lehr.errors import UserError, letter
from lehr.evaluations.asking import Question, Trained
from lehr.loop.optimizer import averaged
from lehr.loop.step import validation_step
from lehr.loop.train import score
from lehr.measures import likelihood
from lehr.models.features import Features
from lehr.plan import Plan, restore
from lehr.seeds import Purpose
from lehr.spec import kinds
from lehr.strategies.strategy import make
from lehr.worker import sampling
from lehr.worker.build import network, objective_of
from lehr.worker.sampling import Wanted

BLOCK = 512  # images of the data that are rendered at once
IMAGES = "images"  # the array of a kind that draws images
Piece = tuple[str, tuple[int, ...]]
"""What is asked of one process: its name, and numbers of portions where it has some."""


def portion_seed(seed: int, portion: int) -> int:
    """Of portion `portion` of the samples: the first one's are those of `lehr sample` with that seed."""
    return seed if portion == 0 else int(seeds.raw(seed, Purpose.DRAW, (portion, 0, 0), 1)[0] >> np.uint64(2))


class Evaluator:
    """Answers pieces of a question, in one process.

    Each piece's answer depends on the question alone, so that they may be spread in any way.

    Args:
        question: what is asked.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._plan = restore(question.subject.plan)
        self._bounds: tuple[float, float] = self._plan.spec.data.bounds or (0.0, 1.0)

    def answer(self, piece: Piece) -> Any:
        """Of one piece: numbers by name for "validation", "ais" and "marginal"; of all others features,
        float32 [n, features].

        "samples" and "untrained" are of portions; "data" and "held_out" are splits; "noise" is as many images
        as samples.
        """
        name, portions = piece
        if name == "validation":
            return held_out(self._plan, self._model)
        if name == "ais":
            return annealed(self._plan, self._model, seed=self._question.seed)
        if name == "marginal":
            return {"marginal/bits_per_dimension": marginal(self._plan)}
        if name in ("samples", "untrained"):
            model = self._model if name == "samples" else network(self._plan, self._plan.spec.data.shape)
            return np.concatenate(self._drawn(model, portions))
        if name == "noise":
            return self._features(self._noise(), self._bounds)
        return self._of_data("train" if name == "data" else "validation")

    @cached_property
    def _model(self) -> Any:
        return restored(self._plan, self._question.subject)

    @cached_property
    def _features(self) -> Features:
        trained = self._question.extractor
        assert trained is not None, "features without an extractor"
        return extractor(trained, self._plan)

    def _drawn(self, model: Any, portions: Sequence[int]) -> list[np.ndarray]:
        """Features of the samples of each portion; the last portion is cut."""
        asked, features = self._question, self._features
        drawer = sampling.drawer(self._plan, model, asked.subject.assets)
        found = []
        for portion in portions:
            seed = portion_seed(asked.seed, portion)
            wanted = Wanted.of(self._plan, **{**asked.settings, "count": asked.portion, "seed": seed})
            images = _images(self._plan, drawer.draw(wanted).arrays)
            found.append(features(images[: asked.count - portion * asked.portion], self._bounds))
        return found

    def _of_data(self, split: str) -> np.ndarray:
        arrays: Arrays = kinds.load(self._plan.spec.data)(self._plan.spec.data, split)
        blocks = (np.arange(len(arrays))[start : start + BLOCK] for start in range(0, len(arrays), BLOCK))
        return np.concatenate([self._features(arrays.take(rows)[0], self._bounds) for rows in blocks])

    def _noise(self) -> np.ndarray:
        """Uniform between black and white; whole grey levels where the data has such."""
        shape, (low, high) = self._plan.spec.data.shape, self._bounds
        size = (self._question.count, *shape)
        drawn = seeds.uniform(self._question.seed, Purpose.VALIDATION_NOISE, (0, 0, 0), int(np.prod(size)))
        if levels := getattr(self._plan.spec.data, "levels", None):
            return np.floor(drawn.reshape(size) * levels)
        return low + (high - low) * drawn.reshape(size)


def held_out(plan: Plan, model: Any) -> dict[str, float]:
    """The run's own objective on all held-out data, as validation in training does it."""
    strategy, objective = make("single", devices=1), objective_of(plan)
    rows = plan.global_batch
    share = {"seed": plan.spec.train.seed, "global_batch": rows, "first": 0, "rows": rows}
    feed = Feed(kinds.load(plan.spec.data)(plan.spec.data, "validation"), **share)
    names, per = objective.validation_metrics, getattr(objective, "per", "count")
    with feed.validation_batches() as batches:
        found = score(validation_step(model, objective, strategy), batches, names, 1, per)
    return {f"validation/{name}": value for name, value in found.items()}


def restored(plan: Plan, trained: Trained) -> Any:
    """The network that a run is judged by: with the running means of its weights, where it keeps them."""
    return sampling.restored(plan, averaged(trained.weights, trained.averages))


def annealed(plan: Plan, model: Any, *, seed: int) -> dict[str, float]:
    """The log-likelihood of held-out data under a machine whose constant is estimated by annealing, in nats
    an example, with a standard error that has both the estimate's and the data's; exact where it is small."""
    weights = annealing.Weights(
        *(np.asarray(v) for v in (model.kernel, model.visible_bias, model.hidden_bias))
    )
    train, held = _units(plan, "train"), _units(plan, "validation")
    base = annealing.log_odds_of(train.mean(axis=0), examples=len(train))
    constant = annealing.log_partition(weights, seed=seed, base=base)
    found = annealing.log_likelihood(weights, held, constant.value)
    numbers = {
        "validation/log_likelihood": found.value,
        "validation/log_likelihood_error": math.hypot(found.standard_error, constant.standard_error),
        "validation/bits_per_dimension": likelihood.bits_per_dimension(-found.value, held.shape[1]),
        "ais/log_partition": constant.value,
        "ais/log_partition_error": constant.standard_error,
        "ais/effective_chains": constant.effective,
    }
    if min(weights.kernel.shape) <= annealing.ENUMERABLE:
        numbers["exact/log_partition"] = annealing.enumerated(weights)
    return numbers


def marginal(plan: Plan) -> float:
    """Bits per dimension of held-out data under a model of each pixel by itself: what any model must beat."""
    train, held = (_units(plan, split) for split in ("train", "validation"))
    return likelihood.marginal_bits(train, held, levels=int(getattr(plan.spec.data, "levels", None) or 0))


def _units(plan: Plan, split: str) -> np.ndarray:
    """A split as the model sees it, one row an example."""
    arrays: Arrays = kinds.load(plan.spec.data)(plan.spec.data, split)
    return arrays.take(np.arange(len(arrays)))[0].reshape(len(arrays), -1)


def extractor(trained: Trained, plan: Plan) -> Features:
    """The features of a trained LeNet, for the images of `plan`.

    Raises:
        UserError: it is of another model, or for images of another size.
    """
    theirs = restore(trained.plan)
    if theirs.spec.model.kind != "lenet" or theirs.spec.data.shape != plan.spec.data.shape:
        came = f"{trained.source} is a {theirs.spec.model.kind} for inputs {list(theirs.spec.data.shape)}"
        accepted = f"a trained lenet for inputs {list(plan.spec.data.shape)}"
        raise UserError(letter("--features", came, accepted=accepted))
    return Features(restored(theirs, trained), theirs.spec.data.bounds or (0.0, 1.0))


def _images(plan: Plan, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    images = arrays.get(IMAGES)
    if images is None or images.shape[1:] != plan.spec.data.shape:
        came = f"samples of {plan.spec.model.kind} are {', '.join(arrays) or 'no arrays'}: no images"
        raise UserError(letter(f"run {plan.run_id}", came, accepted="--metrics validation"))
    return images
