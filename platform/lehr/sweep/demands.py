"""What a search must be, told from the job alone: paths, conditions, algorithms, cadences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lehr.cadence import Cadence
from lehr.plan import Plan
from lehr.spec import Spec, paths
from lehr.spec.place import Path, Problem, listing, nearest
from lehr.spec.search import MOST, Range, Search, canonical
from lehr.sweep import space as spaces

FREE = ("model", "data", "train", "objective", "sampler", "init_from")
FIXED = {
    "version": "it is of the file, not of a trial",
    "name": "trials are named by the sweep",
    "storage": "all trials are kept in the sweep's folder",
    "storage_options": "all trials are kept in the sweep's folder",
    "tracking": "trials are compared by what all of them record",
    "recovery": "it does not change what a trial finds",
    "strategy": "it does not change what a trial finds, and all trials take the same room",
    "checkpoint": "it does not change what a trial finds",
    "samples": "they do not change what a trial finds",
    "validation": "trials are compared where all of them look",
    "search": "a trial has no search of its own",
    "data.root": "it says where the data is, not what",
    "data.storage_options": "they say where the data is, not what",
    "data.validation_examples": "trials are compared on the same examples",
    "init_from.storage_options": "they say where a run is, not which",
    "train.compile": "it does not change what a trial finds",
}
OF_POPULATION = ("train.optimizer", "train.gradient_clip", "objective", "sampler.step_size", "sampler.noise",
                 "sampler.steps", "sampler.gradient_clip", "sampler.buffer.fresh")  # fmt: skip
LEAST_POPULATION = 4


def place(path: str) -> Path:
    """Where a range stands in the job file."""
    return ("search", "space", path)


def inside(path: str, prefix: str) -> bool:
    """Whether a path is another or below it."""
    return path == prefix or path.startswith(f"{prefix}.")


def among(value: Any, values: Sequence[Any]) -> bool:
    """Whether a value is one of some."""
    return value is not paths.MISSING and canonical(value) in map(canonical, values)


# --- ranges ---------------------------------------------------------------------------------------


def of_ranges(spec: Spec, search: Search) -> list[Problem]:
    """What is wrong with paths and conditions: one problem a range."""
    job = spec.document()
    told = []
    for path, given in search.space.items():
        rules = (_fixed(path), _unknown(path, job), _mapping(path, given), _nested(path, search.space),
                 _when(path, given, search.space, job))  # fmt: skip
        if found := next((rule for rule in rules if rule), None):
            came, accepted, do = found
            told.append(spec.problem(place(path), came, accepted=accepted, do=do))
    return told


Told = tuple[str, str, str] | None  # came, accepted, do


def _fixed(path: str) -> Told:
    for name, reason in FIXED.items():
        if inside(path, name):
            return f"{name} cannot vary: {reason}", f"keys of {listing(FREE)}", "remove it from the space"
    return None


def _unknown(path: str, job: Mapping[str, Any]) -> Told:
    holder, _, last = path.rpartition(".")
    around = paths.value_at(job, holder) if holder else job
    if isinstance(around, Mapping) and (last in around or ":" in str(around.get("kind"))):
        return None
    if paths.find(path) is None:
        free = [one for one in paths.every() if not any(inside(one, name) for name in FIXED)]
        close = paths.meant(path, free)
        do = f"did you mean {close}?" if close else ""
        names = [name for name in paths.siblings(path) if name not in FIXED]
        return "unknown key: no job has it", listing(names), do
    if empty := next((name for name in _above(path) if paths.value_at(job, name) is None), None):
        return f"{empty} is null in this job: nothing can vary inside it", "", f"add {empty}:"
    return None


def _above(path: str) -> Iterator[str]:
    parts = path.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts)))


def _mapping(path: str, given: Range) -> Told:
    schema = paths.find(path)
    if schema is None or not paths.is_mapping(schema) or given.kind == "choice":
        return None
    names = [f"{path}.{name}" for name in paths.below(schema) if name != "kind"]
    came = f"a mapping, which has no {given.kind} of values"
    return came, listing(names), "name one key in it, or a choice of mappings"


def _nested(path: str, space: Mapping[str, Range]) -> Told:
    inner = next((other for other in space if other != path and inside(other, path)), None)
    if inner is None:
        return None
    return f"it holds {inner}, which varies by itself: a key has one range", "", f"remove {path} or {inner}"


def _when(path: str, given: Range, space: Mapping[str, Range], job: Mapping[str, Any]) -> Told:
    for other, values in given.conditions.items():
        if other == path:
            return "when: it cannot hang on itself", "", "name another key"
        if whole := next((one for one in space if one != other and inside(other, one)), None):
            came = f"when: {other} is inside {whole}, which varies as a whole"
            return came, "", f"hang it on {whole}, with whole values"
        if inner := next((one for one in space if one != other and inside(one, other)), None):
            return f"when: {other} holds {inner}, which varies by itself", "", f"hang it on {inner}"
        if other in space:
            impossible = [value for value in values if not space[other].contains(value)]
            if impossible:
                never = f"when: {other} never is {canonical(impossible[0])}"
                return never, listing(list(map(canonical, space[other].ends))), ""
        elif paths.value_at(job, other) is paths.MISSING and paths.find(other) is None:
            close = paths.meant(other, [*space, *paths.every()])
            return f"when: {other} is no key of a job", "", f"did you mean {close}?" if close else ""
    if circle := _circle(path, space):
        return f"when: these hang on each other: {' -> '.join(circle)}", "", "remove one of the conditions"
    return None


def _circle(path: str, space: Mapping[str, Range], before: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The way from a path over conditions back to itself, told by the path that comes first in the file."""
    if path in before:
        mine = before[before.index(path) :]
        first = min(mine, key=list(space).index)
        return (*mine, path) if path == before[0] == first else ()
    others = (other for other in space[path].conditions if other in space)
    return next((found for other in others if (found := _circle(other, space, (*before, path)))), ())


