"""Training on Ray: the driver's side of Ray Train V2."""

from __future__ import annotations

import re
import tempfile
import uuid
from typing import TYPE_CHECKING, Any

from lehr.errors import LaunchError, LehrError, letter
from lehr.launch import admission, embedded, entry, failure
from lehr.launch.failure import Failure
from lehr.launch.rendezvous import LOOPBACK
from lehr.plan import Plan
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.outcome import Outcome

_EXIT = re.compile(
    r"[Ww]orker exit type: (\S+) Worker exit detail: (.*?)(?: Some common causes|$)", re.MULTILINE
)
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
    from lehr.worker.outcome import Outcome

    admission.visible(storage)
    embedded.prepare(address)
    with embedded.cluster(plan, address) as resources:
        embedded.place(plan, resources)
        graphics = embedded.graphics(plan, resources)
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
        try:
            outcome: dict[str, Any] = trainer.fit().return_value
        except controller.TrainingFailedError as error:
            raise _explain(error, run) from error
    return outcome


def _explain(error: Any, run: Store) -> LehrError:
    failures = failures_of(error)
    if failures:
        return failure.error(failures, run, url=run.url)
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
    return Failure("Died", f"its process ended: {reason(str(error))}")


def reason(text: str) -> str:
    """Ray's own word for the death of a process, in one line, from a message of many."""
    if found := _EXIT.search(text):
        return f"{found[1]}, {found[2].strip()}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:_LONGEST] if lines else "Ray does not say why"
