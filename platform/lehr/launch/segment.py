"""One segment of a trial in a process of Ray Tune's: what Tune calls a trainable.

The process may have had other segments before: TensorFlow is loaded once for many. Tune's own state, results
and checkpoints are not used: a segment is a run with a journal and checkpoints of its own.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable

from lehr import store as stores
from lehr.errors import LehrError, StorageError, UserError, letter
from lehr.launch import embedded, entry, failure
from lehr.launch.diary import Heard
from lehr.launch.failure import Failure, WorkerFailed
from lehr.launch.standstill import HUNG, Limits, Standstill
from lehr.launch.trial import Piece, is_alone, settings
from lehr.plan import Plan, restore
from lehr.store import Store
from lehr.sweep import records
from lehr.vitals import OURS

BEAT_S = 1.0  # between two words of a segment that has nothing to say
PACE_S = 0.02  # the least between two words: a metric at every step of a millisecond is told in heaps
CLOSE_S = 60.0  # that an end which nobody waited for may take
SHARE = 32  # trials that a place has from one process: each leaves some megabytes that nobody can collect
WORD = "said"  # the one key of what Tune calls a result


class Request(PlacementGroupFactory):
    """What a trial's process asks for. Those that differ in what a process is configured with for good, or in
    its generation, are not equal, so that Tune gives no trial the process of such another one.

    Args:
        wants: resources.
        configured: what its process is configured with.
    """

    def __init__(self, wants: Mapping[str, float], configured: str = "") -> None:
        self.configured = configured
        super().__init__([dict(wants)])

    def __eq__(self, other: object) -> bool:
        return bool(super().__eq__(other)) and self.configured == getattr(other, "configured", None)

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.configured))


def task(
    plan: Plan, storage: Store, sweep: str, *, wants: Mapping[str, float], slots: int = 1, **told: Any
) -> dict[str, Any]:
    """What travels to the process of a segment, as Tune's "config".

    Args:
        plan: of the segment.
        storage: the folder of runs, in which the sweep's folder is.
        sweep: its run id.
        wants: what the process asks Ray for.
        slots: trials at once.
        told: address: of the cluster, None if it is of this machine alone; hidden: whether GPUs are; metric,
            above: what is told at once.
    """
    job = entry.document(plan, storage.url) | {"sweep": sweep, **told}
    generation = (records.number(sweep, plan.run_id) - 1) // (SHARE * max(1, slots))
    return {"run": plan.run_id, "wants": dict(wants), "configured": f"{settings(plan)!r} {generation}",
            "job": json.dumps(job)}  # fmt: skip


class Segment(Trainable):
    """See the module."""

    @classmethod
    def default_resource_request(cls, config: Mapping[str, Any]) -> PlacementGroupFactory:
        """What Tune asks Ray for before it starts the process."""
        return Request(config["wants"], config["configured"])

    def setup(self, config: Mapping[str, Any]) -> None:
        """The process is there; nothing is begun before the first `step`, whose errors are told in words."""
        self._job: dict[str, Any] = json.loads(config["job"])
        self._piece: Piece | None = None
        self._lookout: Lookout | None = None
        self._failed: dict[str, Any] | None = None
        self._unwanted = False
        self._word_at = 0.0

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """The process gets another segment."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, str]:
        """Wait for the next word of the segment.

        Raises:
            WorkerFailed: it was told the last time, and the driver wants to see it in another process.
        """
        if self._failed is not None:
            raise WorkerFailed(self._failed)
        try:
            said = self._begin() if self._piece is None else self._listen(self._piece)
        except BaseException as error:
            self._failed = failure.of(error).document()
            said = {"failure": self._failed, "train_s": self._train_s()}
        self._word_at = time.monotonic()
        return {WORD: json.dumps(said)}

    def wish(self, word: str, why: str) -> None:
        """The driver wants it to end: "stop" with a checkpoint, "diverged" at once."""
        self._unwanted = True
        if self._piece is not None:
            self._piece.stop(why if word == "diverged" else "")

    def cleanup(self) -> None:
        """Nobody listens any more."""
        is_hung = self._failed is not None and self._failed["kind"] == HUNG
        if self._piece is not None and (is_hung or not self._piece.close(CLOSE_S)):
            os._exit(1)  # it would train on beside the next one
        self._piece = None
        _tidy()

    # --- its run ----------------------------------------------------------------------------------

    def _begin(self) -> dict[str, Any]:
        if self._unwanted:
            return {"outcome": {"status": "stopped", "step": 0}, "train_s": 0.0}
        job = self._job
        entry.settle(job["folder"])
        plan = restore(job["plan"])
        os.environ |= _environment(plan, hidden=job["hidden"])
        storage = stores.connect(job["storage"], plan.storage_options())
        _see(storage, job["sweep"])
        trials = storage.below(records.folder(job["sweep"]))
        # Ray Train reads it in this process and takes it along to its own. What Ray itself read when it was
        # loaded, before this, is not for a process that others started.
        embedded.prepare(job["address"])
        self._piece = Piece(plan, trials, address=job["address"], joined=True)
        self._piece.begin()
        if is_alone(plan):  # over others Ray Train's watchdog watches
            self._lookout = Lookout(plan)
        return {"host": os.uname().nodename}

    def _listen(self, piece: Piece) -> dict[str, Any]:
        heard: list[Heard] = []
        try:
            self._hear(piece, heard)
            end = piece.over
        except StorageError:
            if is_alone(piece.plan):
                raise
            time.sleep(BEAT_S)  # the journal of workers elsewhere cannot be read for now
            end = None
        said = {"heard": [[each.step, self._counting(each)] for each in heard]}
        return said | (self._hang() if end is None else self._end(end))

    def _hear(self, piece: Piece, heard: list[Heard]) -> None:
        """Listen for a beat, or until there is something that the driver is to hear at once."""
        until = time.monotonic() + BEAT_S
        while new := piece.hear(max(0.0, until - time.monotonic())):
            heard += new
            if any(self._urgent(self._counting(each)) for each in new):
                until = min(until, self._word_at + PACE_S)

    def _counting(self, heard: Heard) -> dict[str, float]:
        """Of all numbers, those that the driver looks at."""
        metric = self._job["metric"]
        return {name: value for name, value in heard.values.items()
                if name == metric or name.startswith("train/")}  # fmt: skip

    def _urgent(self, values: Mapping[str, float]) -> bool:
        """Whether the driver is to hear of it at once: a value to compare, or one that is out of bounds."""
        metric, above = self._job["metric"], self._job["above"]
        return metric in values or not all(abs(value) <= above for value in values.values())

    def _end(self, end: Any) -> dict[str, Any]:
        if isinstance(end, LehrError):  # starting again would end the same way, or was tried already
            last = dataclasses.replace(failure.of(end), final=True)
            return {"failure": last.document(), "train_s": self._train_s()}
        if end.status == "left":
            self._failed = failure.left("its host is taken away").document()
        return {"outcome": end.document(), "train_s": self._train_s()}

    def _hang(self) -> dict[str, Any]:
        """What to say of a worker in this process that hangs; {} of one that gets on."""
        why = self._lookout.look(time.monotonic()) if self._lookout is not None else ""
        if not why:
            return {}
        _show(why)
        self._failed = Failure(HUNG, why, host=os.uname().nodename).document()
        return {"failure": self._failed, "train_s": self._train_s()}

    def _train_s(self) -> float:
        return self._piece.train_s if self._piece is not None else 0.0