# --- algorithm, scheduler, metric -----------------------------------------------------------------


def of_trials(spec: Spec, search: Search) -> list[Problem]:
    """What is wrong with who proposes, who ends trials, how many there are, and what is compared."""
    if not search.space:
        came = "nothing varies: each range waits for a value that the job does not have"
        return [spec.problem("search.space", came)]
    return [*_metric(spec, search), *_algorithm(spec, search), *_population(spec, search)]


def _metric(spec: Spec, search: Search) -> Iterator[Problem]:
    split, _, name = search.metric.partition("/")
    objective = spec.objective
    known = objective.metrics if split == "train" else objective.validation_metrics
    if split == "validation" and spec.data.examples()[1] == 0:
        came, do = f"{search.metric}: there are no held-out examples", f"--set search.metric=train/{name}"
        yield spec.problem("search.metric", came, do=do)
    elif known and name not in known:
        names = [f"{split}/{one}" for one in known]
        close = nearest(search.metric, names)
        came = f"objective {objective.kind} has no {search.metric}"
        do = f"did you mean {close}?" if close else ""
        yield spec.problem("search.metric", came, accepted=listing(names), do=do)


def _algorithm(spec: Spec, search: Search) -> Iterator[Problem]:
    if search.algorithm == "grid":
        yield from _grid(spec, search)
    elif search.trials is None:
        came = f"missing: {search.algorithm} proposes for ever"
        yield spec.problem("search.trials", came, accepted="a whole number, at least 1", do="add trials")
    if search.algorithm == "bohb" and search.scheduler not in ("asha", "hyperband"):
        came = f"bohb learns from trials that were ended early, and scheduler {search.scheduler} ends none"
        yield spec.problem("search.algorithm", came, do="--set search.scheduler=hyperband, or algorithm tpe")


def _grid(spec: Spec, search: Search) -> Iterator[Problem]:
    endless = [path for path, given in search.space.items() if given.count is None]
    for path in endless:
        came = f"a grid cannot try every value of a continuous {search.space[path].kind}"
        yield spec.problem(place(path), came, accepted="choice, int, or a range with a step")
    if endless:
        return
    there = spaces.size(search.space) or 0
    if (search.trials or 0) > there:
        came = f"{search.trials} trials are more than the grid's {there:,} combinations"
        do = "leave trials out: then it is all of them"
        yield spec.problem("search.trials", came, accepted=f"at most {there}", do=do)
    elif search.trials is None and there > MOST:
        came = f"the grid has more than {MOST:,} combinations"
        do = "add trials, or larger steps"
        yield spec.problem("search.space", came, accepted=f"at most {MOST:,}", do=do)


def of_more(spec: Spec, search: Search, trials: int) -> list[Problem]:
    """What is wrong with so many trials for a sweep that there is."""
    there = spaces.size(search.space) if search.algorithm == "grid" else None
    came, do = f"{trials:,} trials are more than a sweep can have", "begin another sweep"
    if there is not None and there < min(trials, MOST):
        came = f"{trials:,} trials are more than the grid's {there:,} combinations"
        do = "widen search.space in the job file, and give it to `lehr sweep`"
    most = MOST if there is None else min(there, MOST)
    problem = spec.problem("search.trials", came, accepted=f"at most {most:,}", do=do)
    return [problem] if trials > most else []


def _population(spec: Spec, search: Search) -> Iterator[Problem]:
    if search.scheduler != "pbt":
        return
    if search.algorithm in ("tpe", "bohb"):
        came = f"{search.algorithm} learns which parameters are good, and those of pbt change on the way"
        do = "--set search.algorithm=random"
        yield spec.problem("search.algorithm", came, accepted="random, grid", do=do)
    grid = search.trials is None and search.algorithm == "grid"
    many = spaces.size(search.space) if grid else search.trials
    if many is not None and many < LEAST_POPULATION:
        came = f"a population of {many} has no good quarter and no bad one"
        where = "search.space" if grid else "search.trials"
        yield spec.problem(where, came, accepted=f"at least {LEAST_POPULATION} trials for pbt")
    for path in search.space:
        if not _copied(path):
            came = "pbt cannot vary it: a copy takes over weights, optimizer, chains and place in the data"
            do = "leave it as the job has it, or another scheduler"
            yield spec.problem(place(path), came, accepted=listing(OF_POPULATION), do=do)


