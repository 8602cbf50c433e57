"""Points in the plane: the toy of the first chapter, two densities that fit it, and what trains them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lehr.spec.node import Count, Node, Positive, Whole

Shape = tuple[int, ...]


def _no_points(shape: Shape) -> str | None:
    return None if shape == (2,) else "points in the plane, of shape [2], are needed"


class Rectangle(Node):
    """Uniform inside one axis-aligned rectangle, zero outside (Foster, 2nd ed., ch. 1): four parameters."""

    target: ClassVar[str] = "lehr.models.rectangle:Rectangle"
    objectives: ClassVar[tuple[str, ...]] = ("density",)
    draws: ClassVar[str] = "lehr.worker.points:Points"
    settings: ClassVar[tuple[str, ...]] = ()
    classes: ClassVar[int | None] = None

    kind: Literal["rectangle"]
    slope: Positive = Field(
        300.0, description="Nats that a point costs for each unit that it lies outside, while training."
    )

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape`; None when it can."""
        return _no_points(shape)

    def parameters(self, shape: Shape) -> int:
        """Left, right, lower and upper edge."""
        return 4


class Mixture(Node):
    """A mixture of normal distributions, each with a full covariance."""

    target: ClassVar[str] = "lehr.models.mixture:Mixture"
    objectives: ClassVar[tuple[str, ...]] = ("density",)
    draws: ClassVar[str] = "lehr.worker.points:Points"
    settings: ClassVar[tuple[str, ...]] = ()
    classes: ClassVar[int | None] = None

    kind: Literal["mixture"]
    components: Count = Field(8, description="Normal distributions.")
    least_scale: Positive = Field(
        0.02, description="Least diagonal element of a covariance's root: none shrinks onto a single point."
    )

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape`; None when it can."""
        return _no_points(shape)

    def parameters(self, shape: Shape) -> int:
        """Of each component its share, its mean (2) and its covariance (3)."""
        return 6 * self.components


class Density(Node):
    """Maximum likelihood of points: minus the mean of the logarithm of the model's density there."""

    target: ClassVar[str] = "lehr.objectives.density:Density"
    metrics: ClassVar[tuple[str, ...]] = ("loss",)
    validation_metrics: ClassVar[tuple[str, ...]] = ("loss", "log_likelihood", "outside")
    sampler: ClassVar[str | None] = None
    needs_classes: ClassVar[bool] = False

    kind: Literal["density"]


class Land(Node):
    """Points drawn uniformly from the land on a coarse map of the world, which is [-1, 1] x [-1, 1].

    The map is in the package; there are no files.
    """

    target: ClassVar[str] = "lehr.data.land:load"
    shape: ClassVar[Shape] = (2,)
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    classes: ClassVar[int | None] = None
    levels: ClassVar[int | None] = None
    root: ClassVar[str | None] = None
    storage_options: ClassVar[dict[str, str]] = {}

    kind: Literal["land"]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Which points are drawn.")
    train_examples: Count = Field(256, description="Points to train on.")
    validation_examples: Whole = Field(1024, description="Held-out points.")

    def examples(self) -> tuple[int, int]:
        """Training and held-out examples that a run uses."""
        return self.train_examples, self.validation_examples
