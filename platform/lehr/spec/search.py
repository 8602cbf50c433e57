"""The `search:` block: with it, a job file is a sweep, and each trial is the job with some keys changed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lehr.spec.durations import Duration
from lehr.spec.node import Interval, Metric, Node, Positive, as_tuple, rising

KINDS = ("log", "uniform", "int", "choice")
MOST = 100_000  # trials of a sweep
_COUNTED = 2**53  # floats tell no more whole numbers apart
ACCEPTED = (
    "one of log: [a, b], uniform: [a, b], int: [a, b], choice: [...]; with step: and when: where wanted"
)
CALLED_ELSEWHERE = {
    "loguniform": "log",
    "log_uniform": "log",
    "qloguniform": "log with step",
    "quniform": "uniform with step",
    "randint": "int",
    "qrandint": "int with step",
    "lograndint": "log with step: 1",
    "grid_search": "choice",
    "categorical": "choice",
    "values": "choice",
    "q": "step",
    "if": "when",
}


def canonical(value: Any) -> str:
    """A text that is the same for values that mean the same: 1 and 1.0 do, 1 and true do not."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _above_zero(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] <= 0:
        context = {"low": f"{ends[0]:g}"}
        raise PydanticCustomError("range", "{low} has no logarithm: the ends must be above 0", context)
    return ends


def _choices(values: tuple[Any, ...]) -> tuple[Any, ...]:
    known = [canonical(value) for value in values]
    if not values:
        raise PydanticCustomError("range", "an empty list: there is nothing to choose")
    if twice := next((one for one in known if known.count(one) > 1), None):
        raise PydanticCustomError("range", "{twice} is there a second time", {"twice": twice[:60]})
    return values


def _conditions(given: dict[str, Any]) -> dict[str, Any]:
    if not given:
        raise PydanticCustomError("range", "an empty mapping: leave the key out for always")
    if empty := next((path for path, value in given.items() if value == []), None):
        raise PydanticCustomError("range", "{path}: an empty list: it has none of these", {"path": empty})
    return given


Ends = Annotated[tuple[int, int], BeforeValidator(as_tuple), rising]
_VALUES = {"type": "array", "items": {}, "minItems": 1}
Choices = Annotated[
    tuple[Any, ...], BeforeValidator(as_tuple), AfterValidator(_choices), WithJsonSchema(_VALUES)
]


class Range(Node):
    """What values a key may take: exactly one of `log`, `uniform`, `int`, `choice`."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "errorMessage": ACCEPTED})

    log: Annotated[Interval, AfterValidator(_above_zero)] | None = Field(
        None, description="Between these, uniform in the logarithm."
    )
    uniform: Interval | None = Field(None, description="Between these, uniform.")
    integer: Ends | None = Field(None, alias="int", description="Whole numbers from the first to the last.")
    choice: Choices | None = Field(None, description="One of these.")
    step: Positive | None = Field(
        None,
        description="Only the lower end and what lies whole steps above it (log, uniform, int); whole "
        "numbers where the lower end and the step are whole.",
    )
    when: Annotated[dict[str, Any], AfterValidator(_conditions)] | None = Field(
        None, description="Varies only in trials where these other keys have these values (or one of a list)."
    )

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return next(kind for kind in KINDS if self._value(kind) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """What was given: two ends, or all that can be chosen."""
        found: tuple[Any, ...] = self._value(self.kind)
        return found

    @property
    def count(self) -> int | None:
        """How many values it can give; None: it is continuous."""
        if self.kind == "choice":
            return len(self.values)
        step = self._step
        return None if step is None else int((_exact(self.values[1]) - _exact(self.values[0])) // step) + 1

    @property
    def ends(self) -> tuple[Any, ...]:
        """The least and the greatest value that it can give, or all that can be chosen."""
        if self.kind == "choice" or self.count is None:
            return self.values
        return tuple(self.nth(place) for place in dict.fromkeys((0, self.count - 1)))

    @property
    def conditions(self) -> dict[str, tuple[Any, ...]]:
        """The values that other keys must have, by path."""
        given = (self.when or {}).items()
        return {path: tuple(value) if isinstance(value, list | tuple) else (value,) for path, value in given}

    def all(self) -> Iterator[Any]:
        """Every value, least first; of a range that can be counted."""
        if self.choice is not None or (step := self._step) is None:
            return iter(self.choice or ())
        low, count = _exact(self.values[0]), self.count or 0
        if low == int(low) and step == int(step):
            return (int(low) + place * int(step) for place in range(count))
        return (float(low + place * step) for place in range(count))

    def nth(self, place: int) -> Any:
        """A value by its place, from 0; of a range that can be counted."""
        if self.kind == "choice":
            return self.values[place]
        low, step = _exact(self.values[0]), self._step
        assert step is not None
        value = low + place * step
        return int(value) if low == int(low) and step == int(step) else float(value)

    def nearest(self, value: float) -> Any:
        """The value that it can give nearest to a number: of a range of numbers."""
        low, high = self.values
        if (step := self._step) is None:
            return float(min(max(value, low), high))
        places = (_exact(value) - _exact(low)) / step
        return self.nth(min(max(round(places), 0), (self.count or 1) - 1))

    def contains(self, value: Any) -> bool:
        """Whether it can give the value."""
        if self.kind == "choice":
            return canonical(value) in map(canonical, self.values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return value == value and abs(value) != math.inf and bool(self.nearest(value) == value)

    @property
    def _step(self) -> Fraction | None:
        if self.step is None:
            return Fraction(1) if self.kind == "int" else None
        return _exact(self.step)

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

    @model_validator(mode="after")
    def fitting_step(self) -> Self:
        """Refuse a step that leaves nothing to vary."""
        if self.step is not None and (wrong := self._wrong_step(self.step)):
            raise PydanticCustomError("range", "step: {wrong}", {"wrong": wrong})
        return self

    @model_validator(mode="after")
    def countable(self) -> Self:
        """Refuse values that a float, and so whoever proposes them, would confuse."""
        if (self.count or 0) > _COUNTED:
            raise PydanticCustomError(
                "range", "more values than a float can tell apart: take a larger step, or nearer ends"
            )
        return self

    def _wrong_step(self, step: float) -> str:
        if self.kind == "choice":
            return "a choice has none"
        if self.kind == "int" and step != int(step):
            return f"{step:g} is not whole, and the range is of whole numbers"
        return f"{step:g} leads beyond the upper end at once" if self.count == 1 else ""

    @model_serializer
    def given(self) -> dict[str, Any]:
        """What was given, in the words of the file."""
        rest: Mapping[str, Any] = {"step": self.step, "when": self.when}
        told = {name: value for name, value in rest.items() if value is not None}
        return {self.kind: list(self.values), **told}


def _exact(number: float) -> Fraction:
    """A number as it is written: 0.1 is a tenth, so that three steps of it are 0.3."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


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
        "bohb: the same from one milestone alone, and a third at random (Falkner et al. 2018).",
    )
    scheduler: Literal["none", "asha", "hyperband", "pbt"] = Field(
        "none",
        description="Who ends trials: asha: successive halving (Li et al. 2020); hyperband: the same in "
        "brackets that begin later; pbt: bad ones go on as changed copies of good ones (Jaderberg et al. "
        "2017).",
    )
    metric: Metric = Field(description="What is compared, such as validation/loss.")
    mode: Literal["min", "max"] = Field("min", description="Whether less or more is better.")
    trials: Annotated[int, Field(ge=1, le=MOST)] | None = Field(
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
