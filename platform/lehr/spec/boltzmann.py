"""Boltzmann machines: networks of binary units with an energy. And what trains them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lehr.spec.durations import Duration
from lehr.spec.node import Count, Counts, Node, NotNegative
from lehr.spec.place import Problem

if TYPE_CHECKING:
    from lehr.spec.job import Spec

Shape = tuple[int, ...]
LEVELS = 2
_LAYER = "objective.layer"


class RestrictedBoltzmann(Node):
    """Restricted Boltzmann machine (Smolensky 1986; Hinton 2002): two layers of binary units, connected only
    with each other."""

    target: ClassVar[str] = "lehr.models.rbm:RestrictedBoltzmannMachine"
    objectives: ClassVar[tuple[str, ...]] = ("boltzmann",)
    draws: ClassVar[str] = "lehr.worker.gibbs:Gibbs"
    settings: ClassVar[tuple[str, ...]] = ("steps",)
    classes: ClassVar[int | None] = None

    kind: Literal["rbm"]
    hidden: Count = Field(500, description="Hidden units; the visible ones are the pixels.")

    def refusal(self, shape: Shape) -> str | None:
        """It takes numbers of any shape."""
        return None

    def parameters(self, shape: Shape) -> int:
        """Weights between the layers, and a bias for each unit."""
        return _pair(math.prod(shape), self.hidden)

    def chain(self, shape: Shape) -> int:
        """Units in which a persistent chain rests: the hidden ones."""
        return self.hidden

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """Binary data, and no layers."""
        yield from _binary(spec)
        yield from _one_layer(spec)


class BoltzmannMachine(Node):
    """General Boltzmann machine (Ackley, Hinton and Sejnowski 1985): all units are connected. Each is
    drawn by itself, so keep it small."""

    target: ClassVar[str] = "lehr.models.boltzmann:BoltzmannMachine"
    objectives: ClassVar[tuple[str, ...]] = ("boltzmann",)
    draws: ClassVar[str] = "lehr.worker.gibbs:Gibbs"
    settings: ClassVar[tuple[str, ...]] = ("steps",)
    classes: ClassVar[int | None] = None

    kind: Literal["boltzmann"]
    hidden: Count = Field(16, description="Hidden units; the visible ones are the pixels.")

    def refusal(self, shape: Shape) -> str | None:
        """It takes numbers of any shape."""
        return None

    def parameters(self, shape: Shape) -> int:
        """A weight for each pair of units, and a bias for each unit."""
        units = math.prod(shape) + self.hidden
        return units * (units - 1) // 2 + units

    def chain(self, shape: Shape) -> int:
        """Units in which a persistent chain rests: all."""
        return math.prod(shape) + self.hidden

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """Binary data, and no layers."""
        yield from _binary(spec)
        yield from _one_layer(spec)


class DeepBelief(Node):
    """Deep belief network (Hinton, Osindero and Teh 2006): restricted Boltzmann machines on top of each
    other, trained one after the other."""

    target: ClassVar[str] = "lehr.models.dbn:DeepBeliefNetwork"
    objectives: ClassVar[tuple[str, ...]] = ("boltzmann",)
    draws: ClassVar[str] = "lehr.worker.gibbs:Gibbs"
    settings: ClassVar[tuple[str, ...]] = ("steps",)
    classes: ClassVar[int | None] = None

    kind: Literal["dbn"]
    hidden: Counts = Field((500, 500), description="Hidden units of each machine, from below.")

    def refusal(self, shape: Shape) -> str | None:
        """It takes numbers of any shape."""
        return None

    def parameters(self, shape: Shape) -> int:
        """Of all machines; the hidden units of one are the visible ones of the next."""
        sizes = (math.prod(shape), *self.hidden)
        return sum(_pair(below, above) for below, above in pairwise(sizes))

    def chain(self, shape: Shape) -> int:
        """Units in which a persistent chain rests: the hidden ones of all machines."""
        return sum(self.hidden)

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """Binary data, and a training that reaches every layer, in order."""
        yield from _binary(spec)
        if spec.recovery.on_divergence == "rollback":
            came = "rollback passes over batches, and the layers of a deep belief network are told by them"
            yield spec.problem("recovery.on_divergence", came, accepted="stop, halve_step")
        if not isinstance(spec.objective, BoltzmannLearning):
            return
        if spec.objective.layer is None:
            came = "missing: the layers of a deep belief network are trained one after the other"
            yield spec.problem(_LAYER, came, accepted="how long each but the last", do=_set("{epochs: 10}"))
            return
        size = {"train_examples": spec.data.examples()[0], "global_batch": spec.train.global_batch}
        below = (len(self.hidden) - 1) * spec.objective.layer.steps_for(**size)
        if spec.train.duration.steps_for(**size) <= below:
            came = f"training ends before the last of {len(self.hidden)} layers begins, at step {below}"
            yield spec.problem("train.duration", came, accepted=f"more than {below} steps")


class BoltzmannLearning(Node):
    """Maximum likelihood of a Boltzmann machine by contrastive divergence (Hinton 2002; Tieleman 2008)."""

    target: ClassVar[str] = "lehr.objectives.boltzmann:Boltzmann"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "energy_gap", "data_energy", "chain_energy")
    validation_metrics: ClassVar[tuple[str, ...]] = ("pseudo_log_likelihood", "reconstruction", "data_energy")
    sampler: ClassVar[str | None] = "gibbs"
    needs_classes: ClassVar[bool] = False

    kind: Literal["boltzmann"]
    weight_decay: NotNegative = Field(
        0.0, description="Weight of half the sum of the squared weights between units."
    )
    settle: Count = Field(
        10, description="Sweeps over the hidden units of a general machine with the data clamped."
    )
    layer: Duration | None = Field(
        None, description="How long each layer of a deep belief network but the last is trained."
    )


def _pair(visible: int, hidden: int) -> int:
    return visible * hidden + visible + hidden


def _binary(spec: Spec) -> Iterator[Problem]:
    """Units are 0 or 1. What data of one's own holds is not known."""
    there = getattr(spec.data, "levels", None)
    if there == LEVELS or (there is None and ":" in spec.data.kind):
        return
    came = f"{there} grey levels" if there else "missing: grey levels would be pixels between 0 and 1"
    came += f"; the units of model {spec.model.kind} are 0 or 1"
    has = "levels" in type(spec.data).model_fields
    do = f"--set data.levels={LEVELS}" if has else "choose images: digits, mnist or fashion_mnist"
    yield spec.problem("data.levels", came, accepted=str(LEVELS), do=do)


def _one_layer(spec: Spec) -> Iterator[Problem]:
    if isinstance(spec.objective, BoltzmannLearning) and spec.objective.layer is not None:
        came = f"model {spec.model.kind} has no layers to train one after the other"
        yield spec.problem(_LAYER, came, do="remove layer:")


def _set(value: str) -> str:
    return f"--set '{_LAYER}={value}'"