def _copied(path: str) -> bool:
    """Whether a state goes on under another value of the key."""
    inner = [name for name in OF_POPULATION if inside(path, name)]
    return bool(inner) and path not in ("train.optimizer", "objective") and not path.endswith(".kind")


# --- when trials are looked at --------------------------------------------------------------------


def of_looks(spec: Spec, search: Search, plans: Sequence[Plan]) -> list[Problem]:
    """What is wrong with when trials report and when they are looked at, in trials as these."""
    rules = (_reports, _grace, _copies)
    told: dict[Path, Problem] = {}
    for plan in sorted(plans, key=lambda plan: plan.steps):
        for problem in (problem for rule in rules for problem in rule(spec, search, plan)):
            told.setdefault(problem.path, problem)
    return [*told.values(), *_shapes(spec, search, plans), *_same(spec, search, plans)]


def reports_every(search: Search, plan: Plan) -> Cadence:
    """How often a trial reports."""
    return plan.track_every if search.metric.startswith("train/") else plan.validate_every


def grace_steps(search: Search, plan: Plan) -> int:
    """The grace of a trial in steps; a ninth of its length where none is given, at least one step."""
    if search.grace is None:
        return max(1, round(plan.steps / 9))
    size = {"train_examples": plan.train_examples, "global_batch": plan.global_batch}
    return search.grace.steps_for(**size)


def _reports(spec: Spec, search: Search, plan: Plan) -> Iterator[Problem]:
    if search.scheduler == "none":
        return
    key = "tracking.every" if search.metric.startswith("train/") else "validation.every"
    every = reports_every(search, plan)
    if every.steps is None:
        came = f"{search.scheduler} compares trials at the same steps, and {key} is by the clock"
        yield spec.problem("search.scheduler", came, do=f"give {key} in steps, epochs or examples")
    elif every.steps >= plan.steps:
        came = (
            f"{search.scheduler} ends trials by what they report on the way; a trial of {plan.steps:,} steps"
            f" reports only at its end ({key} is {every.steps:,} steps)"
        )
        yield spec.problem("search.scheduler", came, do=f"--set '{key}={{steps: {max(1, plan.steps // 9)}}}'")


def _grace(spec: Spec, search: Search, plan: Plan) -> Iterator[Problem]:
    if search.grace is not None and grace_steps(search, plan) >= plan.steps:
        came = f"{grace_steps(search, plan):,} steps are not less than the {plan.steps:,} of a whole trial"
        yield spec.problem("search.grace", came, do="a shorter grace, or a longer train.duration")


def _copies(spec: Spec, search: Search, plan: Plan) -> Iterator[Problem]:
    """A copy begins with a checkpoint: there must be one where pbt looks."""
    if search.scheduler != "pbt":
        return
    look, every = grace_steps(search, plan), plan.checkpoint_every.steps
    if every is None:
        came = "pbt copies checkpoints of the steps at which it looks, and these are by the clock"
        yield spec.problem("checkpoint.every", came, do="give it in steps, epochs or examples")
    elif look % every or (search.grace is None and plan.steps % 9):
        looks = f"{look:,} steps" if search.grace else f"ninth of {plan.steps:,} steps"
        came = f"pbt looks every {looks}, and there is a checkpoint every {every:,}"
        near = max(1, round(look / every)) * every
        do = f"--set 'search.grace={{steps: {near}}}', or another checkpoint.every"
        yield spec.problem("search.grace", came, accepted=f"a multiple of {every:,} steps", do=do)


def _shapes(spec: Spec, search: Search, plans: Sequence[Plan]) -> Iterator[Problem]:
    if search.scheduler == "pbt" and len({plan.spec.train.optimizer.slots for plan in plans}) > 1:
        path = max(search.space, key=lambda path: path.endswith("momentum"))
        came = "with some of these values the optimizer keeps state that it does not keep with others"
        yield spec.problem(place(path), came, do="leave 0 out of the momentum's range")


def _same(spec: Spec, search: Search, plans: Sequence[Plan]) -> Iterator[Problem]:
    """A choice of whole mappings must not bring along what cannot vary."""
    below = [(name, path) for name in FIXED for path in search.space if name != path and inside(name, path)]
    jobs = [plan.spec.document() for plan in plans] if below else []
    for name, path in below:
        values = (paths.value_at(job, name) for job in jobs)
        if len({canonical(value) for value in values if value is not paths.MISSING}) > 1:
            came = f"{name} differs among its choices, and it cannot vary: {FIXED[name]}"
            yield spec.problem(place(path), came, do=f"give {name} the same value in all of them")
