"""The models: one class a `kind`, which is also its row in the table of kinds.

A row says where the model's code is, which objectives can train it, what draws samples from it ("" for none)
and, without TensorFlow, how many parameters it has. It may have `demands(spec)`: what the model demands of
the rest of a job, as problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from lehr.spec.autoregressive import PixelCNN, PixelCNNMixture
from lehr.spec.boltzmann import BoltzmannMachine, DeepBelief, RestrictedBoltzmann
from lehr.spec.language import GatedRecurrentUnit, LongShortTermMemory
from lehr.spec.node import Attribute, Count, Node, Units, as_tuple, tag
from lehr.spec.place import Problem
from lehr.spec.points import Mixture, Rectangle

if TYPE_CHECKING:
    from lehr.spec.job import Spec

Shape = tuple[int, ...]
LENET_CLASSES = 10


def _convolution(inputs: int, outputs: int, kernel: int) -> int:
    return (inputs * kernel * kernel + 1) * outputs


def _dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _no_images(shape: Shape) -> str | None:
    return None if len(shape) == 3 else "images [height, width, channels] are needed"


class EnergyModel(Node):
    """Deep energy-based model: strided swish convolutions (the first 5x5, the others 3x3), one score out.

    Without convolutions it also takes points, of shape [numbers].
    """

    target: ClassVar[str] = "lehr.models.ebm:EnergyModel"
    objectives: ClassVar[tuple[str, ...]] = ("contrastive",)  # the first is the default
    draws: ClassVar[str] = "lehr.worker.chains:Chains"
    settings: ClassVar[tuple[str, ...]] = ("steps",)  # of `samples:`, that they use
    classes: ClassVar[int | None] = None

    kind: Literal["ebm"]
    filters: Annotated[tuple[Count, ...], BeforeValidator(as_tuple)] = Field(
        (16, 32, 64, 64), description="Filters of each convolution; each halves the image. []: none."
    )
    hidden: Units = Field(64, description="Units of the dense layer before the score; a list: of several.")

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape` [height, width, channels]; None when it can."""
        return _no_images(shape) if self.filters or len(shape) != 1 else None

    def parameters(self, shape: Shape) -> int:
        """Trainable parameters for inputs of `shape`, [height, width, channels] or [numbers]."""
        total = 0
        for layer, filters in enumerate(self.filters):
            height, width, channels = shape
            total += _convolution(channels, filters, 5 if layer == 0 else 3)
            shape = (math.ceil(height / 2), math.ceil(width / 2), filters)
        hidden = (self.hidden,) if isinstance(self.hidden, int) else self.hidden
        return total + sum(_dense(*pair) for pair in pairwise((math.prod(shape), *hidden, 1)))

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """Images are seen by convolutions."""
        if len(spec.data.shape) == 3 and not self.filters:
            came = "[] is not accepted: images are seen by convolutions"
            yield spec.problem("model.filters", came, accepted="a filter count for each, such as [16, 32]")


class LeNet(Node):
    """LeNet-5 (LeCun et al. 1998) with same padding in its first convolution; ten classes."""

    target: ClassVar[str] = "lehr.models.lenet:LeNet"
    objectives: ClassVar[tuple[str, ...]] = ("classification",)
    draws: ClassVar[str] = ""
    settings: ClassVar[tuple[str, ...]] = ()
    classes: ClassVar[int | None] = LENET_CLASSES

    kind: Literal["lenet"]
    activation: Literal["sigmoid", "tanh", "relu"] = Field(
        "sigmoid", description="After every layer but the last."
    )
    pooling: Literal["average", "max"] = Field("average", description="How 2x2 fields are pooled.")

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape` [height, width, channels]; None when it can."""
        return _no_images(shape) or (
            None if min(shape[:2]) >= 12 else "images of at least 12 x 12 are needed"
        )

    def parameters(self, shape: Shape) -> int:
        """Trainable parameters for inputs of `shape` [height, width, channels]."""
        height, width, channels = shape
        features = ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2) * 16
        convolutions = _convolution(channels, 6, 5) + _convolution(6, 16, 5)
        return convolutions + _dense(features, 120) + _dense(120, 84) + _dense(84, LENET_CLASSES)


class CustomModel(Node):
    """A model of your own: `package.module:Attribute`, called with this node and the input's shape."""

    model_config = ConfigDict(extra="allow")
    objectives: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[str] = "lehr.worker.chains:Chains"
    settings: ClassVar[tuple[str, ...]] = ("steps",)
    classes: ClassVar[int | None] = None

    kind: Attribute = Field(
        description="`package.module:Attribute`; every other key is passed on with the node."
    )

    @property
    def target(self) -> str:
        """Where the code is."""
        return self.kind

    def refusal(self, shape: Shape) -> str | None:
        """Not known here."""
        return None

    def parameters(self, shape: Shape) -> None:
        """Not known without running the model's code."""
        return


Model = Annotated[
    Annotated[EnergyModel, Tag("kind=ebm")]
    | Annotated[LeNet, Tag("kind=lenet")]
    | Annotated[PixelCNN, Tag("kind=pixelcnn")]
    | Annotated[PixelCNNMixture, Tag("kind=pixelcnn_mixture")]
    | Annotated[Rectangle, Tag("kind=rectangle")]
    | Annotated[Mixture, Tag("kind=mixture")]
    | Annotated[LongShortTermMemory, Tag("kind=lstm")]
    | Annotated[GatedRecurrentUnit, Tag("kind=gru")]
    | Annotated[RestrictedBoltzmann, Tag("kind=rbm")]
    | Annotated[BoltzmannMachine, Tag("kind=boltzmann")]
    | Annotated[DeepBelief, Tag("kind=dbn")]
    | Annotated[CustomModel, Tag("kind=custom")],
    Discriminator(tag),
]
