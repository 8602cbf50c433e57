"""What runs first in a worker process, whoever started it: a job document in, an outcome document out."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from lehr import leaving, logs
from lehr import store as stores
from lehr.errors import LehrError, StorageDenied, UserError, letter
from lehr.launch import failure
from lehr.launch.failure import WorkerFailed
from lehr.plan import Plan, restore
from lehr.store import Store
from lehr.store.patient import DENIED_S, Patient

WORKER = "lehr.worker:main"
ATTEMPT = "LEHR_ATTEMPT"  # the number that rank 0 will claim for this attempt: names the log before it does


def document(plan: Plan, storage: str, *, worker: str = WORKER) -> dict[str, Any]:
    """What travels to a worker: JSON, so that both sides may have loaded different things.

    Args:
        plan: the plan.
        storage: URL of the folder of runs, absolute.
        worker: what to call there, as `module:attribute`, with the signature of `lehr.worker.main`.
    """
    return {"plan": plan.document(), "storage": storage, "folder": os.getcwd(), "worker": worker}


def _cycle_ms(plan: Plan) -> str:
    """How often Horovod's thread asks the other workers what is ready.

    Each time costs a round over the network and a switch of threads, all through the step. Steps with chains
    take hundreds of milliseconds: at Horovod's own 1 ms the asking takes a tenth of a worker's one core (0.33
    to 0.35 s a step of the book's EBM, one run each; 0.31 at 5 ms, 0.30 at 10).
    """
    return "5" if plan.side_by_side else "1"


def environment(plan: Plan, attempt: int) -> dict[str, str]:
    """What every worker of an attempt has in its environment before it loads TensorFlow.

    Workers that share a host would each start a thread a core: OMP_NUM_THREADS holds BLAS to the plan.
    """
    return {
        ATTEMPT: str(attempt),
        "OMP_NUM_THREADS": str(plan.threads_per_worker),
        "HOROVOD_CYCLE_TIME": os.environ.get("HOROVOD_CYCLE_TIME", _cycle_ms(plan)),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }


def patient(plan: Plan, storage: Store) -> Store:
    """The run's folder, for what must be known before an attempt can begin.

    An outage is waited out, and said; a refusal is borne for a minute only.
    """
    patience_s = 60.0 * plan.spec.recovery.max_unsaved_minutes
    return Patient(storage.below(plan.run_id), patience_s=patience_s, denied_s=DENIED_S, tell=_say)


def _say(text: str) -> None:
    print(f"lehr: {text}", file=sys.stderr, flush=True)


def rank() -> int:
    """This worker's number, from what its launcher set."""
    if "HOROVOD_RANK" in os.environ:
        return int(os.environ["HOROVOD_RANK"])
    task = json.loads(os.environ.get("TF_CONFIG", "{}"))
    return int(task["task"]["index"]) if "task" in task else 0


def workers() -> int:
    """How many workers this attempt has, from what its launcher set."""
    if "HOROVOD_SIZE" in os.environ:
        return int(os.environ["HOROVOD_SIZE"])
    return len(json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {}).get("worker", [0]))


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """Be the worker that the environment names, for the document `job`; the outcome's document.

    Raises:
        WorkerFailed: whatever went wrong; the traceback is in the worker's log.
    """
    try:
        return _run(job)
    except WorkerFailed:
        raise
    except BaseException as error:  # before the log was open
        raise WorkerFailed(failure.of(error).document()) from None


def _run(job: Mapping[str, Any]) -> dict[str, Any]:
    settle(job["folder"])
    plan = restore(job["plan"]).at(workers())
    storage = stores.connect(job["storage"], plan.storage_options())
    folder = storage.below(plan.run_id)
    with logs.capture(folder, rank(), int(os.environ[ATTEMPT])):
        with contextlib.suppress(Exception):  # a replaced sys.stderr has no descriptor
            faulthandler.enable(sys.stderr)
        try:
            _see(patient(plan, storage))
            outcome = _load(job["worker"])(plan, storage=storage)
        except BaseException as error:
            _note(error)
            raise WorkerFailed(failure.of(error).document()) from None
    if outcome.status == "left":  # no answer for the user: it goes on
        raise WorkerFailed(failure.left(leaving.asked()).document())
    document: dict[str, Any] = outcome.document()
    return document


def _load(worker: str) -> Callable[..., Any]:
    module, attribute = worker.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def settle(folder: str) -> None:
    """Stand where the driver stands, so that relative paths and the user's own modules mean the same."""
    if os.path.isdir(folder):
        os.chdir(folder)
        if folder not in sys.path:
            sys.path.insert(0, folder)


def _see(run: Store) -> None:
    """Every worker must see the folder that the driver made: one host's disk is not another's.

    Raises:
        UserError: it does not; or, in the first attempt, the storage refuses it, which was never otherwise.
        StorageDenied: the storage refuses it now.
    """
    try:
        seen = run.size("plan.json") is not None
    except StorageDenied as error:
        if int(os.environ.get(ATTEMPT, "1")) > 1:
            raise
        raise stores.refusal(f"{run.url}, on {os.uname().nodename}", "cannot be used", error) from error
    if not seen:
        raise UserError(
            letter(
                "storage",
                f"the worker on {os.uname().nodename} does not see {run.url}/plan.json, written at the start",
                accepted="a folder that all hosts share, or an object store (s3://bucket/prefix, gs://, az://)",
                do="change storage: or give --storage URL",
            )
        )


def _note(error: BaseException) -> None:
    if isinstance(error, LehrError):
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
