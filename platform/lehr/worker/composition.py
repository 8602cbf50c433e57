"""What a worker does, from the plan to the outcome."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

from lehr import checkpoint
from lehr import store as stores
from lehr.errors import DivergenceError
from lehr.journal import claim_attempt
from lehr.plan import Plan
from lehr.store import Store
from lehr.store.patient import DENIED_S, Patient
from lehr.strategies import devices
from lehr.strategies.guard import agree
from lehr.strategies.strategy import make
from lehr.tracking import tracker as trackers
from lehr.worker.clock import StopRequest
from lehr.worker.divergence import Detour
from lehr.worker.life import Life
from lehr.worker.outcome import Outcome


def main(
    plan: Plan, *, storage: Store | None = None, stop: Callable[[], bool] | None = None,
    life: type[Life] = Life,
) -> Outcome:  # fmt: skip
    """Train `plan` on this worker until it is done, stopped or diverged.

    Which worker this is comes from the environment (HOROVOD_*, TF_CONFIG). The run goes on from its newest
    good checkpoint if it has one; there is no resume flag.

    Args:
        plan: the job with every number resolved.
        storage: where runs live; by default what `plan.spec.storage` names.
        stop: asked before each step; true means: finish the step, make a checkpoint, return.
        life: what an attempt is; another one for tests of what can befall it.

    Raises:
        LehrError: what stands in the way, as a letter.
    """
    devices.configure(
        threads=plan.threads_per_worker,
        devices=plan.devices_per_worker,
        side_by_side=plan.side_by_side,
    )
    keras.config.set_dtype_policy(plan.spec.train.precision)
    base = storage if storage is not None else stores.connect(plan.spec.storage, plan.storage_options())
    run = base.below(plan.run_id)
    request = StopRequest(stop)
    strategy = make(plan.spec.strategy.kind, devices=plan.devices_per_worker)
    attempt = agree(strategy, [_claim(plan, run) if strategy.rank == 0 else 0])[0]
    with _terminated(request):
        try:
            ended = _live(life(plan, base, strategy, attempt, request))
            while isinstance(ended, Detour):
                gc.collect()  # of the attempt before: two models may be more than a GPU holds
                attempt = agree(strategy, [_claim(plan, run) if strategy.rank == 0 else 0])[0]
                ended = _live(life(plan, base, strategy, attempt, request, ended))
            return ended
        finally:
            strategy.close()


def _claim(plan: Plan, run: Store) -> int:
    """The next attempt's number; what earlier ones have not committed, they cannot commit any more."""
    patience_s = 60.0 * plan.spec.recovery.max_unsaved_minutes
    patient = Patient(run, patience_s=patience_s, denied_s=DENIED_S, tell=trackers.say)
    attempt = claim_attempt(patient)
    checkpoint.seal(patient, attempt)
    return attempt


def _live(life: Life) -> Outcome | Detour:
    """How an attempt ended; or what another one does otherwise, from the newest checkpoint."""
    try:
        try:
            return life.train()
        except DivergenceError as error:
            return life.turn_back(error) or life.end("diverged", message=str(error))
    except BaseException as error:
        life.fail(error)
        raise


@contextmanager
def _terminated(request: StopRequest) -> Iterator[None]:
    """SIGTERM means: finish the step, make a checkpoint, leave. Signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: request.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
