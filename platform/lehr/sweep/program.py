"""The program of a sweep: a job with `search:`, every number resolved, and the plan of each trial.

No TensorFlow here and no Ray: a program is made where the job file is, before anything is started.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lehr import __version__
from lehr import plan as plans
from lehr import spec as specs
from lehr.errors import UserError, letter
from lehr.plan import Plan
from lehr.spec import Spec, paths, variants
from lehr.spec.place import refuse
from lehr.spec.search import Search
from lehr.sweep import demands, pricing, records, trying
from lehr.sweep import space as spaces
from lehr.sweep.pricing import Cost
from lehr.sweep.records import Parameters, Start

FORMAT = 1
NINTH = 1 / 9  # of a trial's length: the grace where none is given, as with Hyperband's R = 9 and eta = 3
_LONGEST = 100  # letters of a run's id
_NAMED = 128  # letters of a run's name in W&B
_SEGMENTS = 9999  # of a trial, in the name of its run


@dataclass(frozen=True)
class Program:
    """A sweep.

    Args:
        run_id: of the sweep.
        spec: the job, with `search`.
        search: the same without what the job itself decides: ranges whose `when` asks for another value of a
            key that does not vary are gone.
        trials: wanted.
        grace: share of a trial's length before the first look at it, and between two of population-based
            training.
        corners: plans of the space's corners, where they were looked at; a restored program has none.
    """

    run_id: str
    spec: Spec
    search: Search
    trials: int
    grace: float
    corners: Sequence[Plan] = field(default=(), compare=False, repr=False)

    def plan(self, start: Start) -> Plan:
        """The plan of a trial's segment: an ordinary run."""
        tracked = {} if self.spec.tracking.wandb is None else self._tracked(start.parameters)
        made = plans.make(variants.make(self.spec, start.parameters | tracked), run_id=start.run)
        if self.search.scheduler != "pbt":
            return made
        # Others copy its state at a look however late they come to that look themselves.
        kept = {"checkpoint.keep_last": max(made.checkpoints_kept, pricing.kept(made))}
        return plans.make(variants.make(self.spec, start.parameters | tracked | kept), run_id=start.run)

    def base(self) -> Plan:
        """The plan of the first corner of the space, under the sweep's own id: what a trial is like."""
        first = next(spaces.corners(self.search.space))
        return plans.make(variants.make(self.spec, first), run_id=self.run_id)

    def extended(self, trials: int) -> Program:
        """The same sweep with more trials.

        Raises:
            SpecError: a grid has no more, or no sweep.
        """
        refuse(demands.of_more(self.spec, self.search, trials))
        return dataclasses.replace(self, trials=trials)

    def document(self) -> dict[str, Any]:
        """The sweep as plain JSON values: `sweep.json`. It holds references to secrets, no secrets."""
        told = {"format": FORMAT, "run_id": self.run_id, "spec": self.spec.document()}
        return told | {"lehr": __version__}

    def label(self, parameters: Parameters) -> str:
        """What varies, in the shortest words that tell the keys apart: `learning_rate=0.0003 steps=60`."""
        names = shortened(self.search.space)
        return " ".join(f"{names.get(path, path)}={words(value)}" for path, value in parameters.items())

    def _tracked(self, parameters: Parameters) -> dict[str, Any]:
        name = _cut(self.label(parameters), _NAMED)
        return {"tracking.wandb.group": self.run_id, "tracking.wandb.name": name or None}


def make(spec: Spec, *, run_id: str | None = None) -> Program:
    """Resolve every number of a sweep, and look at every corner of its space.

    Args:
        spec: the job, with `search`.
        run_id: the sweep's name and folder; by default the job's name, so that the same command goes on.

    Raises:
        SpecError: the search cannot be what it says, or a corner of its space is no job; all of it is told.
        UserError: the job has no search, or `run_id` cannot name a folder.
    """
    if spec.search is None:
        raise UserError(letter("search", "missing: this job is one run, no sweep", do="lehr run FILE"))
    name = _run_id(run_id or spec.name)
    refuse(demands.of_ranges(spec, spec.search) or trying.of_conditions(spec, spec.search))
    search = _decided(spec, spec.search)
    refuse([*demands.of_trials(spec, search), *trying.of_values(spec, search)])
    corners = trying.corners(spec, search)
    refuse(demands.of_looks(spec, search, corners))
    return dataclasses.replace(_resolved(name, spec, search), corners=corners)


