"""The engine of a sweep on Ray: many trials at a time, each in a place of its own, by Ray Tune.

Tune holds places and processes, and starts again what died. What it starts, what it stops and when it is
done the desk says; nothing of Tune's own state is kept. Trials are counted as wholes: one of several workers
begins when all of them fit, and its own process takes no room from them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lehr.errors import LaunchError, letter
from lehr.launch import admission, embedded, room, trial
from lehr.launch.floor import Floor
from lehr.launch.room import Room
from lehr.plan import Plan
from lehr.store import Store
from lehr.sweep import records

if TYPE_CHECKING:
    from lehr.launch.desk import Desk
    from lehr.sweep.program import Program

LOOK_S = 5.0  # between two looks at a cluster that others use, too
HEAD = "node:__internal_head__"  # a resource that the head has: 1.0 of it
_SOME = 0.001

# Read by Tune when it is imported or runs.
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # its own state, which nobody reads
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # the floor counts: at 1, places would be filled one by one
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # ours are in words
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1e9",  # so is what a sweep waits for
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "1e9",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run(desk: Desk, program: Program, storage: Store, *, address: str | None = None) -> None:
    """Run segments on Ray until the desk has no more, or wants to leave.

    Args:
        desk: says what is next, and hears what became of it.
        program: of the sweep.
        storage: the folder of runs, in which the sweep's folder is.
        address: of a Ray cluster; None starts one on this machine for as long as it takes.

    Raises:
        UserError: `storage` cannot be seen by other processes.
        LaunchError: the cluster cannot be reached, or never has room for a trial.
    """
    admission.visible(storage)
    plan = program.base()  # what trials need does not vary
    slots = _own_slots(program, plan)
    _prepare(plan, address)
    with embedded.cluster(plan, address, trials=slots, loads="lehr.launch.asking") as there:
        place = Place(there, address)
        asked = place.asks(plan)
        room.require(there, asked, least=plan.sizes[0], most=plan.workers)
        fit = whole(there, asked, plan)  # of memory and GPUs an own cluster has no more than its machine
        desk.slots = fit if address else max(1, min(slots, fit))
        _loop(desk, storage, place, Look(desk, plan, asked, joined=address is not None))


def _loop(desk: Desk, storage: Store, place: Place, look: Look) -> None:
    asking = importlib.import_module("lehr.launch.asking")
    sweep, search = desk.program.run_id, desk.program.search
    most = desk.program.spec.recovery.max_failures
    floor = Floor(desk, storage.below(records.folder(sweep)), most=most, say=_say)

    def task(plan: Plan) -> Mapping[str, Any]:
        told = place.task(plan) | {"metric": search.metric, "above": search.diverged_above}
        told |= {"slots": desk.slots}
        found: Mapping[str, Any] = asking.task(plan, storage, sweep, **told)
        return found

    try:
        asking.loop(floor, task=task, beat=lambda: look.now(floor))
    except asking.TuneError as error:
        raise LaunchError(_broken(error)) from error
    finally:
        for run in list(floor.places):  # Tune has ended their processes
            floor.cut(run)


def _prepare(plan: Plan, address: str | None) -> None:
    """Set what Ray and Tune read. What the user has set stays."""
    if address is None and trial.is_alone(plan):
        os.environ.setdefault("RAY_prestart_worker_first_driver", "1")  # each slot's process at once
    embedded.prepare(address)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def _own_slots(program: Program, plan: Plan) -> int:
    """Trials at once on a cluster of the sweep's own: as many as asked for, or as there are CPUs for."""
    processors = len(os.sched_getaffinity(0)) // (plan.workers * plan.spec.strategy.cpus_per_worker)
    return max(1, min(program.search.concurrent or processors, program.trials))


def whole(there: Room, asked: Mapping[str, float], plan: Plan) -> int:
    """Trials that fit at once when nobody else is there; an elastic one counts with its most workers.

    Where nobody knows how far an autoscaler goes it is one more: one that waits is what it adds hosts for.
    """
    fit = room.ever(there, asked)
    return (fit // plan.workers or int(fit >= plan.sizes[0])) + (not there.bounded)


class Place:
    """What trials ask a cluster for.

    Args:
        there: the cluster.
        address: of it; None when it is of this machine alone.
    """

    def __init__(self, there: Room, address: str | None) -> None:
        self._there, self._address = there, address

    def _graphics(self, plan: Plan) -> int:
        return room.graphics(plan, self._there, least=plan.sizes[0])

    def asks(self, plan: Plan) -> dict[str, float]:
        """What each worker asks for."""
        return room.wants(plan, gpus=self._graphics(plan))

    def task(self, plan: Plan) -> dict[str, Any]:
        """What a trial's process asks for, and what it must know of the cluster.

        One that waits for workers elsewhere is on the head, which lives as long as the sweep.
        """
        wants = self.asks(plan) if trial.is_alone(plan) else {HEAD: _SOME}
        return {"wants": wants, "address": self._address, "hidden": not self._graphics(plan)}


class Look:
    """A look at the cluster now and then: hosts come and go.

    Args:
        desk: hears how many trials fit, and what is waited for.
        plan: of a trial.
        asked: what each worker asks for.
        joined: whether the cluster was there before.
    """

    def __init__(self, desk: Desk, plan: Plan, asked: Mapping[str, float], *, joined: bool) -> None:
        self._desk, self._plan, self._asked, self._joined = desk, plan, asked, joined
        self._looked_at = time.monotonic()
        self._without: set[str] = set()  # that had no process at the last look

    def now(self, floor: Floor) -> None:
        """Look, if it is time to."""
        if not self._joined or time.monotonic() - self._looked_at < LOOK_S:
            return
        from lehr.launch import census

        self._looked_at = time.monotonic()
        with contextlib.suppress(Exception):  # the head may be away for a while
            there = census.grown()
            self._desk.slots = whole(there, self._asked, self._plan)
            self._desk.waiting = self._waits(there, floor)

    def _waits(self, there: Room, floor: Floor) -> str:
        without = {run for run, place in floor.places.items() if not place.host}
        before, self._without = self._without, without
        if not without & before and (floor.places or self._desk.slots):
            return ""
        return room.waits(self._plan.sizes[0], there, self._asked)


def _broken(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return letter(
        "ray tune",
        f"its loop ended ({lines[-1] if lines else type(error).__name__})",
        do="give the same command again: the sweep goes on where it was",
    )


def _say(line: str) -> None:
    print(f"lehr: {line}", file=sys.stderr, flush=True)
