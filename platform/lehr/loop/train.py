"""The training loop, in reading order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lehr.loop.meter import Meter, Stopwatch
from lehr.objectives.objective import Memory
from lehr.strategies.strategy import Batch, Replicated


@dataclass(frozen=True)
class Due:
    """What is to be done after a step; the same on every rank."""

    entry: bool = False
    validation: bool = False
    samples: bool = False
    checkpoint: bool = False
    stop: bool = False


class Attendant(Protocol):
    """What happens between steps. The loop calls; the worker answers."""

    def signals(self) -> np.ndarray:
        """This worker's wishes, float32 [SIGNALS]: they are summed over replicas with the gradients."""
        ...

    def due(self, step: int, signals: np.ndarray) -> Due:
        """What is due after `step`, from the plan and the summed signals."""
        ...

    def entry(self, step: int) -> None: ...
    def validate(self, step: int) -> None: ...
    def sample(self, step: int) -> None: ...
    def save(self, step: int) -> None: ...
    def check(self, step: int, metrics: np.ndarray) -> None:
        """Raise DivergenceError when the run cannot go on from `metrics`."""
        ...


@dataclass
class Parts:
    """What one step is made of."""

    update: Replicated
    batches: Iterator[Batch]
    memory: Memory | None
    replicas: int  # local ones
    meter: Meter
    watch: Stopwatch


def train(parts: Parts, attendant: Attendant, *, start: int, steps: int) -> int:
    """Go from the state after `start` updates to the state after `steps`; the step reached is returned."""
    step, watch = start, parts.watch
    while step < steps:
        with watch.phase("data"):
            batch = next(parts.batches)
            if parts.memory is not None:
                batch |= parts.memory.draw(int(batch["step"]))
        batch["signals"] = attendant.signals()
        with watch.phase("compute"):
            results = parts.update(split(batch, parts.replicas))
            metrics, signals = (np.asarray(results[0][name]) for name in ("metrics", "signals"))
        watch.move("compute", "exchange", float(results[0]["exchange_s"]))
        if parts.memory is not None:
            parts.memory.keep(int(batch["step"]), join(results, without=("metrics", "signals", "exchange_s")))
        step += 1
        attendant.check(step, metrics)
        parts.meter.add(metrics, examples=float(batch["count"]))
        due = attendant.due(step, signals)
        if due.entry:
            attendant.entry(step)
        if due.validation:
            attendant.validate(step)
        if due.samples:
            attendant.sample(step)
        if due.checkpoint:
            with watch.phase("checkpoint"):
                attendant.save(step)
        if due.stop:
            break
    return step


def split(batch: Batch, replicas: int) -> list[Batch]:
    """A worker's batch as one batch a local replica: contiguous rows, `first` moved along."""
    if replicas == 1:
        return [batch]
    rows = len(batch["weight"]) // replicas
    return [_share(batch, slice(i * rows, (i + 1) * rows)) for i in range(replicas)]


def _share(batch: Batch, rows: slice) -> Batch:
    share = {
        name: value[rows] if np.ndim(value) else value for name, value in batch.items() if name != "signals"
    }
    share["first"] = batch["first"] + np.int64(rows.start)
    if "signals" in batch:  # once a worker, not once a replica: they are summed
        share["signals"] = batch["signals"] * np.float32(rows.start == 0)
    return share


def join(results: list[Batch], *, without: Iterable[str]) -> Batch:
    """The products of all local replicas, in order of rows."""
    names = [name for name in results[0] if name not in set(without)]
    return {name: np.concatenate([np.asarray(part[name]) for part in results]) for name in names}


def score(
    program: Replicated, batches: Iterable[Batch], names: tuple[str, ...], replicas: int, per: str = "count"
) -> dict[str, float]:
    """Held-out metrics: each batch's shares are over its own `per` ("count" or "units"), so they are weighted
    by it."""
    sums, total = np.zeros(len(names)), 0.0
    for batch in batches:
        count = float(batch[per])
        sums += np.asarray(program(split(batch, replicas))[0]["metrics"]) * count
        total += count
    return dict(zip(names, (sums / total).tolist(), strict=True))
