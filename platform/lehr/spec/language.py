"""Language models over words, what trains them, and the recipes that they read."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lehr.spec.node import Count, Counts, Node, Options, Source, Text, Whole
from lehr.spec.place import Problem

if TYPE_CHECKING:
    from lehr.spec.job import Spec
    from lehr.spec.sections import Samples

Shape = tuple[int, ...]
Words = Annotated[int, Field(ge=3)]  # padding, the unknown word, and one to be known

KNOWN = {
    "epicurious_recipes.json.gz": 18_704,
    "full_format_recipes.json": 20_111,
    "full_format_recipes_excerpt.json": 60,
    "public_domain_recipes.json": 409,
}
"""Recipes with a title and directions in the files that we know; of Kaggle's, as the book's notebook
counts."""
BEGINNING = "recipe for"
"""How texts begin where nobody says."""
LONGEST = 1 << 20
"""Words of a text: each has an address of its own."""
HELD_OUT = 10
"""One recipe in so many is held out, unless the job says how many."""


class _Recurrent(Node):
    """A recurrent network over words: an embedding, layers of cells, a softmax over the vocabulary."""

    objectives: ClassVar[tuple[str, ...]] = ("language",)
    draws: ClassVar[str] = "lehr.worker.writing:Writer"
    settings: ClassVar[tuple[str, ...]] = ("temperature", "top_k", "prompt", "length")
    classes: ClassVar[int | None] = None
    gates: ClassVar[int]  # matrices of a cell

    vocabulary: Words = Field(10_000, description="Words that it knows; those of data.vocabulary.")
    embedding: Count = Field(100, description="Numbers that stand for a word.")
    units: Counts = Field((128,), description="Units of each recurrent layer; several are stacked.")
    bidirectional: bool = Field(
        False, description="Each layer reads forwards and backwards: an encoder of whole texts."
    )

    def refusal(self, shape: Shape) -> str | None:
        """Why it cannot take inputs of `shape` [words]; None when it can."""
        return None if len(shape) == 1 else "texts [words] are needed"

    def parameters(self, shape: Shape) -> int:
        """Trainable parameters; the length of the texts does not matter. An encoder has no softmax."""
        width, total = self.embedding, self.vocabulary * self.embedding
        for units in self.units:
            directions = 2 if self.bidirectional else 1
            total += directions * self.gates * (width + units + 1) * units
            width = directions * units
        return total if self.bidirectional else total + (width + 1) * self.vocabulary

    def demands(self, spec: Spec) -> Iterator[Problem]:
        """The data must have as many words; only a model that reads forwards can tell what comes next."""
        yield from _same_words(spec, self.vocabulary)
        if self.bidirectional and spec.objective.kind == "language":
            yield spec.problem(
                "model.bidirectional",
                "a layer that reads backwards has seen the next word: it would copy it, not tell it",
                accepted="true only with an objective of your own, for which the model encodes whole texts",
                do="--set model.bidirectional=false",
            )
        if self.bidirectional and spec.samples is not None:
            came = f"a bidirectional {spec.model.kind} encodes texts and writes none"
            yield spec.problem("samples", came, do="remove samples:")
        elif spec.samples is not None:
            yield from _writable(spec, spec.samples)


class LongShortTermMemory(_Recurrent):
    """LSTM (Hochreiter and Schmidhuber 1997, with forget gates): embedding, layers, softmax over words."""

    target: ClassVar[str] = "lehr.models.recurrent:Recurrent"
    gates: ClassVar[int] = 4

    kind: Literal["lstm"]


class GatedRecurrentUnit(_Recurrent):
    """GRU (Cho et al. 2014): the update gate weighs the old state, the reset gate acts before the product."""

    target: ClassVar[str] = "lehr.models.recurrent:Recurrent"
    gates: ClassVar[int] = 3

    kind: Literal["gru"]


class Language(Node):
    """Cross-entropy of the next word, in nats a word; padding counts for nothing but the first, a text's
    end."""

    target: ClassVar[str] = "lehr.objectives.language:Language"
    metrics: ClassVar[tuple[str, ...]] = ("loss",)
    validation_metrics: ClassVar[tuple[str, ...]] = ("loss",)
    sampler: ClassVar[str | None] = None
    needs_classes: ClassVar[bool] = False

    kind: Literal["language"]


class Recipes(Node):
    """Recipes in JSON, a list of records with `title` and `directions`, as texts of words."""

    target: ClassVar[str] = "lehr.data.recipes:load"
    classes: ClassVar[int | None] = None
    bounds: ClassVar[tuple[float, float] | None] = None  # no images

    kind: Literal["recipes"]
    root: Source | None = Field(None, description="Folder or URL with the file; null: LEHR_DATA.")
    storage_options: Options = Field(
        {}, description="Options of the store of `root`; left out, the job's where the scheme is the same."
    )
    file: Text = Field("epicurious_recipes.json.gz", description="Its name; gzipped or not.")
    vocabulary: Words = Field(10_000, description="Words, padding and the unknown word included.")
    length: Count = Field(200, description="Words that a model reads of a text; the rest is cut off.")
    train_examples: Count | None = Field(None, description="Training recipes; null: all that are left.")
    validation_examples: Whole | None = Field(None, description="Held-out recipes; null: one in ten.")

    @model_validator(mode="after")
    def _counted(self) -> Recipes:
        """A plan is made without the data: of a file that is not known, the job says how much there is."""
        if self.file not in KNOWN and None in (self.train_examples, self.validation_examples):
            told = "train_examples and validation_examples must be given for a file that lehr does not know"
            raise PydanticCustomError("range", told)
        if self.file in KNOWN and KNOWN[self.file] <= (self.validation_examples or 0):
            told = "{file} has {known} recipes: none would be left to train on"
            raise PydanticCustomError("range", told, {"file": self.file, "known": KNOWN[self.file]})
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: [words]."""
        return (self.length,)

    def examples(self) -> tuple[int, int]:
        """Training and held-out examples that a run uses."""
        known, held_out = KNOWN.get(self.file), self.validation_examples
        if known is None:
            assert self.train_examples is not None, "checked when it was read"
            return self.train_examples, held_out or 0
        held_out = known // HELD_OUT if held_out is None else held_out
        return min(known - held_out, self.train_examples or known), held_out


def _same_words(spec: Spec, vocabulary: int) -> Iterator[Problem]:
    """A model of words is trained on data that has as many."""
    there = getattr(spec.data, "vocabulary", None)
    if there is None:
        came = f"model {spec.model.kind} reads words, and {spec.data.kind} has none"
        yield spec.problem("data.kind", came, accepted="recipes, or your own with a key `vocabulary`")
    elif there != vocabulary:
        came = f"{there} words; model {spec.model.kind} has {vocabulary}"
        do = f"--set data.vocabulary={vocabulary}"
        yield spec.problem("data.vocabulary", came, accepted=str(vocabulary), do=do)


def _writable(spec: Spec, asked: Samples) -> Iterator[Problem]:
    """What cannot be drawn would end a training at its first samples."""
    marks = re.escape(string.punctuation)
    told = re.findall(rf"[{marks}]|[^\s{marks}]+", BEGINNING if asked.prompt is None else asked.prompt)
    if not told:
        yield spec.problem("samples.prompt", "there is no word in it")
    elif not len(told) < asked.length <= LONGEST:
        came = f"{asked.length} words, and the prompt's {len(told)} are among them"
        yield spec.problem("samples.length", came, accepted=f"{len(told) + 1} to {LONGEST}")
