"""What the parts of a spec demand of each other. Everything here can be told from the spec alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lehr.spec.job import Spec
from lehr.spec.place import Problem, listing, nearest

Rule = Callable[[Spec], Iterator[Problem]]
_SUCH = {  # by kind of sampler
    "langevin": "kind: langevin, steps: 60, step_size: 10.0, noise: 0.005",
    "gibbs": "kind: gibbs, steps: 1, persistent: true",
}


def problems(spec: Spec) -> list[Problem]:
    """Every demand that is not met."""
    return [problem for rule in RULES for problem in rule(spec)]


def workers(spec: Spec) -> int:
    """The number of workers; of an elastic range, the most that divide the batch."""
    return max(sizes(spec), default=_bounds(spec)[1])


def sizes(spec: Spec) -> tuple[int, ...]:
    """Numbers of workers that the strategy allows and that divide the global batch evenly, least first."""
    least, most = _bounds(spec)
    devices = spec.strategy.devices_per_worker
    return tuple(n for n in range(least, most + 1) if spec.train.global_batch % (n * devices) == 0)


def _bounds(spec: Spec) -> tuple[int, int]:
    asked = spec.strategy.workers
    return (asked, asked) if isinstance(asked, int) else asked


def replicas(spec: Spec) -> int:
    """Copies of the model over all workers."""
    return workers(spec) * spec.strategy.devices_per_worker


def _sweep(spec: Spec) -> Iterator[Problem]:
    """A sweep has no plan of its own: its trials have, and none has a search."""
    if spec.search is not None:
        do = "lehr sweep FILE; or remove search: (--set search=null --run NAME)"
        yield spec.problem("search", "this is a sweep, no single run", do=do)


def _strategy(spec: Spec) -> Iterator[Problem]:
    kind, many = spec.strategy.kind, workers(spec) > 1
    if kind in ("single", "mirrored") and many:
        yield spec.problem(
            "strategy.workers",
            f"strategy {kind} has one worker; {workers(spec)} came",
            accepted="1",
            do="--set strategy.workers=1, or use strategy.kind horovod or multiworker",
        )
    if kind in ("single", "horovod") and spec.strategy.devices_per_worker > 1:
        more = "workers" if kind == "horovod" else "strategy.kind=mirrored"
        yield spec.problem(
            "strategy.devices_per_worker",
            f"strategy {kind} has one device a worker; {spec.strategy.devices_per_worker} came",
            accepted="1",
            do=f"ask for more {more} instead" if kind == "horovod" else f"--set {more}",
        )


def _accelerator(spec: Spec) -> Iterator[Problem]:
    strategy = spec.strategy
    if strategy.accelerator is not None and strategy.gpus is False:
        yield spec.problem(
            "strategy.accelerator",
            f"{strategy.accelerator} is a type of GPU, and strategy.gpus is false",
            do="remove accelerator:, or --set strategy.gpus=true",
        )


def _division(spec: Spec) -> Iterator[Problem]:
    batch, parts = spec.train.global_batch, replicas(spec)
    least, most = _bounds(spec)
    if batch % parts and least < most:
        devices = spec.strategy.devices_per_worker
        yield spec.problem(
            "train.global_batch",
            f"{batch} examples cannot be divided evenly over any of {least} to {most} workers",
            accepted=f"a multiple of {least * devices}, such as {_multiples(batch, least * devices)}",
        )
    elif batch % parts:
        yield spec.problem(
            "train.global_batch",
            f"{batch} examples cannot be divided evenly over {parts} replicas"
            f" ({workers(spec)} workers x {spec.strategy.devices_per_worker} devices)",
            accepted=f"a multiple of {parts}, such as {_multiples(batch, parts)}",
        )
    if spec.sampler is not None and spec.sampler.kind == "langevin" and spec.sampler.buffer.size % batch:
        size = spec.sampler.buffer.size
        yield spec.problem(
            "sampler.buffer.size",
            f"{size} chains cannot be divided evenly over the {batch} places of the global batch",
            accepted=f"a multiple of train.global_batch ({batch}), such as {_multiples(size, batch)}",
        )


def _multiples(number: int, divisor: int) -> str:
    below, above = number // divisor * divisor, -(-number // divisor) * divisor
    return f"{below} or {above}" if below else str(above)


def _fits(spec: Spec) -> bool:
    """Whether the objective can train the model, as far as it is known."""
    known, kind = spec.model.objectives, spec.objective.kind
    return not known or ":" in kind or kind in known


def _objective(spec: Spec) -> Iterator[Problem]:
    model, objective = spec.model, spec.objective
    if not _fits(spec):
        yield spec.problem(
            "objective.kind",
            f"{objective.kind} cannot train model {model.kind}",
            accepted=listing(model.objectives) + ", or package.module:Attribute",
            do="leave objective: out for the default",
        )
    elif objective.needs_classes:
        yield from _classes(spec)


def _classes(spec: Spec) -> Iterator[Problem]:
    there, most = spec.data.classes, spec.model.classes
    if there is None:
        came = f"missing: objective {spec.objective.kind} needs the number of classes"
        yield spec.problem("data.classes", came, do="add classes")
    elif most is not None and there > most:
        came = f"{there} classes are more than model {spec.model.kind} tells apart"
        yield spec.problem("data.classes", came, accepted=f"at most {most}")


def _sampler(spec: Spec) -> Iterator[Problem]:
    objective = spec.objective
    wanted, kind = objective.sampler, spec.sampler.kind if spec.sampler is not None else None
    if wanted and kind is None:
        yield spec.problem(
            "sampler", f"missing: objective {objective.kind} moves chains",
            accepted=f"a mapping such as {{{_SUCH[wanted]}}}",
        )  # fmt: skip
    elif wanted and kind != wanted:
        came = f"objective {objective.kind} moves chains by {wanted}; {kind} came"
        yield spec.problem("sampler.kind", came, accepted=f"{{{_SUCH[wanted]}}}")
    elif kind and not wanted and ":" not in objective.kind and _fits(spec):
        came = f"objective {objective.kind} has no chains to move"
        yield spec.problem("sampler", came, do="remove sampler:")
    if getattr(spec.sampler, "acceptance", False) and spec.train.precision != "float32":
        came = "steps are tested by differences of energies, which need float32"
        yield spec.problem("sampler.acceptance", came, accepted="train.precision: float32")


def _samples(spec: Spec) -> Iterator[Problem]:
    asked, model = spec.samples, spec.model
    if asked is None:
        return
    if not model.draws:
        came = f"model {model.kind} is a classifier: it draws no samples"
        yield spec.problem("samples", came, do="remove samples:")
        return
    for name in sorted(asked.model_fields_set - {"every", "count", *model.settings}):
        if getattr(asked, name) == type(asked).model_fields[name].default:
            continue  # a job that was written out in full
        came = f"samples of model {model.kind} have no {name}"
        yield spec.problem(f"samples.{name}", came, accepted=listing(model.settings) or "every, count")


def _demands(spec: Spec) -> Iterator[Problem]:
    """What the model's own row demands."""
    demands = getattr(spec.model, "demands", None)
    if demands is not None:
        yield from demands(spec)


