"""Workers without Ray: in this process, or as processes of this machine.

The same worker, rendezvous and restarts as under Ray; for tests, for debugging and for `lehr run --local`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lehr import journal, logs
from lehr.launch import admission, entry, failure, rendezvous
from lehr.launch.failure import Failure
from lehr.launch.rendezvous import LOOPBACK, Place, Port
from lehr.plan import Plan
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.outcome import Outcome

POLL_S = 0.1
ABORT_S = 3.0  # given to the other workers to end by themselves when one has failed
ALONE = ("single", "mirrored")  # strategies whose worker needs no peers


def run(plan: Plan, storage: Store, *, stop: Callable[[], bool] | None = None) -> Outcome:
    """Train `plan` on this machine without Ray, in this process if one worker is enough.

    What this process prints while it is the worker goes to the worker's log.

    Args:
        plan: what to train.
        storage: the folder of runs.
        stop: asked before each step by a worker in this process; others look for `control/stop`.

    Raises:
        LehrError: training failed for good.
    """
    if plan.spec.strategy.kind not in ALONE:
        return spawn(plan, storage)

    def work() -> Outcome:
        from lehr import worker

        return worker.main(plan, storage=storage, stop=stop)

    return here(plan, storage, work)


def here(plan: Plan, storage: Store, work: Callable[[], Outcome]) -> Outcome:
    """Be the only worker of `plan` in this process: call `work` in its surroundings, with its log."""
    number = journal.latest_attempt(entry.patient(plan, storage)) + 1
    os.environ |= entry.environment(plan, number) | dict(os.environ)
    with logs.capture(storage.below(plan.run_id), rank=0, attempt=number):
        return work()


def spawn(
    plan: Plan, storage: Store, *, worker: str = entry.WORKER, given_up: Callable[[], bool] = bool
) -> Outcome:
    """Train `plan` in processes of this machine, one a worker; start all again when one fails.

    Args:
        plan: what to train.
        storage: the folder of runs; other processes must see it, so it cannot be `memory://`.
        worker: what each worker calls, as `module:attribute`.
        given_up: asked again and again; once it says so, the workers are killed and not started again.

    Raises:
        UserError: `storage` exists in this process only.
        LehrError: it failed more often than `recovery.max_failures` allows, or would fail the same way again.
    """
    from lehr.worker.outcome import Outcome

    admission.visible(storage)
    attempts, run = plan.spec.recovery.max_failures + 1, entry.patient(plan, storage)
    for left in reversed(range(attempts)):
        number = journal.latest_attempt(run) + 1
        answers = _attempt(plan, entry.document(plan, storage.url, worker=worker), number, given_up)
        failures = {rank: Failure(**a["failure"]) for rank, a in enumerate(answers) if "failure" in a}
        if not failures:
            return Outcome(**answers[0]["outcome"])
        if left == 0 or given_up() or failures[failure.cause(failures)].final:
            folder = storage.below(plan.run_id)
            raise failure.error(failures, folder, url=folder.url)
    raise AssertionError("unreachable")


def _attempt(
    plan: Plan, job: dict[str, Any], number: int, given_up: Callable[[], bool]
) -> list[dict[str, Any]]:
    """One life of all workers; what each left, in order of rank."""
    ports = [Port(LOOPBACK) for _ in range(plan.workers)]
    interface = rendezvous.interface(LOOPBACK)
    places = [Place("localhost", LOOPBACK, interface, port.number) for port in ports]
    meeting = rendezvous.meet(plan.spec.strategy.kind, places)
    try:
        with tempfile.TemporaryDirectory(prefix="lehr-local-") as folder:
            file = Path(folder, "job.json")
            file.write_text(json.dumps(job))
            base = os.environ | entry.environment(plan, number)
            workers = [
                _Worker.start(file, Path(folder, f"result-{rank}.json"), base | mine)
                for rank, mine in enumerate(meeting.environments)
            ]
            return _watch(workers, given_up)
    finally:
        meeting.close()
        for port in ports:
            port.close()


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    result: Path

    @classmethod
    def start(cls, job: Path, result: Path, environment: dict[str, str]) -> _Worker:
        with result.with_suffix(".log").open("wb") as early:
            process = subprocess.Popen(
                [sys.executable, "-m", "lehr.launch.process", str(job), str(result)],
                env=environment,
                stdin=subprocess.PIPE,  # closes when this process goes
                stdout=early,  # from its first lines on, what it prints goes to its log
                stderr=early,
                start_new_session=True,  # a terminal's Ctrl-C is for the driver, who asks for a clean stop
            )
        return cls(process, result)

    def answer(self) -> dict[str, Any]:
        """What it left; a process that was killed leaves nothing."""
        if self.result.exists():
            answer: dict[str, Any] = json.loads(self.result.read_text())
            return answer
        code = self.process.returncode
        word = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        early = self.result.with_suffix(".log").read_text(errors="replace").strip()
        return {"failure": Failure("Died", f"its process {word}; {early[-500:]}".rstrip("; ")).document()}


def _watch(workers: Sequence[_Worker], given_up: Callable[[], bool]) -> list[dict[str, Any]]:
    """Wait for all to end; once one has failed, the others get a moment and are then killed."""
    deadline = float("inf")
    fallen: set[int] = set()  # killed by us: that is no reason for anything
    try:
        while any(worker.process.poll() is None for worker in workers):
            time.sleep(POLL_S)
            if deadline == float("inf") and any(worker.process.poll() for worker in workers):
                deadline = time.monotonic() + ABORT_S
            if time.monotonic() > deadline or given_up():
                fallen |= _kill(workers)
    finally:
        _kill(workers)
    answers = [worker.answer() for worker in workers]
    killed = {"failure": Failure("AbortedError", "ended because another worker failed").document()}
    return [killed if rank in fallen else answer for rank, answer in enumerate(answers)]


def _kill(workers: Sequence[_Worker]) -> set[int]:
    alive = {rank for rank, worker in enumerate(workers) if worker.process.poll() is None}
    for rank in alive:
        workers[rank].process.kill()
        workers[rank].process.wait()
    return alive
