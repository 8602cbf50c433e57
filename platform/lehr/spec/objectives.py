"""What a step minimises: one class a `kind`; and the sampler that contrastive divergence needs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lehr.spec.autoregressive import Likelihood
from lehr.spec.boltzmann import BoltzmannLearning
from lehr.spec.language import Language
from lehr.spec.node import Attribute, Count, Decay, Fraction, Node, NotNegative, Positive, tag
from lehr.spec.points import Density

_ACCEPTANCE = "with acceptance the noise is sqrt(2 step_size): remove noise and noise_end"
_FROM_NOTHING = "noise_end: there is no geometric fall from a noise of 0"


class Contrastive(Node):
    """Contrastive divergence (Hinton 2002) with a regulariser on the scores (Du and Mordatch 2019)."""

    target: ClassVar[str] = "lehr.objectives.contrastive:Contrastive"
    metrics: ClassVar[tuple[str, ...]] = (
        "loss",
        "regulariser",
        "contrastive_divergence",
        "real_score",
        "fake_score",
        "chain_gradient",
        "chain_displacement",
        "chain_saturation",
        "chain_acceptance",
        "chain_age",
        "chain_age_oldest",
    )
    validation_metrics: ClassVar[tuple[str, ...]] = ("contrastive_divergence", "real_score", "fake_score")
    sampler: ClassVar[str | None] = "langevin"  # the kind that it needs
    needs_classes: ClassVar[bool] = False

    kind: Literal["contrastive"]
    regulariser: NotNegative = Field(0.1, description="Weight of the mean squared scores (alpha).")
    data_noise: NotNegative = Field(
        0.005, description="Standard deviation of the noise added to real examples."
    )


class Classification(Node):
    """Cross-entropy of logits against classes."""

    target: ClassVar[str] = "lehr.objectives.classification:Classification"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    validation_metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    sampler: ClassVar[str | None] = None
    needs_classes: ClassVar[bool] = True

    kind: Literal["classification"]
    label_smoothing: Decay = Field(0.0, description="Share of the probability spread over all classes.")


class CustomObjective(Node):
    """An objective of your own: `package.module:Attribute`, called with this node and the spec."""

    model_config = ConfigDict(extra="allow")
    metrics: ClassVar[tuple[str, ...]] = ()  # not known here
    validation_metrics: ClassVar[tuple[str, ...]] = ()
    sampler: ClassVar[str | None] = None
    needs_classes: ClassVar[bool] = False

    kind: Attribute = Field(
        description="`package.module:Attribute`; every other key is passed on with the node."
    )

    @property
    def target(self) -> str:
        """Where the code is."""
        return self.kind


Objective = Annotated[
    Annotated[Contrastive, Tag("kind=contrastive")]
    | Annotated[Classification, Tag("kind=classification")]
    | Annotated[Likelihood, Tag("kind=likelihood")]
    | Annotated[Density, Tag("kind=density")]
    | Annotated[Language, Tag("kind=language")]
    | Annotated[BoltzmannLearning, Tag("kind=boltzmann")]
    | Annotated[CustomObjective, Tag("kind=custom")],
    Discriminator(tag),
]


class Buffer(Node):
    """The replay buffer of chains: each place in the global batch has its own size / global_batch chains."""

    size: Count = Field(8192, description="Chains kept, over all workers.")
    fresh: Fraction = Field(0.05, description="Chance that a chain starts from noise instead of the buffer.")


class Langevin(Node):
    """Stochastic gradient Langevin dynamics (Welling and Teh 2011) on the inputs."""

    kind: Literal["langevin"]
    steps: Count = Field(60, description="Langevin steps a chain makes in a training step.")
    step_size: Positive = Field(10.0, description="How far a step follows the gradient.")
    noise: NotNegative = Field(0.005, description="Standard deviation of the noise added in a step.")
    noise_end: Positive | None = Field(
        None, description="What the noise falls to, geometrically, by a chain's last step; null: it stays."
    )
    acceptance: bool = Field(
        False,
        description="Metropolis-adjusted: steps are tested, walls reflect, the noise is sqrt(2 step_size).",
    )
    gradient_clip: Positive | None = Field(
        0.03, description="Largest absolute value of a gradient's element."
    )
    buffer: Buffer = Field(Buffer.model_validate({}), description="Where chains rest between training steps.")

    @model_validator(mode="after")
    def one_noise(self) -> Self:
        """Refuse a noise that would not be used, and a fall from nothing."""
        if self.acceptance and (self.noise != type(self).model_fields["noise"].default or self.noise_end):
            raise PydanticCustomError("range", _ACCEPTANCE)
        if self.noise_end is not None and self.noise == 0.0:
            raise PydanticCustomError("range", _FROM_NOTHING)
        return self


class Gibbs(Node):
    """Block Gibbs sampling (Geman and Geman 1984) of binary units."""

    kind: Literal["gibbs"]
    steps: Count = Field(1, description="Sweeps over all units that a chain makes in a training step (k).")
    persistent: bool = Field(
        True, description="Chains go on from step to step, one a place of the batch; else each from the data."
    )


Sampler = Annotated[
    Annotated[Langevin, Tag("kind=langevin")] | Annotated[Gibbs, Tag("kind=gibbs")],
    Discriminator(tag),
]
