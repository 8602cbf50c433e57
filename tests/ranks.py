"""Ranks as threads: several workers that save into one store, as they would in a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from lehr.checkpoint import Manifest, Saver, State, load
from lehr.checkpoint.saver import KeepLast
from lehr.checkpoint.sending import Backoff
from lehr.checkpoint.shares import Patience
from lehr.store import Store

SLOTS = 6  # of the global batch
SPEC_HASH = "5" * 64


def state(step: int, *, rank: int = 0, workers: int = 1) -> State:
    """A state that tells its step and whose chains tell their slots; types and shapes of every sort."""
    slots = SLOTS // workers
    first = rank * slots
    numbers = np.random.default_rng(step)
    weights = {
        "conv/kernel": numbers.standard_normal((3, 3, 1, 4)).astype(np.float32),
        "conv/bias": np.full(4, np.nan, np.float32),
        "half": numbers.standard_normal(5).astype(ml_dtypes.bfloat16),
    }
    optimizer = {"iteration": np.asarray(step, np.int64), "none": np.zeros((0, 3), np.float32)}
    every_slot = np.random.default_rng(step + 1).integers(0, 256, (SLOTS, 2, 2), np.uint8)
    chains = {
        "images": every_slot[first : first + slots],
        "filled": (every_slot[:, 0, 0] > 128)[first : first + slots],
        "step": np.full(slots, step, np.int64),
    }
    mine = rank == 0
    return State(weights if mine else {}, optimizer if mine else {}, chains, first, slots,
                 {"step": step, "mean": 0.1 * step})  # fmt: skip


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether names, types, shapes and every bit agree."""
    return one.keys() == other.keys() and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in ((one[name], other[name]) for name in one)
    )


def is_whole(store: Store, manifest: Manifest) -> bool:
    """Whether 1, 2 and 3 workers get from a checkpoint exactly what was put in at its step."""
    for workers in (1, 2, 3):
        for rank in range(workers):
            wanted = state(manifest.step, rank=rank, workers=workers)
            got = load(store, manifest, first_slot=wanted.first_slot, slots=wanted.slots)
            first = state(manifest.step)
            exact = same(got.weights, first.weights) and same(got.optimizer, first.optimizer)
            if not (exact and same(got.chains, wanted.chains) and got.progress == wanted.progress):
                return False
    return True


class Ranks:
    """The savers of all workers of one attempt. Rank 0 waits for a rank as long as that one is at work."""

    def __init__(
        self, store: Store, *, attempt: int = 1, workers: int = 2, policy: Any = None, **options: Any
    ) -> None:
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self._handing_over = False
        self._time_s = 0.0
        self.savers = [
            Saver(
                store, rank=rank, workers=workers, attempt=attempt, spec_hash=SPEC_HASH,
                versions={"lehr": "0"}, keep=policy or KeepLast(2), on_event=self._listener(rank),
                patience=Patience(3.0, lambda: self._time_s, self._sleep),
                **{"grace_s": 0.0, "backoff": Backoff(0.0005, 0.002)} | options,
            )
            for rank in range(workers)
        ]  # fmt: skip

    def resume(self, manifest: Manifest) -> Ranks:
        for saver in self.savers:
            saver.resumed_from(manifest)
        return self

    def save(self, *steps: int, metrics: Mapping[str, float] | None = None) -> int | None:
        """Save `steps` one after the other, all ranks at once; the last step committed."""
        for step in steps:
            self.hand_over(step, metrics=metrics)
            self.wait()
        return self.savers[0].committed

    def hand_over(self, *steps: int, metrics: Mapping[str, float] | None = None) -> None:
        """Begin to save `steps` on all ranks; waits for nothing but the spool."""
        self._handing_over = True
        for step in steps:
            values = metrics or {"train/loss": 1.0 / step}
            for rank, saver in enumerate(self.savers):
                saver.save(step, state(step, rank=rank, workers=len(self.savers)), values)
        self._handing_over = False

    def wait(self) -> None:
        """Until all that was handed over is committed, or never will be."""
        for saver in self.savers:
            saver.wait(60.0)
            assert saver.wait(0.0) == saver.committed
            assert saver.fenced or not saver.waiting, "it never ends"

    def close(self) -> None:
        for saver in self.savers:
            saver.close()

    def told(self, event: str, *, rank: int = 0) -> list[dict[str, Any]]:
        """Fields of the events of that name which a rank told."""
        return [fields for who, name, fields in self.events if (who, name) == (rank, event)]

    def _sleep(self, seconds: float) -> None:
        if self._handing_over or any(saver.waiting for saver in self.savers[1:]):
            time.sleep(0.0005)
        else:
            self._time_s += 1.0

    def _listener(self, rank: int) -> Any:
        return lambda event, **fields: self.events.append((rank, event, fields))
