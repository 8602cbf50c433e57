"""Training on Ray: the driver's side of Ray Train V2."""

from __future__ import annotations

import re
import sys
import tempfile
import uuid
from typing import TYPE_CHECKING, Any

from lehr.errors import LaunchError, LehrError, letter
from lehr.launch import admission, embedded, entry, failure, room, waiting
from lehr.launch.failure import Failure
from lehr.launch.notes import Notes
from lehr.launch.rendezvous import LOOPBACK
from lehr.launch.room import Room
from lehr.plan import Plan
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.outcome import Outcome

_EXIT = re.compile(
    r"[Ww]orker exit type: (\S+) Worker exit detail: (.*?)(?: Some common causes|$)", re.MULTILINE
)
_HOST = re.compile(r"\bhostname='([^']+)'")  # in what Ray Train says of a worker that does not answer
_FULL = re.compile(r"running low on memory\..*? was (.+? used / .+? limit)")  # Ray's memory monitor
_LONGEST = 200


def run(plan: Plan, storage: Store, *, address: str | None = None, worker: str = entry.WORKER) -> Outcome:
    """Train `plan` on Ray and wait for it. A group in which a worker fails is started anew as a whole.

    Args:
        plan: what to train; its `plan.json` must be in the run's folder already.
        storage: the folder of runs.
        address: of a Ray cluster; None starts one on this machine for as long as it takes.
        worker: what each worker calls, as `module:attribute`.

    Raises:
        UserError: `storage` cannot be seen by other processes.
        LehrError: it failed more often than `recovery.max_failures` allows, or would fail the same way again.
    """
    admission.visible(storage)
    embedded.prepare(address)
    with embedded.cluster(plan, address) as there:
        return _train(plan, storage, there, address=address, worker=worker)


def within(plan: Plan, storage: Store, *, address: str | None) -> Outcome:
    """The same on the cluster that this process has joined already, which stays as it is afterwards.

    Args:
        plan: what to train; its `plan.json` must be in the run's folder already.
        storage: the folder of runs.
        address: of the cluster; None when it is of this machine alone.

    Raises:
        LehrError: as `run`.
    """
    from lehr.launch import census

    admission.visible(storage)
    return _train(plan, storage, census.grown() if address else census.take(), address=address)


def _train(
    plan: Plan, storage: Store, there: Room, *, address: str | None, worker: str = entry.WORKER
) -> Outcome:
    from lehr.worker.outcome import Outcome

    least = plan.sizes[0] if address else plan.workers  # a cluster of its own is as large as it needs
    graphics = room.graphics(plan, there, least=least)
    room.require(there, room.wants(plan, gpus=graphics), least=least, most=plan.workers)
    job = entry.document(plan, storage.url, worker=worker)
    return Outcome(**_fit(plan, job, storage.below(plan.run_id), graphics=graphics, own=address is None))


def _fit(plan: Plan, job: dict[str, Any], run: Store, *, graphics: int, own: bool) -> dict[str, Any]:
    from lehr.launch import controller
    from lehr.launch.backends import Config

    meeting = Config(job=job, hidden=not graphics, address=LOOPBACK if own else None)
    name = f"{plan.run_id}-{uuid.uuid4().hex[:8]}"
    # Ray Train insists on a folder; ours is elsewhere and nothing is reported to it, so none is shared.
    with tempfile.TemporaryDirectory(prefix="lehr-ray-train-") as folder:
        trainer = controller.trainer(plan, meeting, graphics=graphics, folder=folder, name=name)
        notes = Notes(folder)
        try:
            with notes.heard(_say):
                outcome: dict[str, Any] = trainer.fit().return_value
        except controller.TrainingFailedError as error:
            if (stopped := waiting.stopped(error)) is not None:
                return stopped
            raise _explain(error, run, notes.verdict()) from error
    return outcome


def _say(line: str) -> None:
    print(f"lehr: {line}", file=sys.stderr, flush=True)


def _explain(error: Any, run: Store, verdict: str) -> LehrError:
    """What to raise before the user; `verdict` is what the failure policy had to say at the end, or ""."""
    failures = failures_of(error)
    if failures and not all(each.kind == failure.LEFT for each in failures.values()):
        told = failure.error(failures, run, url=run.url)
        return type(told)(f"{told}\n{verdict}") if verdict else told
    if verdict:
        return LaunchError(verdict)
    inner = getattr(error, "controller_failure", error)
    if isinstance(inner, LehrError):
        return inner
    reason = str(inner).strip().splitlines()
    return LaunchError(
        letter(
            "ray",
            f"the workers could not be started ({reason[-1] if reason else type(error).__name__})",
            do="`lehr doctor` tells what is missing; --local trains without Ray",
        )
    )


def failures_of(error: Any) -> dict[int, Failure]:
    """By rank, what Ray Train knows of the workers that ended; {} when it is not about workers."""
    return {rank: _failure(each) for rank, each in getattr(error, "worker_failures", {}).items()}


def _failure(error: Any) -> Failure:
    inner = getattr(error, "_base_exc", error)  # Ray Train wraps what a train function raises
    if isinstance(inner, failure.WorkerFailed):
        return inner.failure
    text = str(error)
    host = _HOST.search(text)
    kind = failure.MEMORY if Failure("", text).memory else "Died"
    return Failure(kind, f"its process ended: {reason(text)}", host=host[1] if host else "")


def reason(text: str) -> str:
    """Ray's own word for the death of a process, in one line, from a message of many."""
    if found := _EXIT.search(text):
        return f"{found[1]}, {found[2].strip()}"
    if found := _FULL.search(text):
        return f"Ray killed it, for its host ran low on memory: {found[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:_LONGEST] if lines else "Ray does not say why"
