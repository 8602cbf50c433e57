"""Watches over a group of Ray workers: one that hangs is named, shows its stacks, and ends the attempt.

Ray Train itself sees the death of a process, not one that waits for ever. The watchdog lives in Ray Train's
controller and asks each worker every few seconds what it does (`lehr.vitals`): an actor's own thread answers
while another one trains, unless the process is stopped or something holds Python's lock.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
import ray
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lehr.launch.failure import Failure, WorkerFailed
from lehr.launch.standstill import HUNG, Limits, Standstill, Verdict
from lehr.plan import Plan
from lehr.vitals import OURS

ASK_S = 2.0  # between two questions
# From the stacks to the end of the attempt: as long as logs and journals in object stores take to be sent.
GRACE_S = 8.0
ROUSE_S = 30.0  # for a host to start the process that looks after a silent one: long on a busy host
DUMP = signal.SIGUSR2
DUMP_S = 0.3  # that a process has for it
SAME_S = 2.0  # by which two readings of when a process began may differ: a host's clock is set now and then
# After so long Ray itself declares a worker dead that does not answer. It is the net below this one.
RAY_LIMIT = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"


class Watchdog(WorkerGroupCallback, ControllerCallback):
    """Made by the driver, alive in the controller.

    Args:
        plan: of the run. `recovery.hang_minutes` may pass without progress of any worker; before the first
            step of an attempt and at its end `recovery.max_unsaved_minutes` more: it may wait for storage.
    """

    def __init__(self, plan: Plan) -> None:
        hang_s = 60.0 * plan.spec.recovery.hang_minutes
        self._limits = Limits(hang_s, hang_s + 60.0 * plan.spec.recovery.max_unsaved_minutes)
        self._workers: list[Any] = []
        self._asked: dict[int, Any] = {}  # what each rank still owes an answer to
        self._born: dict[int, Any] = {}  # each rank's answer to when its process began
        self._asked_at = self._looked_at = 0.0
        self._standstill: Standstill | None = None

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray reads its own limit when it makes a group."""
        os.environ.setdefault(RAY_LIMIT, str(max(600.0, 2 * self._limits.hang_s)))

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        self._workers = list(worker_group.get_workers())
        self._asked = {}
        self._begin(time.monotonic())
        self._born = {
            rank: worker.execute_async(listen_to_signal) for rank, worker in enumerate(self._workers)
        }

    def _begin(self, now: float) -> None:
        hosts = [worker.metadata.hostname for worker in self._workers]
        self._standstill, self._looked_at = Standstill(self._limits, hosts, now), now

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Called about twice a second.

        Raises:
            WorkerGroupError: the group hangs.
        """
        if self._standstill is None or worker_group_status.errors:  # it fails already
            return
        running = [rank for rank, each in worker_group_status.worker_statuses.items() if each.running]
        now = time.monotonic()
        if now - self._looked_at > self._limits.hang_s / 3:
            self._begin(now)  # this process itself stood still: it cannot judge others by that time
        self._looked_at = now
        self._listen(self._standstill, now)
        self._ask(running, now)
        verdict = self._standstill.look(running, now)
        if verdict is not None:
            raise self._end(verdict, running)

    def _ask(self, ranks: Sequence[int], now: float) -> None:
        if now - self._asked_at < min(ASK_S, self._limits.hang_s / 10):
            return
        self._asked_at = now
        for rank in ranks:
            if rank not in self._asked:
                self._asked[rank] = self._workers[rank].execute_async(vitals)

    def _listen(self, standstill: Standstill, now: float) -> None:
        done = _ready(list(self._asked.values()), 0.0)
        for rank in [rank for rank, answer in self._asked.items() if answer in done]:
            try:
                standstill.hear(rank, ray.get(self._asked.pop(rank)), now)
            except ray.exceptions.RayError:
                continue  # it died; the next poll tells

    def _end(self, verdict: Verdict, running: Sequence[int]) -> WorkerGroupError:
        """Have stacks in all logs, wait until these are stored, and say why the attempt ends."""
        began = time.monotonic()
        answering = [self._workers[rank] for rank in running if rank not in verdict.silent]
        told = [worker.execute_async(show_stacks, verdict.message) for worker in answering]
        _ready(told, GRACE_S)  # before one is killed: the others would end
        message = "; ".join([verdict.message, *self._rouse(verdict.silent)])
        time.sleep(max(0.0, began + GRACE_S - time.monotonic()))
        self._standstill = None
        # Where nobody can be blamed it is no more than the end of one that waits: no host is held against it.
        hung = Failure(HUNG if verdict.known else "AbortedError", message).document()
        return WorkerGroupError(message, {rank: WorkerFailed(hung) for rank in verdict.culprits})

    def _rouse(self, silent: Sequence[int]) -> list[str]:
        """What can be done from outside for processes that do not answer; what was seen, in words."""
        asked = {}
        for rank in silent:
            there = self._workers[rank].metadata
            place = NodeAffinitySchedulingStrategy(there.node_id, soft=False)
            task = ray.remote(num_cpus=0, max_retries=0)(rouse)
            asked[rank] = task.options(scheduling_strategy=place).remote(there.pid, _known(self._born[rank]))
        done = _ready(list(asked.values()), ROUSE_S)
        return [f"rank {rank}: {_seen(answer, is_done=answer in done)}" for rank, answer in asked.items()]


def _ready(answers: list[Any], within_s: float) -> list[Any]:
    """Those that are there, after waiting so long for all."""
    done: list[Any] = ray.wait(answers, num_returns=len(answers), timeout=within_s)[0] if answers else []
    return done


def _known(answer: Any) -> float | None:
    """What came already; None when nothing did."""
    try:
        return float(ray.get(answer, timeout=0))
    except ray.exceptions.RayError:  # no answer in time is one of them
        return None


def _seen(answer: Any, *, is_done: bool) -> str:
    try:
        return str(ray.get(answer)) if is_done else "its host does not answer, either"
    except ray.exceptions.RayError:
        return "its host cannot be reached"


# --- on the workers' hosts ------------------------------------------------------------------------


def vitals() -> dict[str, Any]:
    """What this worker does."""
    return OURS.document()


def show_stacks(message: str) -> None:
    """Print where all threads of this worker are, into its log; rank 0 also writes an event."""
    print(f"lehr: {message}; the stacks of this worker:", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(2, all_threads=True)
    if OURS.tell is not None:
        OURS.tell("hung", step=OURS.step, message=message)


def listen_to_signal() -> float:
    """From now on DUMP makes this process print its stacks, even while something holds Python's lock.

    Returns:
        When this process began: with its number it names no other one.
    """
    faulthandler.register(DUMP, file=2, all_threads=True)
    return psutil.Process().create_time()


def rouse(pid: int, born: float | None) -> str:
    """Make a process of this host that does not answer print its stacks, then kill it; how it was, in words.

    A stopped one goes on for that moment. Its attempt is over: what it still does is refused.

    Args:
        pid: its number, which may be another one's by now.
        born: when it began; None if it never said so: then it is left alone.
    """
    if born is None:
        return f"its process {pid} was left alone: it never said when it began, and may be another one by now"
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - born) > SAME_S:
            return f"its process {pid} is gone, and another one has its number"
        state = process.status()
        process.send_signal(DUMP)
        process.send_signal(signal.SIGCONT)
        time.sleep(DUMP_S)
        process.send_signal(signal.SIGKILL)
    except psutil.Error:
        return f"its process {pid} is gone"
    how = "was stopped" if state == psutil.STATUS_STOPPED else f"was {state}"
    return f"its process {pid} {how}, was made to print its stacks into its log, and was killed"
