"""What this machine has and lacks for a run: one finding a subject, each with what to do.

Nothing here imports TensorFlow, Horovod or Ray: they are probed in processes of their own, so that a
broken wheel (a missing symbol, a crash at import, a hang) becomes a finding instead of ending the doctor.
"""

from __future__ import annotations

import json
import netrc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lehr import store
from lehr.data.download import cache_folder

PROBE_TIMEOUT_S = (
    120.0  # TensorFlow takes 6 s to import from a warm disk, over a minute from a cold network one
)
STORAGE_TIMEOUT_S = 30.0
DISK_WANTED_GB = 2.0
CORES_WANTED = 2
WANDB_HOST = "https://api.wandb.ai"

# Run by `python -c PROBE name...`; prints one JSON line a library, so what was learnt before a crash is kept.
PROBE = """
import importlib, json, sys

def tensorflow():
    import tensorflow as tf
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    return {"version": tf.__version__, "gpus": devices.count("GPU"), "cuda": tf.test.is_built_with_cuda()}

def keras():
    import keras
    return {"version": keras.__version__, "backend": keras.backend.backend()}

def horovod():
    import json, pathlib
    import horovod, horovod.tensorflow as hvd
    built = json.loads((pathlib.Path(horovod.__file__).parent / "metadata.json").read_text())
    return {"version": horovod.__version__, "gloo": bool(hvd.gloo_built()), "nccl": bool(hvd.nccl_built()),
            "mpi": bool(hvd.mpi_built()), "tensorflow": built.get("tensorflow", "unknown")}

def ray():
    import ray, ray.train
    return {"version": ray.__version__}

for name in sys.argv[1:]:
    try:
        found = globals()[name]()
    except BaseException as error:
        found = {"error": (type(error).__name__ + ": " + str(error)).splitlines()[0]}
    print("found " + json.dumps({name: found}), flush=True)
"""

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True)
class Finding:
    """What was found about one subject.

    `missing` means that `make run` cannot work; `optional` that something else cannot.
    """

    subject: str
    state: State
    what: str
    do: str = ""


def probe(*names: str, timeout_s: float = PROBE_TIMEOUT_S, script: str = PROBE) -> dict[str, dict[str, Any]]:
    """Import each library in one other process; {name: what it said, or {"error": why it said nothing}}."""
    command = [sys.executable, "-c", script, *names]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=quiet
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
            death = f"the import ended the process (exit code {process.returncode})"
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            death = f"the import took more than {timeout_s:g} s"
    found: dict[str, dict[str, Any]] = {}
    for line in output.splitlines():
        if line.startswith("found "):
            found |= json.loads(line.removeprefix("found "))
    return {name: found.get(name, {"error": death}) for name in names}


def python() -> Finding:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", "ok", f"{version} at {sys.executable}")


def tensorflow(found: Mapping[str, Any], *, gpus_present: int) -> Finding:
    """TensorFlow and the devices that it sees, against the GPUs that the driver sees."""
    if "error" in found:
        return Finding("TensorFlow", "missing", found["error"], "make setup")
    seen = found["gpus"]
    what = f"{found['version']}; " + (f"{seen} GPU" if seen else "CPU only")
    if seen < gpus_present:
        what += f", although the driver has {gpus_present} GPU"
        return Finding("TensorFlow", "optional", what, "make setup DEVICE=gpu")
    return Finding("TensorFlow", "ok", what)


def keras(found: Mapping[str, Any]) -> Finding:
    """Keras, which must be version 3 on TensorFlow."""
    if "error" in found:
        return Finding("Keras", "missing", found["error"], "make setup")
    what = f"{found['version']} on {found['backend']}"
    if found["backend"] != "tensorflow":
        return Finding("Keras", "missing", what, "unset KERAS_BACKEND, or set it to tensorflow")
    if int(found["version"].split(".")[0]) < 3:
        return Finding("Keras", "missing", what, "unset TF_USE_LEGACY_KERAS, then make setup")
    return Finding("Keras", "ok", what)


def horovod(found: Mapping[str, Any], *, tensorflow_version: str | None, gpus: int) -> Finding:
    """Horovod, its build flags, and whether it was built against the TensorFlow that is installed."""
    if "error" in found:
        return Finding(
            "Horovod", "missing", found["error"], "make setup builds it (needs a C++ compiler, cmake, git)"
        )
    flags = ", ".join(f"{name} {'yes' if found[name.lower()] else 'no'}" for name in ("Gloo", "NCCL", "MPI"))
    what = f"{found['version']}; {flags}; built against TensorFlow {found['tensorflow']}"
    if not found["gloo"]:
        return Finding("Horovod", "missing", what, "build it with Gloo: make setup")
    if tensorflow_version not in (None, found["tensorflow"]):
        return Finding("Horovod", "missing", f"{what}, not {tensorflow_version}", "rebuild it: make setup")
    if gpus and not found["nccl"]:
        return Finding(
            "Horovod", "optional", f"{what}; GPUs would exchange through the CPU", "make setup DEVICE=gpu"
        )
    return Finding("Horovod", "ok", what)


