"""The data sources: one class a `kind`, with what is known of the data without loading it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from lehr.spec.language import Recipes
from lehr.spec.node import Attribute, Count, Counts, Interval, Node, Options, Source, Whole, tag
from lehr.spec.points import Land

_OPTIONS = "Options of the store of `root`; left out, the job's where the scheme is the same."


class _Images(Node):
    """Grey images in ten classes."""

    available: ClassVar[tuple[int, int]]  # training, held out
    native_size: ClassVar[int]
    classes: ClassVar[int] = 10

    root: Source | None = Field(
        None, description="Where the files are: a folder or a URL; null: the public home."
    )
    storage_options: Options = Field({}, description=_OPTIONS)
    image_size: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Height and width in pixels; null: as published."
    )
    range: Interval = Field((0.0, 1.0), description="What black and white become.")
    levels: Annotated[int, Field(ge=2, le=256)] | None = Field(
        None, description="Grey levels: pixels are the whole numbers 0 to levels - 1, without a range."
    )
    train_examples: Count | None = Field(None, description="Use only the first n training examples.")
    validation_examples: Count | None = Field(None, description="Use only the first n held-out examples.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: [height, width, channels]."""
        size = self.image_size or self.native_size
        return (size, size, 1)

    @property
    def bounds(self) -> tuple[float, float]:
        """What black and white become."""
        return (0.0, self.levels - 1.0) if self.levels else self.range

    def examples(self) -> tuple[int, int]:
        """Training and held-out examples that a run uses."""
        train, held_out = self.available
        return min(train, self.train_examples or train), min(held_out, self.validation_examples or held_out)


class Digits(_Images):
    """The 1,797 8x8 digits in scikit-learn (UCI): 1,500 to train, the last 297 held out."""

    target: ClassVar[str] = "lehr.data.digits:load"
    available: ClassVar[tuple[int, int]] = (1500, 297)
    native_size: ClassVar[int] = 8

    kind: Literal["digits"]


class Mnist(_Images):
    """MNIST (LeCun, Cortes and Burges): 60,000 and 10,000 handwritten digits of 28x28."""

    target: ClassVar[str] = "lehr.data.idx:load_mnist"
    available: ClassVar[tuple[int, int]] = (60_000, 10_000)
    native_size: ClassVar[int] = 28

    kind: Literal["mnist"]


class FashionMnist(_Images):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 pieces of clothing of 28x28."""

    target: ClassVar[str] = "lehr.data.idx:load_fashion_mnist"
    available: ClassVar[tuple[int, int]] = (60_000, 10_000)
    native_size: ClassVar[int] = 28

    kind: Literal["fashion_mnist"]


class CustomData(Node):
    """Data of your own: `package.module:Attribute`, called with this node and a split's name."""

    model_config = ConfigDict(extra="allow")

    kind: Attribute = Field(
        description="`package.module:Attribute`; every other key is passed on with the node."
    )
    root: Source | None = Field(None, description="Where the files are: a folder or a URL.")
    storage_options: Options = Field({}, description=_OPTIONS)
    range: Interval = Field((0.0, 1.0), description="The range of the inputs.")
    shape: Counts = Field(description="Of one example: [height, width, channels] for images.")
    levels: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Inputs are the whole numbers 0 to levels - 1; null: any."
    )
    classes: Count | None = Field(None, description="How many classes the targets have, if they are classes.")
    train_examples: Count = Field(description="How many training examples there are.")
    validation_examples: Whole = Field(description="How many held-out examples there are.")

    @property
    def target(self) -> str:
        """Where the code is."""
        return self.kind

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of the inputs."""
        return (0.0, self.levels - 1.0) if self.levels else self.range

    def examples(self) -> tuple[int, int]:
        """Training and held-out examples that a run uses."""
        return self.train_examples, self.validation_examples


Data = Annotated[
    Annotated[Digits, Tag("kind=digits")]
    | Annotated[Mnist, Tag("kind=mnist")]
    | Annotated[FashionMnist, Tag("kind=fashion_mnist")]
    | Annotated[Land, Tag("kind=land")]
    | Annotated[Recipes, Tag("kind=recipes")]
    | Annotated[CustomData, Tag("kind=custom")],
    Discriminator(tag),
]
