"""A plan as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.cadence import Cadence
from lehr.plan import Plan

TIMES_AND_RATES = (
    7  # in every row: epoch, rate/examples_per_s, time/{step,data,compute,exchange,checkpoint}_s
)


def show(plan: Plan) -> None:
    """Print the plan."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"plan of {plan.run_id}", title_justify="left", show_header=False, box=None, pad_edge=False
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows(plan):
        table.add_row(Text(name), Text(value))
    Console(soft_wrap=False, highlight=False).print(table)


def rows(plan: Plan) -> list[tuple[str, str]]:
    """The lines of the table: what is said, and what of it."""
    return [*_training(plan), *_cadences(plan), *_sizes(plan), *_places(plan)]


def _training(plan: Plan) -> list[tuple[str, str]]:
    spec = plan.spec
    epochs = plan.steps / plan.steps_per_epoch
    rest = plan.train_examples % plan.global_batch
    last = f"; the last batch of an epoch has {rest}" if rest else ""
    examples = f"{plan.train_examples:,} to train, {plan.validation_examples:,} held out"
    return [
        ("model", f"{spec.model.kind}, objective {spec.objective.kind}"),
        ("data", f"{spec.data.kind} {' x '.join(map(str, spec.data.shape))}: {examples}"),
        ("strategy", f"{spec.strategy.kind}: {_spread(plan)}, "
                     f"{_count(plan.threads_per_worker, 'thread')} a worker"),
        ("batch", f"{plan.global_batch:,} = {' = '.join(_division(plan, size) for size in plan.sizes)}"),
        ("steps", f"{plan.steps:,} = {epochs:.4g} epochs of {plan.steps_per_epoch:,}{last}"),
    ]  # fmt: skip


def _spread(plan: Plan) -> str:
    """Over how many workers and devices; of an elastic run, which of the numbers asked for are possible."""
    devices, asked = _count(plan.devices_per_worker, "device"), plan.spec.strategy.workers
    if isinstance(asked, int):
        return f"{_count(plan.workers, 'worker')} x {devices} = {_count(plan.replicas, 'replica')}"
    return f"{either(plan.sizes)} of [{asked[0]}, {asked[1]}] workers x {devices}"


def _division(plan: Plan, workers: int) -> str:
    """How the global batch falls to so many workers."""
    each = plan.at(workers)
    text = f"{workers} x {each.batch_per_worker:,}{' a worker' if workers == plan.sizes[-1] else ''}"
    return f"{text}, {each.batch_per_replica:,} a replica" if plan.devices_per_worker > 1 else text


def either(numbers: Sequence[int]) -> str:
    """`1, 2 or 4`."""
    *rest, last = map(str, numbers)
    return f"{', '.join(rest)} or {last}" if rest else last


def _cadences(plan: Plan) -> list[tuple[str, str]]:
    kept = f"; keeps the last {plan.spec.checkpoint.keep_last}"
    if best := plan.spec.checkpoint.keep_best:
        kept += f" and the one of {best.mode} {best.metric}"
    return [
        ("checkpoint", f"{_every(plan.checkpoint_every, plan)}, and at the end{kept}"),
        ("validation", _every(plan.validate_every, plan)),
        ("samples", _every(plan.samples_every, plan)),
        ("metrics", _every(plan.track_every, plan)),
    ]


def _every(cadence: Cadence, plan: Plan) -> str:
    if cadence.minutes is not None:
        return f"every {cadence.minutes:g} min"
    if cadence.steps is None:
        return "never"
    times = plan.steps // cadence.steps
    late = " (never: the run is shorter)" if not times else f" ({times:,} times)"
    return f"every {_count(cadence.steps, 'step')}{late}"


def _sizes(plan: Plan) -> list[tuple[str, str]]:
    if plan.parameters is None or plan.checkpoint_bytes is None:
        return [
            ("parameters", "known when the model is built"),
            ("checkpoint", "known when the model is built"),
        ]
    total = plan.checkpoint_bytes * plan.checkpoints_kept
    return [
        ("parameters", f"{plan.parameters:,}"),
        ("checkpoint size", f"{_bytes(plan.checkpoint_bytes)} (weights, optimizer, chains) x "
                            f"{plan.checkpoints_kept} kept = {_bytes(total)}"),
    ]  # fmt: skip


def _places(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("W&B", _points(plan)),
        ("storage", f"{plan.spec.storage}/{plan.run_id}"),
        ("storage fails", _outage(plan)),
        ("spec hash", plan.spec_hash[:16]),
    ]


def _outage(plan: Plan) -> str:
    """What a run does while its storage does not answer."""
    recovery = plan.spec.recovery
    then = {
        "pause": "then waits for it",
        "stop": "then gives up",
        "continue": "and then too, with nothing saved",
    }[recovery.on_storage_outage]
    room = f"{recovery.spool_gib:g} GiB of each worker's disk"
    if plan.checkpoint_bytes:
        fit = int(recovery.spool_gib * (1 << 30) // plan.checkpoint_bytes)
        room += f" ({_count(fit, 'checkpoint')})" if fit else " (too little for one checkpoint)"
    return f"trains on for {recovery.max_unsaved_minutes:g} min, {then}; checkpoints wait on {room}"


def _points(plan: Plan) -> str:
    """How many points W&B is sent. A rate in time needs the speed of training, which a plan does not know."""
    if plan.spec.tracking.wandb is None:
        return "not used"
    if plan.track_every.steps is None:
        return f"a row of metrics {_every(plan.track_every, plan)}"
    metrics = plan.spec.objective.metrics
    points = len(metrics) + TIMES_AND_RATES if metrics else 1
    what = f"{points} points a row" if metrics else "points a row: as many as the objective has metrics"
    per_step = points / plan.track_every.steps
    rates = ", ".join(f"{60 * per_step * speed:,.0f} at {speed}" for speed in (1, 10, 100))
    unit = "points" if metrics else "rows"
    return f"{what}, a row {_every(plan.track_every, plan)}; {unit} a minute: {rates} steps/s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _bytes(number: int) -> str:
    size, units = float(number), ["B", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.4g} {units[0]}"
