"""Whether a run may start: what its folder already holds, and what this machine must have for it."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from lehr import journal, status
from lehr import spec as specs
from lehr.checkpoint import manifest
from lehr.errors import KeyMissing, LaunchError, UserError, letter
from lehr.plan import Plan
from lehr.store import Store

DEAD_S = 30.0  # a living run writes its status at least every 10 s
DRIVER = "control/driver.json"
SWEEP = "sweep.json"  # what makes a folder a sweep's


@dataclass(frozen=True)
class Standing:
    """What a run's folder says before this start.

    Args:
        attempts: how many there were.
        step: of the newest checkpoint; None when there is none.
        complete: the plan's last step is done.
    """

    attempts: int
    step: int | None
    complete: bool


def standing(plan: Plan, run: Store) -> Standing:
    """What is in the folder of the run that `plan` would continue.

    Raises:
        UserError: it is another job's, or a sweep's.
    """
    refuse_sweep(plan, run)
    attempts, step = journal.latest_attempt(run), newest_step(run)
    if attempts or step is not None:
        _refuse_other(plan, run)
    return Standing(attempts, step, complete=step is not None and step >= plan.steps)


def refuse_sweep(plan: Plan, run: Store) -> None:
    """Refuse to train into a sweep's folder: with a plan in it, it would be taken for a run.

    Raises:
        UserError: it is one.
    """
    if run.size(SWEEP) is not None:
        do = f"give the run a name of its own: --run {plan.run_id}-run"
        raise UserError(letter(f"run {plan.run_id}", f"{run.url} holds a sweep", do=do))


def newest_step(run: Store) -> int | None:
    """Of the checkpoints that were committed; whether they are whole, the workers see to."""
    places = (manifest.address(name) for name in manifest.committed_names(run.list(manifest.ROOT)))
    return max((step for step, _ in filter(None, places)), default=None)


def _refuse_other(plan: Plan, run: Store) -> None:
    before = document(run, "plan.json")
    if not before or before.get("spec_hash") == plan.spec_hash:
        return
    changes = specs.difference(before["spec"], plan.document()["spec"])
    told = "\n    ".join(changes or ["(a default of lehr's own)"])
    raise UserError(
        letter(
            f"run {plan.run_id}",
            f"it was started with other settings, and these change its result:\n    {told}",
            do=f"undo the change to continue it, or train beside it: --run {plan.run_id}-2 ({run.url} stays)",
        )
    )


def document(run: Store, key: str) -> dict[str, Any]:
    """A JSON object in the store; {} when it is not there or is no such thing."""
    try:
        found = json.loads(run.read(key))
    except (KeyMissing, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def refuse_second(
    plan: Plan,
    run: Store,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> None:
    """Refuse a second driver for a run that is alive.

    A driver of this machine is looked for among its processes. Of one elsewhere only the pulse of the run is
    seen: if it is fresh, wait until it is old, and see whether it beats.

    Raises:
        UserError: the run is alive.
    """
    if lives(run, f"run {plan.run_id}", say=say, sleep=sleep, now=now):
        raise _taken(plan)


def lives(
    run: Store,
    name: str,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> bool:
    """Whether somebody drives the run, or the sweep, of this folder right now; it may take half a minute."""
    here = _driver_is_here(run)
    if here is True:
        return True
    first = _pulse(run)
    if here is False or first is None or now() - first > DEAD_S:
        return False
    say(f"{name} gave a sign of life {max(0.0, now() - first):.0f} s ago; looking for another ...")
    while now() - first <= DEAD_S:
        sleep(1.0)
        beat = _pulse(run)
        if beat != first:
            return beat is not None
    return False


def _taken(plan: Plan) -> UserError:
    return UserError(
        letter(
            f"run {plan.run_id}",
            "it is being trained right now",
            do=f"watch it with `lehr show {plan.run_id}`, stop it with Ctrl-C where it was started, or train "
            f"beside it: --run {plan.run_id}-2",
        )
    )


def _driver_is_here(run: Store) -> bool | None:
    """Whether the run's last driver lives on this machine; None when it was elsewhere or none is known."""
    driver = document(run, DRIVER)
    if driver.get("host") != socket.gethostname():
        return None
    try:
        return bool(psutil.Process(driver["pid"]).create_time() == driver["created"])
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _pulse(run: Store) -> float | None:
    """When the run last said that it is alive, in seconds since 1970; None when it says that it is not."""
    last = status.read(run)
    return last.time if last is not None and last.status in status.ALIVE else None


def require(plan: Plan) -> None:
    """Say what is not installed before anything is started.

    Raises:
        LaunchError: the strategy needs it.
    """
    if plan.spec.strategy.kind == "horovod" and importlib.util.find_spec("horovod") is None:
        raise LaunchError(
            letter(
                "strategy.kind: horovod",
                "Horovod is not installed here",
                accepted="multiworker does the same with TensorFlow alone; single and mirrored need no peers",
                do="`make setup` builds it; or give --set strategy.kind=multiworker",
            )
        )


def visible(storage: Store) -> None:
    """Say that workers in processes of their own cannot see a storage of this process.

    Raises:
        UserError: it is in memory.
    """
    if storage.url.startswith("memory:"):
        raise UserError(
            letter(
                "storage",
                f"{storage.url} exists in one process only, and each worker is one of its own",
                accepted="a folder, or an object store (s3://bucket/prefix, gs://, az://)",
                do="give --storage URL",
            )
        )


def prepare(plan: Plan, run: Store) -> None:
    """Write what workers and readers need before the run starts: `spec.yaml`, `plan.json`, who drives it."""
    run.write("spec.yaml", specs.text(plan.spec).encode())
    run.write("plan.json", json.dumps(plan.document(), indent=2).encode())
    sign(run)


def sign(run: Store) -> None:
    """Say that this process drives the run."""
    driver = {"host": socket.gethostname(), "pid": os.getpid(), "created": psutil.Process().create_time()}
    run.write(DRIVER, json.dumps(driver).encode())
