"""Each worker's signs of life as metrics of Ray's own exporter, which Prometheus reads on every host.

Ray puts `ray_` before the names: `lehr_step` is `ray_lehr_step` there.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.metrics import Gauge

from lehr.launch import entry
from lehr.vitals import OURS, Vitals

PERIOD_S = 5.0
TAGS = ("run", "rank", "host")

_stop = threading.Event()


class Gauges(WorkerGroupCallback):
    """Starts the gauges in every worker of every attempt. Needs a cluster whose hosts have an exporter.

    Args:
        run_id: what they are labelled with.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        for worker in worker_group.get_workers():
            worker.execute_async(start, self._run_id)


class Board:
    """The gauges of one worker.

    Args:
        run_id: of its run.
        vitals: what they show.
    """

    def __init__(self, run_id: str, vitals: Vitals = OURS) -> None:
        self._vitals = vitals
        self._tags = {"run": run_id, "rank": str(entry.rank()), "host": socket.gethostname()}
        self._step = _gauge("step", "Steps done.")
        self._seconds = _gauge("step_seconds", "Seconds a step, by phase; of the last entry.", "phase")
        self._examples = _gauge("examples_per_second", "Of the whole run; of the last entry.")
        self._uploaded = _gauge("uploaded_bytes", "Sent for checkpoints in this attempt.")
        self._age = _gauge("checkpoint_age_seconds", "Since the newest checkpoint; none before the first.")
        self._attempt = _gauge("attempt", "Number of this life of the run.")
        self._workers = _gauge("workers", "Workers of this attempt.")

    def show(self) -> None:
        """Set all of them to what the worker says now: Ray forgets what is not said again."""
        vitals, tags = self._vitals, self._tags
        self._attempt.set(int(os.environ.get(entry.ATTEMPT, "1")), tags)
        self._workers.set(entry.workers(), tags)
        self._step.set(vitals.step, tags)
        self._examples.set(vitals.examples_per_s, tags)
        self._uploaded.set(vitals.uploaded_bytes, tags)
        if vitals.checkpoint_at:
            self._age.set(max(0.0, time.time() - vitals.checkpoint_at), tags)
        for phase, seconds in _split(vitals.times).items():
            self._seconds.set(seconds, {**tags, "phase": phase})


def _gauge(name: str, description: str, *tags: str) -> Gauge:
    return Gauge(f"lehr_{name}", description=description, tag_keys=(*TAGS, *tags))


def _split(times: dict[str, float]) -> dict[str, float]:
    """The parts of a step, which add up to it: what is in no phase is "other"."""
    parts = {name: seconds for name, seconds in times.items() if name != "step"}
    whole = times.get("step")
    return parts if whole is None else {**parts, "other": max(0.0, whole - sum(parts.values()))}


def start(run_id: str) -> None:
    """Set this process's gauges every PERIOD_S from a thread of its own, until the process ends."""
    board = Board(run_id)

    def show() -> None:
        while True:
            board.show()
            if _stop.wait(PERIOD_S):
                return

    threading.Thread(target=show, name="lehr-gauges", daemon=True).start()