def ray(found: Mapping[str, Any]) -> Finding:
    """Ray, and the cluster that the environment names."""
    if "error" in found:
        return Finding("Ray", "missing", found["error"], "make setup")
    address = os.environ.get("RAY_ADDRESS")
    where = f"cluster at {address}" if address else "no cluster named: a run starts its own"
    return Finding("Ray", "ok", f"{found['version']}; {where}")


def wandb_key_place(environment: Mapping[str, str], home: Path) -> str | None:
    """Where a run would find a W&B key (never the key), or None: the places where `tracking.wandb` looks."""
    if environment.get("WANDB_API_KEY"):
        return "environment variable WANDB_API_KEY"
    host = urlsplit(environment.get("WANDB_BASE_URL", WANDB_HOST)).hostname or ""
    file = home / ".netrc"
    try:
        login = netrc.netrc(str(file)).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return f"{file} ({host})" if login and login[2] else None


def wandb(environment: Mapping[str, str], home: Path) -> Finding:
    """W&B and its login; without a key runs are kept offline, which needs nothing."""
    try:
        version = metadata.version("wandb")
    except metadata.PackageNotFoundError:
        return Finding("W&B", "missing", "not installed", "make setup")
    place = wandb_key_place(environment, home)
    if place is None:
        what = f"{version}; no key found: runs are written offline"
        return Finding("W&B", "optional", what, "wandb login, or set WANDB_API_KEY, to send them")
    return Finding("W&B", "ok", f"{version}; key found in {place}")


def probed(url: str) -> None:
    """As `store.probe`, and leave no folder behind that was not there.

    Raises:
        LehrError: the store refused, or gave back something else.
    """
    place = store.connect(url)
    local = place.local_path("key")
    made = [folder for folder in local.parents if not folder.exists()] if local else []
    try:
        store.probe(place)
    finally:
        for folder in made:
            if folder.exists():
                folder.rmdir()


def storage(url: str, *, timeout_s: float = STORAGE_TIMEOUT_S) -> Finding:
    """Whether the storage can be written and read within `timeout_s`."""
    do = "name another with --storage URL, or mend its address, credentials or permissions"
    said: list[tuple[str, str]] = []

    def attempt() -> None:
        try:
            probed(url)
            said.append(("", ""))
        except Exception as error:  # whatever a storage library raises is an answer here
            said.append((first_line(error), advice(error) or do))

    # A daemon thread: a connection that hangs must not keep the doctor from leaving.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_s)
    why, do = said[0] if said else (f"no answer within {timeout_s:g} s", do)
    if why:
        return Finding("Storage", "missing", f"{url}: {why.removeprefix(f'{url}: ')}", do)
    return Finding("Storage", "ok", f"{url} can be written and read")


def data(environment: Mapping[str, str], cache: Path) -> Finding:
    """Where data sets come from; the digits of `make run` come with scikit-learn and need neither."""
    root = environment.get("LEHR_DATA")
    if root is None:
        return Finding("Data", "ok", f"digits bundled; others are downloaded into {cache}")
    try:
        why = "" if store.connect(root).list() else "is empty"
    except Exception as error:  # whatever a storage library raises is an answer here
        why = first_line(error)
    if why:
        return Finding("Data", "optional", f"LEHR_DATA={root}: {why}", "mend it, or unset LEHR_DATA")
    return Finding("Data", "ok", f"digits bundled; others are read from {root}")


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def advice(error: BaseException) -> str:
    """What a letter says to do; "" when the error is none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.removeprefix("do: ") for line in lines if line.startswith("do: ")), "")


def disk(folder: Path, *, wanted_gb: float = DISK_WANTED_GB) -> Finding:
    """Free space where `folder` is or would be made."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    what = f"{free_gb:.1f} GB free at {existing}"
    if free_gb < wanted_gb:
        return Finding(
            "Disk", "missing", what, f"free some: a run of the digits needs about {wanted_gb:g} GB"
        )
    return Finding("Disk", "ok", what)


def cores() -> Finding:
    """Cores that this process may use (a container may allow fewer than the machine has), and memory."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    what = f"{count} cores, {memory_gb:.0f} GB of memory"
    if count < CORES_WANTED:
        return Finding(
            "Cores", "optional", what, "a run of two workers will be slow: use --set strategy.workers=1"
        )
    return Finding("Cores", "ok", what)


def gpus_of_driver() -> int:
    """How many GPUs NVIDIA's driver lists; 0 without a driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def examine(storage_url: str) -> list[Finding]:
    """Every finding, in the order in which things need each other."""
    with ThreadPoolExecutor() as pool:
        libraries = pool.submit(probe, "tensorflow", "keras", "horovod")
        cluster = pool.submit(probe, "ray")
        stored = pool.submit(storage, storage_url)
        driver = pool.submit(gpus_of_driver)
        found, gpus = libraries.result(), driver.result()
        return [
            python(),
            tensorflow(found["tensorflow"], gpus_present=gpus),
            keras(found["keras"]),
            horovod(
                found["horovod"],
                tensorflow_version=found["tensorflow"].get("version"),
                gpus=found["tensorflow"].get("gpus", 0),
            ),
            ray(cluster.result()["ray"]),
            wandb(os.environ, Path.home()),
            stored.result(),
            data(os.environ, cache_folder()),
            disk(Path.cwd()),
            cores(),
        ]