class Lookout:
    """Sees that the worker of this process hangs, by the same rules as Ray Train's watchdog.

    Args:
        plan: of its run.
    """

    def __init__(self, plan: Plan) -> None:
        recovery = plan.spec.recovery
        hang_s = 60.0 * recovery.hang_minutes
        self._limits = Limits(hang_s, hang_s + 60.0 * recovery.max_unsaved_minutes)
        self._begin(time.monotonic())

    def _begin(self, now: float) -> None:
        self._standstill = Standstill(self._limits, [os.uname().nodename], now)
        self._looked_at = now

    def look(self, now: float) -> str:
        """What it hangs in and since when; "" while it gets on."""
        if now - self._looked_at > max(self._limits.hang_s / 3, 3 * BEAT_S):
            self._begin(now)  # nobody asked, or this process itself stood still
        self._looked_at = now
        self._standstill.hear(0, OURS.document(), now)
        verdict = self._standstill.look([0], now)
        return verdict.message if verdict is not None else ""


def _show(why: str) -> None:
    """Have the stacks of all threads in the run's log, and wait until that is stored."""
    from lehr.launch import watchdog

    # What hangs may hold the lock of the journal, which is told, too.
    threading.Thread(target=watchdog.show_stacks, args=(why,), name="lehr-stacks", daemon=True).start()
    time.sleep(watchdog.GRACE_S)


def _tidy() -> None:
    """Give back what the last segment's model held. What is there after the first one are modules, for the
    most part: later collections need not look at them, which would take some tenths of a second each."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()


def _environment(plan: Plan, *, hidden: bool) -> dict[str, str]:
    """What the process of a segment has in its environment before it loads TensorFlow."""
    common = entry.environment(plan, 1)
    del common[entry.ATTEMPT]  # each attempt at each run has its own
    return common | ({"CUDA_VISIBLE_DEVICES": "-1"} if hidden else {})


def _see(storage: Store, sweep: str) -> None:
    """Every host must see the folder that the driver made: one host's disk is not another's.

    Raises:
        UserError: this one does not.
    """
    key = f"{sweep}/sweep.json"
    if storage.size(key) is None:
        raise UserError(
            letter(
                "storage",
                f"the trial's process on {os.uname().nodename} does not see {storage.url}/{key}",
                accepted="a folder that all hosts share, or an object store (s3://bucket/prefix, gs://, az://)",
                do="change storage: or give --storage URL",
            )
        )