def _data(spec: Spec) -> Iterator[Problem]:
    if refusal := spec.model.refusal(spec.data.shape):
        size = " x ".join(map(str, spec.data.shape))
        resizes = "image_size" in type(spec.data).model_fields
        path, do = ("data.image_size", "--set data.image_size=28") if resizes else ("data.shape", "")
        yield spec.problem(path, f"model {spec.model.kind}: {refusal}; {size} came", do=do)
    yield from _range(spec)


def _range(spec: Spec) -> Iterator[Problem]:
    levels, given = getattr(spec.data, "levels", None), type(spec.data).model_fields.get("range")
    if levels and given is not None and getattr(spec.data, "range", None) != given.default:
        came = f"with data.levels the pixels are 0 to {levels - 1}, and have no other range"
        yield spec.problem("data.range", came, do="remove data.range or data.levels")
    bounds = spec.data.bounds
    if spec.model.kind == "ebm" and bounds is not None and bounds != (-1.0, 1.0):
        yield spec.problem(
            "data.range",
            f"[{bounds[0]:g}, {bounds[1]:g}] does not fit the chains of an energy-based model, which live in "
            "[-1, 1]",
            accepted="[-1, 1]",
            do="--set 'data.range=[-1, 1]'",
        )


def _best(spec: Spec) -> Iterator[Problem]:
    """The metric that picks the best checkpoint must be one that is measured."""
    best, path = spec.checkpoint.keep_best, "checkpoint.keep_best.metric"
    if best is None:
        return
    split, _, name = best.metric.partition("/")
    known = spec.objective.metrics if split == "train" else spec.objective.validation_metrics
    if split == "validation" and spec.data.examples()[1] == 0:
        yield spec.problem(path, f"{best.metric}: there are no held-out examples")
    elif known and name not in known:
        names = [f"{split}/{one}" for one in known]
        close = nearest(best.metric, names)
        came = f"objective {spec.objective.kind} has no {best.metric}"
        yield spec.problem(path, came, accepted=listing(names), do=f"did you mean {close}?" if close else "")


RULES: tuple[Rule, ...] = (
    _sweep,
    _strategy,
    _accelerator,
    _division,
    _objective,
    _sampler,
    _samples,
    _data,
    _demands,
    _best,
)
