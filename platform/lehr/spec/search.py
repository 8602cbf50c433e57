"""The `search:` block: with it, a job file is a sweep, and each trial is the job with some keys changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from lehr.spec.durations import Duration
from lehr.spec.node import Interval, Metric, Node, Positive, as_tuple, rising

Ends = Annotated[tuple[int, int], BeforeValidator(as_tuple), rising]
KINDS = ("log", "uniform", "int", "choice")


class Range(Node):
    """What values a key may take: exactly one of `log`, `uniform`, `int`, `choice`."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    log: Interval | None = Field(None, description="Between these, uniform in the logarithm.")
    uniform: Interval | None = Field(None, description="Between these, uniform.")
    integer: Ends | None = Field(None, alias="int", description="Whole numbers from the first to the last.")
    choice: Annotated[tuple[Any, ...], BeforeValidator(as_tuple)] | None = Field(
        None, description="One of these."
    )
    step: Positive | None = Field(
        None, description="Only the lower end and what lies whole steps above it (uniform, int)."
    )
    when: dict[str, Any] | None = Field(
        None, description="Varies only in trials where these other keys have these values (or one of a list)."
    )

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(kind for kind in KINDS if self._value(kind) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """Its two ends, or all that can be chosen."""
        found: tuple[Any, ...] = self._value(self.kind)
        return found

    def _value(self, kind: str) -> Any:
        return getattr(self, "integer" if kind == "int" else kind)

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        """Refuse none and more than one."""
        given = [kind for kind in KINDS if self._value(kind) is not None]
        if len(given) != 1:
            context = {"units": ", ".join(KINDS), "given": " and ".join(given) or "none"}
            raise PydanticCustomError(
                "one_unit", "exactly one of {units} must be given; {given} came", context
            )
        return self

    @model_serializer
    def given(self) -> dict[str, Any]:
        """What was given, in the words of the file."""
        rest: Mapping[str, Any] = {"step": self.step, "when": self.when}
        told = {name: value for name, value in rest.items() if value is not None}
        return {self.kind: list(self.values), **told}


class Budget(Node):
    """What a sweep may cost."""

    hours: Positive = Field(
        description="Of the clock, over all its launches; then no trial begins, and those that run stop."
    )


class Search(Node):
    """A sweep over the job: which keys vary, who proposes values, who ends trials early."""

    space: dict[str, Range] = Field(
        description="Ranges by the dotted path of a key, such as sampler.step_size.", min_length=1
    )
    algorithm: Literal["grid", "random", "tpe", "bohb"] = Field(
        "random",
        description="Who proposes: grid: all combinations; tpe: Parzen estimators (Bergstra et al. 2011); "
        "bohb: the same over all keys at once, from the longest trials (Falkner et al. 2018).",
    )
    scheduler: Literal["none", "asha", "hyperband", "pbt"] = Field(
        "none",
        description="Who ends trials: asha: successive halving (Li et al. 2020); hyperband: the same in "
        "brackets that begin later; pbt: bad ones go on as changed copies of good ones (Jaderberg et al. "
        "2017).",
    )
    metric: Metric = Field(description="What is compared, such as validation/loss.")
    mode: Literal["min", "max"] = Field("min", description="Whether less or more is better.")
    trials: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many; null: all combinations of a grid."
    )
    concurrent: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Trials at once at most; null: as many as find room."
    )
    grace: Duration | None = Field(
        None,
        description="How long a trial trains before asha or hyperband may end it, and between two looks of "
        "pbt; null: a ninth of the duration.",
    )
    reduction: Annotated[int, Field(ge=2, le=100)] = Field(
        3, description="One of so many trials goes on at each halving of asha and hyperband."
    )
    quantile: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.25, description="Share of the population that counts as bad, and as good, to pbt."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Of all that is proposed.")
    on_divergence: Literal["worst", "stop"] = Field(
        "worst", description="A trial that diverges counts as the worst of all; or it stops the sweep."
    )
    diverged_above: Positive = Field(
        1e6, description="A trial whose loss or metric is farther than this from 0 has diverged."
    )
    budget: Budget | None = Field(None, description="What it may cost at most; null: no bound.")
