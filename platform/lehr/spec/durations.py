"""How long and how often, each with its unit."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from lehr.cadence import Cadence, Unit, to_steps
from lehr.spec.node import Count, Node, Positive

_ONE_STEP = "exactly one of {units} must be given; {given} came"


class _Amount(Node):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    steps: Count | None = Field(None, description="Updates of the parameters.")
    epochs: Count | None = Field(None, description="Times that every training example is seen.")
    examples: Count | None = Field(None, description="Training examples seen; rounded up to a whole step.")

    @model_validator(mode="after")
    def one_unit(self) -> Self:
        """Refuse none and more than one."""
        names = tuple(type(self).model_fields)
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            context = {"units": ", ".join(names), "given": " and ".join(given) or "none"}
            raise PydanticCustomError("one_unit", _ONE_STEP, context)
        return self

    @model_serializer
    def given(self) -> dict[str, int | float]:
        """The one unit and its amount."""
        amounts = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: amount for name, amount in amounts if amount is not None}

    def counted(self) -> tuple[int, Unit] | None:
        """The count and its unit; None when the unit is one of the clock."""
        units: tuple[Unit, ...] = ("steps", "epochs", "examples")
        found = [(getattr(self, unit), unit) for unit in units if getattr(self, unit) is not None]
        return found[0] if found else None


class Duration(_Amount):
    """How long to train: exactly one of `steps`, `epochs`, `examples`."""

    def steps_for(self, *, train_examples: int, global_batch: int) -> int:
        """The duration in steps."""
        counted = self.counted()
        assert counted is not None  # one_unit has seen to it
        return to_steps(*counted, train_examples=train_examples, global_batch=global_batch)


class Every(_Amount):
    """How often: exactly one of `steps`, `epochs`, `examples`, `minutes`."""

    minutes: Positive | None = Field(None, description="Minutes by rank 0's clock.")

    def cadence_for(self, *, train_examples: int, global_batch: int) -> Cadence:
        """The cadence in steps or in minutes."""
        counted = self.counted()
        if counted is None:
            return Cadence(minutes=self.minutes)
        return Cadence(steps=to_steps(*counted, train_examples=train_examples, global_batch=global_batch))
