"""What an evaluation asks, and which numbers a kind of model can give."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.spec.sections import Samples

HELD_OUT = "validation"
LIKELIHOOD = "ais"
OF_IMAGES = ("fid", "kid", "precision", "recall")
METRICS = (HELD_OUT, *OF_IMAGES, LIKELIHOOD)
DIMENSION = 84  # features of our LeNet
SMALLEST = 12  # pixels below which our LeNet has no features
PORTION = 256  # samples that are drawn at once


@dataclass(frozen=True)
class Trained:
    """A model as a checkpoint has it.

    Args:
        plan: the run's `plan.json`.
        weights: by name.
        averages: what the checkpoint has of running means of the weights; {} where training keeps none.
        assets: files that samples need, by name.
        source: where it came from, as people write it.
        metrics: last known ones of its training.
    """

    plan: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    averages: Mapping[str, np.ndarray]
    assets: Mapping[str, bytes]
    source: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of names, shapes and bytes of the weights: with the same one, features are the same."""
        digest = hashlib.sha256()
        for name, array in sorted({**self.weights, **self.averages}.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Question:
    """What an evaluation is of. Its numbers follow from this, however it is spread over tasks.

    Args:
        subject: the model.
        extractor: a trained LeNet, whose features images are compared by; None when none are.
        metrics: of METRICS.
        count: samples.
        seed: of the samples.
        settings: of the samples: all that the model's kind has.
        baselines: whether noise, the untrained model and held-out data are measured beside.
        portion: samples that are drawn at once, each portion from a seed of its own.
    """

    subject: Trained
    extractor: Trained | None
    metrics: tuple[str, ...]
    count: int
    seed: int
    settings: Mapping[str, Any]
    baselines: bool = False
    portion: int = PORTION

    @property
    def portions(self) -> int:
        """How often samples are drawn."""
        return -(-self.count // self.portion)

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that decide the numbers."""
        return {name: metadata.version(name) for name in ("lehr", "tensorflow", "keras", "numpy")}

    @property
    def of_images(self) -> tuple[str, ...]:
        """The metrics that compare samples with data."""
        return tuple(name for name in self.metrics if name in OF_IMAGES)


def chosen(plan: Plan, names: Sequence[str] = (), *, given: bool = False) -> tuple[str, ...]:
    """The metrics to take: those that are named, or all that the plan's model can give.

    Args:
        plan: of the run.
        names: of METRICS; none: all that can be.
        given: whether an extractor was, so that none need be trained on the run's data.

    Raises:
        UserError: a name is none, or this model cannot give it; or there is nothing that it can give.
    """
    reasons = {name: _reason(plan, name, given=given) for name in METRICS}
    possible = tuple(name for name in METRICS if not reasons[name])
    for name in names:
        if why := reasons.get(name, f"there is no metric {name!r}"):
            accepted = ", ".join(possible) or f"none for this run; others: {', '.join(METRICS)}"
            raise UserError(letter("--metrics", why, accepted=accepted))
    if not possible:
        came = "; ".join(sorted(set(reasons.values())))
        raise UserError(letter(f"run {plan.run_id}", f"there is nothing to evaluate: {came}"))
    return tuple(name for name in possible if name in names) if names else possible


def settings(plan: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of samples of the plan's model: what is given and not None, else as in the job, else the defaults.

    Args:
        plan: of the run.
        given: by name.

    Raises:
        UserError: samples of this model have no such setting.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    for name in wanted:
        if name not in plan.spec.model.settings:
            came = f"samples of {plan.spec.model.kind} have no {name}"
            accepted = ", ".join(f"--{key}" for key in plan.spec.model.settings if key in given) or "none"
            raise UserError(letter(f"--{name}", came, accepted=accepted))
    node = plan.spec.samples
    defaults = {name: Samples.model_fields[name].default for name in plan.spec.model.settings}
    asked = {} if node is None else {name: getattr(node, name) for name in defaults}
    return defaults | asked | wanted


def _reason(plan: Plan, metric: str, *, given: bool) -> str:
    """Why the plan's model cannot give `metric`; "" when it can."""
    spec = plan.spec
    if metric == HELD_OUT:
        return "" if plan.validation_examples else f"{metric}: the job holds no data out"
    if metric == LIKELIHOOD:
        if spec.model.kind != "rbm":
            return f"{metric}: {spec.model.kind} is no rbm"
        return "" if plan.validation_examples > 1 else f"{metric}: the job holds no data out"
    if not spec.draws:
        return f"{metric}: {spec.model.kind} draws no samples"
    if len(spec.data.shape) != 3:
        return f"{metric}: samples of {spec.model.kind} are no images"
    if given:
        return ""
    if getattr(spec.data, "native_size", None) is None:
        return f"{metric}: our LeNet cannot be trained on data of {spec.data.kind}; give --features RUN"
    small = min(spec.data.shape[:2]) < SMALLEST
    return f"{metric}: images of {SMALLEST} x {SMALLEST} pixels or more are needed" if small else ""
