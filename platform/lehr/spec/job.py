"""The spec: a job file as a validated, frozen value."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from lehr.spec import kinds, needs
from lehr.spec.data import Data
from lehr.spec.models import Model
from lehr.spec.node import Name, Node, Options, Target, tag
from lehr.spec.objectives import Objective, Sampler
from lehr.spec.place import Path, Problem
from lehr.spec.search import Search
from lehr.spec.sections import (
    Checkpoint,
    InitFrom,
    Recovery,
    Samples,
    Strategy,
    Tracking,
    Train,
    Validation,
)

VERSION = 1
_STORAGE = "runs"
_ELSEWHERE = (("data", "root"), ("init_from", "run"))  # the other places that a job may name


class Spec(Node):
    """One job. Attribute names are the keys of the file, `spec.train.optimizer.learning_rate` and so on.

    Every default is filled in, `objective` too: by default it is the one that the model's kind names.
    """

    version: Literal[1] = Field(description="Of the format of job files.")
    name: Name = Field(description="The job's name, and its run's unless another is given.")
    model: Model = Field(description="What is trained.")
    data: Data = Field(description="What it is trained on.")
    train: Train = Field(description="How it is trained.")
    objective: Objective = Field(default=None, validate_default=True, description="What a step minimises.")
    sampler: Sampler | None = Field(None, description="How chains move; contrastive divergence needs one.")
    strategy: Strategy = Field(Strategy.model_validate({}), description="Over what it is spread.")
    checkpoint: Checkpoint = Field(Checkpoint.model_validate({}), description="When the state is saved.")
    samples: Samples | None = Field(None, description="Samples drawn during training; null: none.")
    validation: Validation = Field(
        Validation.model_validate({}), description="When held-out data is looked at."
    )
    recovery: Recovery = Field(Recovery.model_validate({}), description="What happens after a failure.")
    tracking: Tracking = Field(Tracking.model_validate({}), description="What is recorded.")
    storage: Target = Field(
        _STORAGE, description="Where runs are kept: a folder, or any URL fsspec can write to."
    )
    storage_options: Options = Field(
        {}, description="Options of the store; secrets as env:NAME or file:PATH."
    )
    init_from: InitFrom | None = Field(None, description="Weights of another run to start from.")
    search: Search | None = Field(None, description="Makes the job a sweep: which keys vary, and how.")

    _origins: dict[Path, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def default_objective(cls, given: Any) -> Any:
        """Fill in the objective that the model's kind names."""
        if not isinstance(given, dict) or given.get("objective") is not None:
            return given
        kind = (tag(given.get("model")) or "").removeprefix("kind=")
        names = getattr(kinds.FAMILIES["model"].get(kind), "objectives", ())
        return {**given, "objective": {"kind": names[0]}} if names else given

    @model_validator(mode="before")
    @classmethod
    def default_options(cls, given: Any) -> Any:
        """Fill in the job's own options of the store where another place is of the same scheme."""
        if not isinstance(given, dict) or not isinstance(given.get("storage_options"), dict):
            return given
        ours, filled = needs.scheme(given.get("storage", _STORAGE)), {}
        for name, key in _ELSEWHERE:
            node = given.get(name)
            if not isinstance(node, dict) or "storage_options" in node:
                continue
            if needs.scheme(node.get(key)) == ours:
                filled[name] = {**node, "storage_options": given["storage_options"]}
        return {**given, **filled}

    @property
    def draws(self) -> str:
        """The code that draws samples from the model, `module:Attribute`; "" where nothing can."""
        of_your_own = ":" in self.model.kind
        return "" if of_your_own and self.sampler is None else self.model.draws

    def document(self) -> dict[str, Any]:
        """The spec as plain JSON values, every default filled in. Holds references to secrets, no secrets."""
        return self.model_dump(mode="json")

    def problem(self, path: str | Path, came: str, *, accepted: str = "", do: str = "") -> Problem:
        """A problem at a path, dotted or in parts, with the line of the file it came from if there is one."""
        parts: Path = tuple(path.split(".")) if isinstance(path, str) else path
        known = (self._origins.get(parts[:length]) for length in range(len(parts), -1, -1))
        return Problem(parts, came, accepted, do, next((origin for origin in known if origin), ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.document() == other.document()

    __hash__ = None  # type: ignore[assignment]  # storage_options is a dict
