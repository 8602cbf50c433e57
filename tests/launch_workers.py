"""Workers for tests of the launchers: they meet and exchange, and train nothing.

Each is named as `launch_workers:<function>` to `local.spawn` or `train.run`.
"""

from __future__ import annotations

import os
import time
from typing import Any

from lehr import journal
from lehr.errors import UserError
from lehr.plan import Plan
from lehr.store import Store
from lehr.worker.outcome import Outcome

PATIENCE_S = 120.0


def _horovod(plan: Plan, storage: Store) -> tuple[Any, Store, int]:
    """Horovod ready, the run's folder, and this attempt's number as rank 0 claimed it."""
    import horovod.tensorflow as horovod
    import tensorflow as tf

    horovod.init()
    run = storage.below(plan.run_id)
    mine = journal.claim_attempt(run) if horovod.rank() == 0 else 0
    attempt = int(horovod.broadcast(tf.constant(mine), 0))
    run.write(f"processes/rank-{horovod.rank()}.a{attempt}", str(os.getpid()).encode())
    print(f"worker {horovod.rank()} of {horovod.size()} in attempt {attempt}", flush=True)
    return horovod, run, attempt


def exchange(plan: Plan, *, storage: Store) -> Outcome:
    """Sum rank + 1 over all workers."""
    import tensorflow as tf

    horovod, _, attempt = _horovod(plan, storage)
    total = float(horovod.allreduce(tf.constant(horovod.rank() + 1.0), op=horovod.Sum))
    metrics = {"sum": total, "attempt": float(attempt), "threads": float(os.environ["OMP_NUM_THREADS"])}
    horovod.shutdown()
    return Outcome("completed", 1, metrics)


def wait_to_be_killed(plan: Plan, *, storage: Store) -> Outcome:
    """In the first attempt, exchange until somebody dies; in the second, do what `exchange` does."""
    import tensorflow as tf

    horovod, _, attempt = _horovod(plan, storage)
    began = time.monotonic()
    while attempt == 1 and time.monotonic() - began < PATIENCE_S:
        horovod.allreduce(tf.constant(1.0), name="beat")
        time.sleep(0.05)
    total = float(horovod.allreduce(tf.constant(horovod.rank() + 1.0), op=horovod.Sum))
    horovod.shutdown()
    return Outcome("completed", attempt, {"sum": total})


def refuse(plan: Plan, *, storage: Store) -> Outcome:
    """Worker 1 finds a mistake of the user's; worker 0 waits for it at the next exchange."""
    import tensorflow as tf

    horovod, _, _ = _horovod(plan, storage)
    if horovod.rank() == 1:
        raise UserError("data.root: nothing is there\n  do: name another folder")
    horovod.allreduce(tf.constant(1.0))
    raise AssertionError("worker 1 answered")


def stumble(plan: Plan, *, storage: Store) -> Outcome:
    """Worker 1 has a defect; worker 0 waits for it at the next exchange."""
    import tensorflow as tf

    horovod, _, _ = _horovod(plan, storage)
    if horovod.rank() == 1:
        print("about to divide", flush=True)
        raise ZeroDivisionError("a defect")
    horovod.allreduce(tf.constant(1.0))
    raise AssertionError("worker 1 answered")


def reduce(plan: Plan, *, storage: Store) -> Outcome:
    """Sum rank + 1 over the workers of a MultiWorkerMirroredStrategy."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rank = float(strategy.cluster_resolver.task_id)

    @tf.function
    def program() -> Any:
        def inner() -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(rank + 1.0))

        return strategy.run(inner)

    legacy = float("TF_USE_LEGACY_KERAS" in os.environ)
    return Outcome("completed", 0, {"sum": float(program()), "legacy": legacy})