def restore(document: Mapping[str, Any]) -> Program:
    """The program that `Program.document` described.

    Raises:
        UserError: it is no sweep, or one of another format.
    """
    if document.get("format") != FORMAT:
        came = f"format {document.get('format')!r} is not one that this lehr reads"
        raise UserError(letter("sweep.json", came, accepted=str(FORMAT), do="use the lehr that wrote it"))
    spec = specs.restore(document["spec"])
    if spec.search is None:
        raise UserError(letter("sweep.json", "its job has no search", do="restore the file from a copy"))
    return _resolved(document["run_id"], spec, _decided(spec, spec.search))


def _resolved(run_id: str, spec: Spec, search: Search) -> Program:
    first = plans.make(variants.make(spec, next(spaces.corners(search.space))))
    return Program(run_id, spec, search, _trials(search), grace(search, first))


def grace(search: Search, plan: Plan) -> float:
    """The share of a trial's length that `search.grace` is."""
    if search.grace is None:
        return NINTH
    size = {"train_examples": plan.train_examples, "global_batch": plan.global_batch}
    return search.grace.steps_for(**size) / plan.steps


def cost(program: Program) -> Cost:
    """What the sweep costs."""
    corners = program.corners or trying.corners(program.spec, program.search)
    return pricing.cost(program.search, program.trials, program.grace, corners)


def _trials(search: Search) -> int:
    if search.trials is not None:
        return search.trials
    return spaces.size(search.space) or 0


def _decided(spec: Spec, search: Search) -> Search:
    """Without conditions on keys that do not vary: they are fulfilled, or the range is gone."""
    job, kept = spec.document(), {}
    for path, given in search.space.items():
        fixed = {other: paths.value_at(job, other) for other in given.conditions if other not in search.space}
        if all(demands.among(value, given.conditions[other]) for other, value in fixed.items()):
            rest = {other: value for other, value in (given.when or {}).items() if other not in fixed}
            kept[path] = given.model_copy(update={"when": rest or None})
    return search.model_copy(update={"space": _possible(kept)})


def _possible(space: spaces.Space) -> spaces.Space:
    """Without ranges that hang on one that is gone, nor what hangs on those in turn."""
    left = {path: given for path, given in space.items() if given.conditions.keys() <= space.keys()}
    return left if len(left) == len(space) else _possible(left)


def _run_id(text: str) -> str:
    name = records.run_id(text, 9999, _SEGMENTS)
    if plans.RUN_ID.fullmatch(text) is None or len(name) > _LONGEST:
        accepted = f"1 to {_LONGEST - len(name) + len(text)} letters, digits, dots, hyphens and underscores"
        came = f"{specs.secrets.show(text)} cannot name a sweep's folder"
        raise UserError(letter("run id", came, accepted=accepted))
    return text


def shortened(paths: Mapping[str, Any]) -> dict[str, str]:
    """The last parts of each path, as few as tell it from the others."""
    return {path: next(_ends_of(path, paths), path) for path in paths}


def _ends_of(path: str, paths: Mapping[str, Any]) -> Iterator[str]:
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        end = parts[-length:]
        if sum(other.split(".")[-length:] == end for other in paths) == 1:
            yield ".".join(end)


def _cut(text: str, most: int) -> str:
    """Its first words, as many as fit."""
    return text if len(text) <= most else text[: most + 1].rpartition(" ")[0] or text[:most]


def words(value: Any) -> str:
    """A value in a name: numbers in six digits, lists without blanks."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(words, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{words(inner)}' for key, inner in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
