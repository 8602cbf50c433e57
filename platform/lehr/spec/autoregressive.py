"""Autoregressive models of images: pixel by pixel, each given those before it. And what trains them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lehr.spec.node import Count, Decay, Node
from lehr.spec.place import Problem

if TYPE_CHECKING:
    from lehr.spec.job import Spec

Shape = tuple[int, ...]


class PixelCNN(Node):
    """PixelCNN (van den Oord et al. 2016) over grey levels: a softmax a pixel, given those before it."""

    target: ClassVar[str] = "lehr.models.pixelcnn:PixelCNN"
    objectives: ClassVar[tuple[str, ...]] = ("likelihood",)
    draws: ClassVar[str] = "lehr.worker.raster:Raster"
    settings: ClassVar[tuple[str, ...]] = ("temperature",)
    classes: ClassVar[int | None] = None

    kind: Literal["pixelcnn"]
    filters: Annotated[int, Field(ge=2)] = Field(
        128, description="Filters of every layer; half of them inside of blocks."
    )
    blocks: Count = Field(5, description="Residual blocks; each sees one pixel further.")
    levels: Annotated[int, Field(ge=2, le=256)] = Field(4, description="Grey levels; those of data.levels.")

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape` [height, width, channels]; None when it can."""
        return _no_grey_images(shape)

    def parameters(self, shape: Shape) -> int:
        """Stored weights, masked ones included, for inputs of `shape`."""
        whole, half = self.filters, self.filters // 2
        first = (7 * 7 + 1) * whole
        block = (whole + 1) * half + (9 * half + 1) * half + (half + 1) * whole
        return first + self.blocks * block + 2 * (whole + 1) * whole + (whole + 1) * self.levels

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """The data must have as many grey levels."""
        yield from _same_levels(spec, self.levels)


class PixelCNNMixture(Node):
    """PixelCNN++ (Salimans et al. 2017): two streams, a mixture of discretised logistics a pixel."""

    target: ClassVar[str] = "lehr.models.pixelcnn_mixture:PixelCNNMixture"
    objectives: ClassVar[tuple[str, ...]] = ("likelihood",)
    draws: ClassVar[str] = "lehr.worker.raster:Raster"
    settings: ClassVar[tuple[str, ...]] = ("temperature",)
    classes: ClassVar[int | None] = None

    kind: Literal["pixelcnn_mixture"]
    filters: Count = Field(32, description="Filters of each stream.")
    blocks: Count = Field(
        1, description="Gated residual blocks a size on the way down; one more on the way up."
    )
    hierarchies: Annotated[int, Field(ge=1, le=6)] = Field(
        2, description="Sizes that the network works at; each halves the one before."
    )
    mixtures: Count = Field(5, description="Logistic distributions in a pixel's mixture.")
    dropout: Decay = Field(0.3, description="Share of features that a block drops in training.")
    levels: Annotated[int, Field(ge=2, le=256)] = Field(256, description="Grey levels; those of data.levels.")

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape` [height, width, channels]; None when it can."""
        if len(shape) != 3:
            return "images [height, width, channels] are needed"
        if shape[2] not in (1, 3):
            return "images of 1 or 3 channels are needed"
        least = 2 ** (self.hierarchies - 1)
        return None if min(shape[:2]) >= least else f"{self.hierarchies} hierarchies need {least} pixels"

    def parameters(self, shape: Shape) -> int:
        """Trainable parameters for inputs of `shape` [height, width, channels]."""
        channels, filters, outer = shape[2], self.filters, self.hierarchies - 1
        entrance = (6 + 3 + 2) * (channels + 1) * filters + 3 * filters
        down = self._gated(6, 0) + self._gated(4, 1)
        up = self._gated(6, 1) + self._gated(4, 2)
        steps = (6 + 4) * filters**2 + 2 * filters + 2 * (filters + 1) * 4 * filters
        outputs = self.mixtures * (1 + 2 * channels + channels * (channels - 1) // 2)
        return (
            entrance
            + self.hierarchies * self.blocks * (down + up)
            + outer * (up + steps)
            + (filters + 1) * outputs
        )

    def _gated(self, taps: int, beside: int) -> int:
        """Parameters of a block whose kernels have `taps`, with `beside` inputs from other streams."""
        filters = self.filters
        first = taps * 2 * filters * filters + filters
        skip = (2 * filters * beside + 1) * filters if beside else 0
        return first + skip + (taps * 2 * filters + 1) * 2 * filters

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """The data must have as many grey levels."""
        yield from _same_levels(spec, self.levels)


class Likelihood(Node):
    """Maximum likelihood: minus the mean log-probability of the examples."""

    target: ClassVar[str] = "lehr.objectives.likelihood:Likelihood"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_dimension")
    validation_metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_dimension")
    sampler: ClassVar[str | None] = None
    needs_classes: ClassVar[bool] = False

    kind: Literal["likelihood"]


def _no_grey_images(shape: Shape) -> str | None:
    fits = len(shape) == 3 and shape[2] == 1
    return None if fits else "images of one channel [height, width, 1] are needed"


def _same_levels(spec: Spec, levels: int) -> Iterator[Problem]:
    """A model of whole grey levels is trained on data that has as many."""
    there = getattr(spec.data, "levels", None)
    if there == levels:
        return
    if there is None:
        came = f"missing: model {spec.model.kind} gives each of {levels} grey levels a probability"
    else:
        came = f"{there} grey levels; model {spec.model.kind} has {levels}"
    yield spec.problem("data.levels", came, accepted=str(levels), do=f"--set data.levels={levels}")
