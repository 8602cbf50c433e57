"""The Ray cluster that a run trains on: one of its own on this machine, or one that is there already."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from lehr.errors import LaunchError, UserError, letter
from lehr.launch.room import Room
from lehr.plan import Plan

KNOCK_S = 10.0
STORE_BYTES = 100 << 20  # Ray's least is 75 MiB; nothing of ours goes through its object store
# A Unix socket's path has at most 107 bytes, and Ray adds about 66 to its folder's.
LONGEST_FOLDER = 38
PREFIX = "lehr-ray-"
TRAIN = "ray.train.v2.api.data_parallel_trainer"

# Read by Ray when it is imported or started.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",  # Ray's own; ours are in the journal
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers stand where the driver stands
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a dead worker, and the end, are seen this soon
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # workers' output goes to their logs
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # of a notice of 30 s, Ray's own 5 would be much
    "RAY_DEDUP_LOGS": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it aborts a driver 3 s after SIGTERM; ours stops cleanly
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


# On a cluster of our own, whose hosts are not taken away under it.
OWN_SETTINGS = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_prestart_worker_first_driver": "0",  # Ray Train asks for processes of its own kind; these would idle
}
# On a cluster that others use, too.
JOINED_SETTINGS = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",  # room was seen just before: else another job took it
}


def prepare(address: str | None) -> None:
    """Set what Ray reads when it is imported. What the user has set stays."""
    for name, value in (SETTINGS | (JOINED_SETTINGS if address else OWN_SETTINGS)).items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def cluster(plan: Plan, address: str | None, *, trials: int = 1, loads: str = TRAIN) -> Iterator[Room]:
    """Be connected to Ray during the block; gives what its hosts have.

    Args:
        plan: what must find room; an own cluster is made as large as it needs, whatever this machine has.
        address: of a running cluster; None starts one on this machine, which ends with the block.
        trials: how often `plan` must find room at once.
        loads: a module that is needed next and takes long to load.

    Raises:
        LaunchError: the cluster cannot be reached or started.
    """
    with _joined(address, loads) if address else _own(plan, trials, loads):
        from lehr.launch import census

        # What `ray up` left on this machine tells of another cluster than one of our own.
        yield census.grown() if address else census.take()


@contextlib.contextmanager
def _own(plan: Plan, trials: int, loads: str) -> Iterator[Any]:
    import ray

    scratch = folder(Path(_short_folder()))
    settings = {
        "num_cpus": trials * plan.workers * plan.spec.strategy.cpus_per_worker + 1,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": str(scratch),
    }
    if plan.spec.strategy.memory_gib_per_worker is not None:  # Ray counts on 7 tenths of it
        settings["_memory"] = psutil.virtual_memory().total
    try:
        _connect(ray, "local", loads, **settings)
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _joined(address: str, loads: str) -> Iterator[Any]:
    _knock(address)
    import ray

    try:
        _connect(ray, address, loads)
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See whether anybody listens at `address`: Ray itself would try for minutes."""
    if address.startswith("ray://"):
        raise UserError(
            letter(
                f"--address {address}",
                "this is a Ray Client address, and the driver must be on a host of the cluster",
                accepted="host:port of the cluster's head (6379 by default), or auto",
                do="give the command on a host of the cluster",
            )
        )
    if address.startswith(("http://", "https://")):  # of RAY_ADDRESS, mostly
        raise UserError(
            letter(
                f"--address {address}",
                "this is the address of a dashboard, which jobs are submitted to",
                accepted="host:port of the cluster's head (6379 by default), or auto",
                do="give it to `lehr submit`; to train on this machine, unset RAY_ADDRESS",
            )
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and such: Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except OSError as error:
        raise LaunchError(_refused(address, error)) from None


def _connect(ray: Any, address: str, loads: str, **settings: Any) -> None:
    # Loading Ray Train or Tune takes as long as starting Ray, and that mostly waits for processes.
    loading = threading.Thread(target=importlib.import_module, args=(loads,), daemon=True)
    loading.start()
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **settings)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise LaunchError(_refused(address, error)) from error
    finally:
        loading.join()


def _refused(address: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if address == "local":
        return letter(
            "ray",
            f"it does not start on this machine ({reason})",
            do="`lehr doctor` tells what is missing; --local trains without Ray",
        )
    return letter(
        f"--address {address}",
        f"no Ray cluster answers there ({reason})",
        accepted="host:port of a cluster's head (6379 by default), or auto",
        do="start one with `ray start --head`, or leave --address out to train on this machine; where tokens "
        "are asked for, RAY_AUTH_MODE=token and the token must be set here, too",
    )


def folder(parent: Path) -> Path:
    """A new folder for Ray's files. Those that killed drivers left are removed: their names tell whose."""
    for left in parent.glob(f"{PREFIX}*-*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))


def _short_folder() -> str:
    """A folder for temporary files whose name leaves room for Ray's sockets."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= LONGEST_FOLDER - len(f"/{PREFIX}1234567-12345678") else "/tmp"
