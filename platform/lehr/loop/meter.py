"""Averages of metrics and times between two journal entries, and over an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lehr.vitals import OURS

PHASES = ("data", "compute", "exchange", "checkpoint")


class Stopwatch:
    """Seconds spent in each phase since the last `lap`. `now` is injected, so tests need not sleep."""

    def __init__(self, now: Any = time.perf_counter) -> None:
        self._now = now
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._since = now()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        OURS.enter(name)
        began = self._now()
        try:
            yield
        finally:
            self._seconds[name] += self._now() - began

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count `seconds` of one phase as another's: the exchange happens inside the compiled step."""
        self._seconds[source] -= seconds
        self._seconds[target] += seconds

    def lap(self, *, steps: int, examples: float) -> dict[str, float]:
        """The times of `steps` steps, per step, and the rate; starts anew."""
        whole = self._now() - self._since
        times = {f"time/{name}_s": seconds / steps for name, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._since = self._now()
        return {"rate/examples_per_s": examples / whole, "time/step_s": whole / steps, **times}


class Meter:
    """Sums of the step metrics since the last entry and since the epoch began.

    Kept in the checkpoint's progress, so a resumed run reports the same averages.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._sums = {"entry": np.zeros(len(names)), "epoch": np.zeros(len(names))}
        self._steps = {"entry": 0, "epoch": 0}
        self._examples = {"entry": 0.0, "epoch": 0.0}

    def add(self, metrics: np.ndarray, *, examples: float) -> None:
        """Count one step: `metrics` float [names]."""
        for span in self._sums:
            self._sums[span] += metrics
            self._steps[span] += 1
            self._examples[span] += examples

    def take(self, span: str) -> tuple[dict[str, float], int, float]:
        """Mean metrics, steps and examples of `span` ("entry" or "epoch"); starts it anew."""
        steps = self._steps[span]
        means = dict(zip(self._names, (self._sums[span] / max(steps, 1)).tolist(), strict=True))
        examples = self._examples[span]
        self._sums[span] = np.zeros(len(self._names))
        self._steps[span], self._examples[span] = 0, 0.0
        return means, steps, examples

    def state(self) -> dict[str, Any]:
        """What `restore` takes; JSON keeps float64 exactly."""
        return {
            span: {
                "sums": self._sums[span].tolist(),
                "steps": self._steps[span],
                "examples": self._examples[span],
            }
            for span in self._sums
        }

    def restore(self, state: dict[str, Any]) -> None:
        for span, part in state.items():
            sums = np.asarray(part["sums"], np.float64)
            if sums.shape != self._sums[span].shape:
                continue  # of a version that told other metrics: the span begins here
            self._sums[span] = sums
            self._steps[span] = part["steps"]
            self._examples[span] = part["examples"]
